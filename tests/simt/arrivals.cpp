// Decode's blocks that are no cluster and meet in memory, as emitted: the same bits as one block for a key head, in any
// order of blocks; launch after launch with the same memory, which nobody clears; and what a launch without it does.
#include "core/arrivals.h"

#include <cstring>
#include <limits>

#include "check.h"
#include "compile/compiler.h"
#include "compile/headers.h"
#include "core/prefill.h"
#include "emit/source.h"
#include "kernel.h"
#include "layout/resolve.h"
#include "plan/choices.h"
#include "support/catch.h"
#include "support/specs.h"
#include "support/thrown.h"
#include "verify/verify.h"

using namespace gdn;

namespace {

const plan::Target& target() { return *plan::find_target(GDN_TEST_TARGET); }

// A row of the tuning table for decode.
std::string row(const std::string& rows, const std::string& choices) {
  return std::string(target().name) + " decode * " + rows + " " + choices + "\n";
}
plan::TuningTable table(const std::string& rows) { return plan::TuningTable::parse("gdn-gen tuning 3\n" + rows); }

// Launches of up to 4 rows in such blocks, all others with one for a key head.
plan::TuningTable for_few_rows(const std::string& choices) {
  return table(row("4", choices) + row("*", "threads=128 rows_per_pass=4 head_parts=1 row_parts=1"));
}

class Decode {
 public:
  Decode(const spec::Spec& spec, const plan::TuningTable& tuning)
      : layout_(layout::resolve(spec)), planned_(plan::make(layout_, "decode", target(), tuning)) {
    emit::EmittedFile file = emit::source(planned_);
    runtime::Source source{file.path, std::move(file.text), runtime::template_headers()};
    for (const runtime::Header& header : runtime::host_headers()) source.headers.push_back(header);
    binary_ = runtime::make_host_compiler()->compile(source, std::string(target().name));
  }
  const core::KernelPlan& plan() const { return planned_.kernel; }
  std::vector<runtime::View> views(oracle::Problem& problem) const { return verify::views_of(problem, layout_); }
  void run(oracle::Problem& problem, const std::vector<runtime::View>& views, unsigned order) const {
    runtime::load_host(plan(), binary_, order)->launch(problem.rows(), problem.slots(), views);
  }

 private:
  layout::Layout layout_;
  plan::Planned planned_;
  runtime::Binary binary_;
};

void check_equal(const oracle::Problem& a, const oracle::Problem& b) {
  for (std::size_t i = 0; i < a.buffers().size(); ++i) {
    INFO(a.buffers()[i].name);
    REQUIRE(a.buffers()[i].size_bytes() == b.buffers()[i].size_bytes());
    CHECK(std::memcmp(a.buffers()[i].data(), b.buffers()[i].data(), a.buffers()[i].size_bytes()) == 0);
  }
}

// Of any number of rows' form too: then the memory can't be left out, and all launches are judged by the oracle.
constexpr const char* kSplits[] = {"threads=64 rows_per_pass=2 head_parts=3 row_parts=1 arrivals=1",
                                   "threads=64 rows_per_pass=2 head_parts=1 row_parts=4 arrivals=1",
                                   "threads=128 rows_per_pass=4 head_parts=3 row_parts=2 heads_first=0 arrivals=1",
                                   "threads=64 rows_per_pass=4 head_parts=2 row_parts=12 arrivals=1"};

}  // namespace

TEST_CASE("decodes whose blocks meet in memory agree with the oracle") {
  const auto executor = verify::open_executor("simt", &target());
  int held = 0;
  for (const char* name :
       {"fuzz_gdn", "fuzz_kda", "fuzz_orders", "fuzz_quant_group", "fuzz_separate_tiled_kv_fp32_fp32"}) {
    const spec::Spec spec = test::fuzz(name);
    const layout::Layout layout = layout::resolve(spec);
    for (const char* choices : kSplits) {
      verify::Options options;
      options.rows = 4;
      options.tuning = table(row("*", choices));
      const plan::Choices made =
          options.tuning.find(target().name, "decode", layout.spec, core::Edge::kPlain).front().choices;
      if (!plan::choices_fault(target(), "decode", layout.numbers, made).empty()) continue;  // a smaller group
      ++held;
      const core::KernelPlan plan = plan::make(layout, "decode", target(), options.tuning).kernel;
      CHECK(plan.launch.cluster == 1);
      REQUIRE(core::arrivals_operand(plan) >= 0);
      CHECK_FALSE(plan.operands.back().optional);
      const verify::Result result = verify::verify(*executor, spec, layout, "decode", options);
      INFO(name << ": " << choices << "\n" << oracle::describe(result.deviations));
      CHECK(!result.deviations.empty());
      CHECK(result.good);
    }
  }
  CHECK(held >= 15);
}

