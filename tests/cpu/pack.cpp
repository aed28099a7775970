// conv_pack: which weights it takes, and that kernels tell a packed weight from one as a checkpoint has it.
#include <cstring>

#include "error.h"
#include "harness.h"
#include "kernel.h"
#include "support/catch.h"
#include "support/thrown.h"
#include "verify/executor.h"

using namespace gdn;

namespace {

spec::Spec fuzz(const std::string& name) {
  return spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml");
}

// A problem with the views of its operands, and the kernel for it.
struct Launch {
  Launch(const spec::Spec& spec, const std::string& operation)
      : layout(layout::resolve(spec)),
        kernel(runtime::load_cpu(test::plan_of(spec, operation))),
        problem(oracle::make_problem(spec, operation, options())),
        views(verify::views_of(problem, layout)) {}

  static oracle::Options options() {
    oracle::Options options;
    options.rows = 2;
    return options;
  }
  runtime::View& view(std::string_view name) {
    for (std::size_t i = 0; i < views.size(); ++i) {
      if (problem.buffers()[i].name == name) return views[i];
    }
    throw std::out_of_range(std::string(name));
  }
  void run() { kernel->launch(problem.rows(), problem.slots(), views); }

  layout::Layout layout;
  std::unique_ptr<runtime::Kernel> kernel;
  oracle::Problem problem;
  std::vector<runtime::View> views;
};

}  // namespace

TEST_CASE("conv_pack takes a weight of two or of three dimensions, and no other") {
  if (!test::runs_here()) return;
  Launch pack(fuzz("fuzz_conv_packed"), "conv_pack");
  const std::int64_t channels = 2 * 2 * 32 + 6 * 48;
  const auto with_sizes = [&](const std::vector<std::int64_t>& sizes) {
    runtime::View& weight = pack.view("conv_weight");
    weight.sizes = sizes;
    weight.strides.assign(sizes.size(), 1);
    for (std::size_t i = sizes.size(); i-- > 1;) weight.strides[i - 1] = weight.strides[i] * sizes[i];
    const oracle::Expectation expectation = oracle::expect(pack.problem);
    pack.run();
    CHECK(oracle::all_good(oracle::compare(expectation, pack.problem)));
  };
  with_sizes({channels, 4});
  with_sizes({channels, 1, 4});
  for (const std::vector<std::int64_t>& sizes : {std::vector<std::int64_t>{channels * 4},
                                                 {1, channels, 4},
                                                 {channels, 4, 1},
                                                 {4, channels},
                                                 {channels, 1, 1, 4},
                                                 {channels, 2, 2},
                                                 {channels},
                                                 {}}) {
    const test::Thrown thrown = test::thrown_by([&] { with_sizes(sizes); });
    INFO(sizes.size() << " dimensions");
    REQUIRE(thrown.code);
    CHECK(*thrown.code == runtime::Code::kSizeMismatch);
    CHECK(thrown.has("operand conv_weight"));
    CHECK(thrown.has("(channels, 4) or (channels, 1, 4)"));
  }
}

TEST_CASE("a packed weight and one as it comes are each other's no kernel's") {
  if (!test::runs_here()) return;
  for (const char* operation : {"decode", "conv_update", "conv_prefill", "prefill"}) {
    // Both hold as many numbers; only what their owners say tells them apart.
    Launch plain(fuzz("fuzz_gdn"), operation), packed(fuzz("fuzz_conv_packed"), operation);
    const runtime::View of_plain = plain.view("conv_weight"), of_packed = packed.view("conv_weight_packed");
    packed.run();
    plain.view("conv_weight") = of_packed;
    packed.view("conv_weight_packed") = of_plain;
    for (Launch* const launch : {&plain, &packed}) {
      const test::Thrown thrown = test::thrown_by([&] { launch->run(); });
      INFO(operation);
      REQUIRE(thrown.code);
      CHECK((*thrown.code == runtime::Code::kLayoutMismatch || *thrown.code == runtime::Code::kDtypeMismatch));
      CHECK(thrown.has("operand conv_weight"));
    }
  }
}

TEST_CASE("what conv_pack leaves gives the numbers of the weight that it took") {
  if (!test::runs_here()) return;
  Launch pack(fuzz("fuzz_conv_packed"), "conv_pack");
  pack.run();
  Launch plain(fuzz("fuzz_gdn"), "decode"), packed(fuzz("fuzz_conv_packed"), "decode");
  const oracle::Buffer& made = pack.problem.buffer("conv_weight_packed");
  oracle::Buffer& used = packed.problem.buffer("conv_weight_packed");
  REQUIRE(made.size_bytes() == used.size_bytes());
  std::memcpy(used.data(), made.data(), made.size_bytes());
  for (const char* name : {"qkvz", "ba"}) {
    const oracle::Buffer& from = plain.problem.buffer(name);
    std::memcpy(packed.problem.buffer(name).data(), from.data(), from.size_bytes());
  }
  plain.run();
  packed.run();
  for (const char* name : {"out", "state", "conv_state"}) {
    const oracle::Buffer &a = plain.problem.buffer(name), &b = packed.problem.buffer(name);
    CHECK(std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
  }
}
