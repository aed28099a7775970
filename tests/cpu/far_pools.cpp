// Pools beyond 2^31 elements: every kernel of the CPU that follows a slot, with slot indices of 32 and of 64 bits.
#include "support/far_pools.h"

#include <cstdio>

#include "cpu/support.h"

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
    kernels += test::check_far(*executor, test::fuzz(name), 16);
  }
  CHECK(kernels > 10);
}
