// Pools beyond 2^31 elements: every kernel of the CPU that follows a slot, with slot indices of 32 and of 64 bits.
#include "support/far_pools.h"

#include <cstdio>

#include "cpu/support.h"
#include "layout/resolve.h"
#include "oracle/compare.h"
#include "oracle/reference.h"
#include "plan/operation.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;

TEST_CASE("slots beyond 2^31 and 2^32 elements are reached, read and written in 64 bits") {
  constexpr const char* kTarget = "avx512bf16";
  if (!cpu::cpu_supports(kTarget)) {
    std::puts("[SKIP] this CPU has no AVX512-BF16");
    return;
  }
  const auto executor = verify::open_executor("cpu", plan::find_target(kTarget));
  int kernels = 0;
  for (const char* name : {"fuzz_gdn", "fuzz_flat_grouped_kv_fp16_bf16", "fuzz_kda", "fuzz_split", "fuzz_spec_slots",
                           "fuzz_spec_intermediate", "fuzz_spec_replay", "fuzz_spec_replay_kv"}) {
    const spec::Spec spec = test::fuzz(name);
    const layout::Layout layout = layout::resolve(spec);
    for (const std::string_view operation : plan::operations_on(layout, executor->target())) {
      const plan::Planned planned = plan::make(layout, operation, executor->target());
      if (planned.kernel.facts.slots_operand < 0) continue;
      oracle::Options options;
      options.rows = 6;
      options.slots = 6 * (planned.kernel.facts.tokens + 1) + 4;
      options.extra_stride = 16;
      oracle::Problem problem = oracle::make_problem(spec, operation, options);
      const oracle::Expectation expectation = oracle::expect(problem);
      const auto kernel = executor->load(planned);
      INFO(name << " " << operation);
      CHECK(test::run_far(*kernel, planned.kernel, problem, layout) > 0);
      CHECK(test::farthest(problem) > std::int64_t{1} << 32);
      const auto deviations = oracle::compare(expectation, problem);
      INFO(oracle::describe(deviations));
      CHECK(oracle::all_good(deviations));
      ++kernels;
    }
  }
  CHECK(kernels > 10);
}
