// Emitted .cpp files, compiled: their facts give the plan's own kernel back, and it runs.
#include "cpu/facts_of.h"
#include "emitted_table.h"
#include "harness.h"
#include "support/catch.h"

using namespace gdn;

namespace {

spec::Spec load(std::string_view name) {
  const std::string folder = name.rfind("fuzz_", 0) == 0 ? "/tests/fuzz/" : "/specs/";
  return spec::load_or_throw(GDN_SOURCE_DIR + folder + std::string(name) + ".yaml");
}

}  // namespace

TEST_CASE("an emitted file makes the same machine code as its plan") {
  REQUIRE(test::emitted().size() == 174);
  for (const test::Emitted& file : test::emitted()) {
    cpu::Kernel kernel;
    file.entry(kernel);
    const cpu::Kernel planned = cpu::generate(test::plan_of(load(file.spec), file.operation));
    INFO(file.spec << " " << file.operation);
    CHECK(kernel.listing() == planned.listing());
    CHECK((kernel.code() == planned.code()));  // the listing says where they differ
  }
}

TEST_CASE("an emitted file's kernel agrees with the oracle") {
  if (!test::runs_here()) return;
  for (const test::Emitted& file : test::emitted()) {
    const spec::Spec spec = load(file.spec);
    const core::KernelPlan plan = test::plan_of(spec, file.operation);
    cpu::Kernel kernel;
    file.entry(kernel);
    oracle::Options options;
    options.rows = 2;
    oracle::Problem problem = oracle::make_problem(spec, file.operation, options);
    const auto deviations = test::judge(kernel, plan, problem);
    INFO(file.spec << " " << file.operation << "\n" << oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));
  }
}

namespace {

// Addresses that jump: no stride between heads describes them.
struct Crooked {
  static constexpr int kKeyHeads = 3, kValueHeads = 3, kGroup = 1;
  static constexpr gdn::Pairing kPairing = gdn::Pairing::kGrouped;
  struct Part {
    using Element = gdn::Bf16;
    static constexpr bool kPresent = true;
    static constexpr int kOperand = 0;
    static constexpr int base(int head) { return head == 2 ? 999 : head * 16; }
    static constexpr int kRun = 16, kInnerStride = 1, kOuterStride = 0, kTapStride = 0, kAlign = 1;
  };
};

}  // namespace

TEST_CASE("facts whose addresses are no map are refused") {
  CHECK_THROWS_WITH((cpu::map_of<Crooked, Crooked::Part>(core::HeadKind::kKey)),
                    "the facts' base(2) is not linear in key head and group");
}
