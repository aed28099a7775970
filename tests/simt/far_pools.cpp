// Pools beyond 2^31 elements: every body that follows a slot, with slot indices of 32 and of 64 bits.
#include "support/far_pools.h"

#include "layout/resolve.h"
#include "oracle/compare.h"
#include "oracle/reference.h"
#include "plan/operation.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;

TEST_CASE("slots beyond 2^31 and 2^32 elements are reached, read and written in 64 bits") {
  const auto executor = verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET));
  bool narrow = false, wide = false;
  for (const char* name : {"fuzz_gdn", "fuzz_flat_grouped_kv_fp32_bf16", "fuzz_kda", "fuzz_split", "fuzz_state_fp8",
                           "fuzz_state_fp8_kv", "fuzz_spec_slots", "fuzz_spec_slots_kv", "fuzz_spec_intermediate",
                           "fuzz_spec_replay", "fuzz_spec_replay_kv", "fuzz_spec_kda"}) {
    const spec::Spec spec = test::fuzz(name);
    const layout::Layout layout = layout::resolve(spec);
    for (const std::string_view operation : plan::operations_on(layout, executor->target())) {
      const plan::Planned planned = plan::make(layout, operation, executor->target());
      if (planned.kernel.facts.slots_operand < 0) continue;
      (planned.kernel.facts.slot_dtype == core::DType::kInt64 ? wide : narrow) = true;
      oracle::Options options;
      options.rows = 6;
      options.slots = 6 * (planned.kernel.facts.tokens + 1) + 4;
      options.extra_stride = 64;
      oracle::Problem problem = oracle::make_problem(spec, operation, options);
      const oracle::Expectation expectation = oracle::expect(problem);
      const auto kernel = executor->load(planned);
      INFO(name << " " << operation);
      CHECK(test::run_far(*kernel, planned.kernel, problem, layout) > 0);
      CHECK(test::farthest(problem) > std::int64_t{1} << 32);
      const auto deviations = oracle::compare(expectation, problem);
      INFO(oracle::describe(deviations));
      CHECK(oracle::all_good(deviations));
    }
  }
  CHECK((narrow && wide));
}
