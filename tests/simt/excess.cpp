// Buffers of the layer's output that are larger than the batch: what their other rows hold afterwards is the spec's to
// say, and no batch size, padding or ragged sequence changes it.
#include "layout/resolve.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/specs.h"
#include "verify/verify.h"

using namespace gdn;

namespace {

struct Case {
  const char* spec;
  const char* operation;
};

constexpr Case kCases[] = {{"fuzz_gdn", "decode"},
                           {"fuzz_split", "decode"},
                           {"fuzz_separate_tiled_kv_fp32_fp32", "decode"},
                           {"fuzz_quant_group", "decode"},
                           {"fuzz_quant_token", "norm_quant"},
                           {"fuzz_quant_straddle", "norm_quant"},
                           {"fuzz_spec_slots", "decode_spec"},
                           {"fuzz_spec_kda", "decode_spec"}};

spec::Spec with(const char* name, core::PaddedOutput excess) {
  spec::Spec spec = test::fuzz(name);
  spec.slots.excess_output.value = excess;
  return spec;
}

}  // namespace

TEST_CASE("rows of an output beyond the batch are zero, or as they were, as the spec says") {
  const auto executor = verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET));
  for (const Case& each : kCases) {
    for (const core::PaddedOutput excess : {core::PaddedOutput::kZero, core::PaddedOutput::kUntouched}) {
      const bool zero = excess == core::PaddedOutput::kZero;
      const spec::Spec spec = with(each.spec, excess);
      const layout::Layout layout = layout::resolve(spec);
      const plan::Planned planned = plan::make(layout, each.operation, executor->target());
      const auto kernel = executor->load(planned);
      // More than one block of a launch over sequences has; one row; none.
      for (const int rows_beyond : {70, 1, 0}) {
        oracle::Options options;
        options.rows = 3;
        options.padding_rows = planned.kernel.facts.padding != core::Padding::kNone ? 1 : 0;
        options.extra_stride = 64;
        options.excess_rows = rows_beyond;
        oracle::Problem problem = oracle::make_problem(spec, each.operation, options);
        const oracle::Expectation expectation = oracle::expect(problem);
        kernel->run(problem, verify::views_of(problem, layout));
        const auto deviations = oracle::compare(expectation, problem);
        INFO(each.spec << " " << each.operation << (zero ? ", zero, " : ", untouched, ") << rows_beyond << " rows\n"
                       << oracle::describe(deviations));
        CHECK(oracle::all_good(deviations));
        // A kernel of the other choice is noticed.
        if (rows_beyond == 0) continue;
        const spec::Spec other = with(each.spec, zero ? core::PaddedOutput::kUntouched : core::PaddedOutput::kZero);
        oracle::Problem again = oracle::make_problem(other, each.operation, options);
        const oracle::Expectation wrong = oracle::expect(again);
        kernel->run(again, verify::views_of(again, layout));
        CHECK_FALSE(oracle::all_good(oracle::compare(wrong, again)));
      }
    }
  }
}
