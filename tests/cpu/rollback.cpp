// Drafts that are rejected leave no trace: speculative decoding on this CPU against plain decoding.
#include "cpu/support.h"
#include "support/rollback_cases.h"
#include "verify/verify.h"

std::unique_ptr<gdn::verify::Executor> gdn::test::rollback_executor() {
  if (!cpu::cpu_supports("avx512bf16")) {
    std::puts("[SKIP] this CPU has no AVX512-BF16");
    return nullptr;
  }
  return verify::open_executor("cpu");
}

TEST_CASE("released models with three drafts agree with plain decoding to the bit") {
  const auto executor = test::rollback_executor();
  if (executor == nullptr) return;
  for (const spec::Spec& spec : test::drafting_models()) {
    INFO(*spec.name);
    // Plain decoding leaves out the rows that have no token by their slot: a spec must know such slots.
    if (*spec.slots.padding != core::Padding::kNone) {
      test::Rollback rollback(*executor, spec, 5, 3);
      rollback.random_launches(4);
      CHECK(rollback.compared_states() > 3);
      CHECK(rollback.compared_outputs() > 3);
      CHECK(rollback.differing_outputs() == 0);
    }
    const layout::Layout layout = layout::resolve(spec);
    for (const char* operation : {"decode_spec", "state_commit"}) {
      const verify::Result result = verify::verify(*executor, spec, layout, operation, {});
      INFO(operation << "\n" << oracle::describe(result.deviations));
      for (const oracle::Deviation& deviation : result.deviations) {
        // One in some 10^5 results of the conv stands so near the middle between two bf16 numbers that fp32 and fp64
        // round it apart: 2^-8 of one channel.
        constexpr double kOneRoundedApart = 5e-4;
        CHECK(deviation.error <= std::max(deviation.tolerance, kOneRoundedApart));
        CHECK(deviation.findings.empty());
      }
    }
  }
}
