// Pools beyond 2^31 elements: every body that follows a slot, with slot indices of 32 and of 64 bits.
#include "support/far_pools.h"

using namespace gdn;

TEST_CASE("slots beyond 2^31 and 2^32 elements are reached, read and written in 64 bits") {
  const auto executor = verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET));
  bool narrow = false, wide = false;
  for (const char* name : {"fuzz_gdn", "fuzz_flat_grouped_kv_fp32_bf16", "fuzz_kda", "fuzz_split", "fuzz_state_fp8",
                           "fuzz_state_fp8_kv", "fuzz_spec_slots", "fuzz_spec_slots_kv", "fuzz_spec_intermediate",
                           "fuzz_spec_replay", "fuzz_spec_replay_kv", "fuzz_spec_kda"}) {
    const spec::Spec spec = test::fuzz(name);
    if (test::check_far(*executor, spec, 64) > 0) (*spec.slots.dtype == core::DType::kInt64 ? wide : narrow) = true;
  }
  CHECK((narrow && wide));
}