TEST_CASE("launch after launch in one memory has the bits of launches without it, and leaves its counters at zero") {
  const spec::Spec spec = test::fuzz("fuzz_gdn");
  for (const char* choices : kSplits) {
    INFO(choices);
    const Decode decode(spec, for_few_rows(choices));
    const core::KernelPlan& plan = decode.plan();
    REQUIRE(core::arrivals_operand(plan) >= 0);
    CHECK(plan.operands.back().name == "arrivals");
    CHECK(plan.operands.back().optional);
    const std::int64_t of_row = core::arrivals_row_bytes(plan.facts);
    CHECK(core::workspace_bytes(plan, 3, 3) == 3 * of_row);
    CHECK(core::workspace_bytes(plan, 5, 5) == 0);
    CHECK(core::most_workspace_bytes(plan, 500, 500) == 4 * of_row);

    // Made for the most that any launch takes, NaN but for the counters of each record.
    const std::int64_t bytes = core::most_workspace_bytes(plan, 100, 100);
    std::vector<float> memory(static_cast<std::size_t>(bytes / 4 + 64), std::numeric_limits<float>::quiet_NaN());
    const std::size_t rest = reinterpret_cast<std::uintptr_t>(memory.data()) % 128 / 4;
    float* const records = memory.data() + (32 - rest) % 32;
    const int counters = plan.facts.key_heads * (1 + plan.facts.group);
    for (int record = 0; record < 4; ++record) {
      std::memset(records + record * of_row / 4, 0, static_cast<std::size_t>(counters) * 4);
    }
    runtime::View arrivals;
    arrivals.data = records;
    arrivals.dtype = core::DType::kUint8;
    arrivals.sizes = {bytes};
    arrivals.strides = {1};
    arrivals.layout = plan.operands.back().layout;

    unsigned order = 0;
    for (const int rows : {4, 2, 6, 3, 1}) {  // 6 rows are too many for the split form
      oracle::Options options;
      options.rows = rows;
      options.seed = static_cast<std::uint64_t>(rows);
      options.padding_rows = rows > 2 ? 1 : 0;
      oracle::Problem split = oracle::make_problem(spec, "decode", options);
      oracle::Problem whole = split;
      for (int step = 0; step < 2; ++step, ++order) {
        std::vector<runtime::View> views = decode.views(split);
        views.push_back(arrivals);
        decode.run(split, views, order);
        decode.run(whole, decode.views(whole), 0);
      }
      check_equal(split, whole);
      for (int record = 0; record < 4; ++record) {
        for (int i = 0; i < counters; ++i) {
          std::uint32_t counter = 1;
          std::memcpy(&counter, records + record * of_row / 4 + i, 4);
          REQUIRE(counter == 0);
        }
      }
    }
  }
}

TEST_CASE("the memory is large enough and of this kind, or left out") {
  const spec::Spec spec = test::fuzz("fuzz_gdn");
  const Decode decode(spec, for_few_rows(kSplits[2]));
  oracle::Options options;
  options.rows = 4;
  oracle::Problem problem = oracle::make_problem(spec, "decode", options);
  std::vector<runtime::View> views = decode.views(problem);
  const auto thrown = [&] {
    return test::thrown_by([&] { runtime::check(decode.plan(), problem.rows(), problem.slots(), views); });
  };
  runtime::check(decode.plan(), problem.rows(), problem.slots(), views);
  const std::vector<std::byte> memory = verify::add_workspace(decode.plan(), problem.rows(), views);
  runtime::check(decode.plan(), problem.rows(), problem.slots(), views);
  views.back().sizes[0] -= 1;
  CHECK(thrown().has("ask workspace_bytes, or leave it out"));
  views.back().sizes[0] += 1;
  // What another operation calls its workspace is not zero.
  views.back().layout = core::make_identity("uint8 [byte] workspace");
  CHECK(thrown().has("arrivals, zero before the first launch"));
}
