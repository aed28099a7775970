// Drafts that are rejected leave no trace on the GPU: speculative decoding against plain decoding, to the bit where the
// state is fp32, and against the oracle at true sizes with the engines' overlays.
#include "support/rollback.h"

#include "skip.h"
#include "support/rollback_specs.h"
#include "verify/verify.h"

using namespace gdn;

TEST_CASE("any accepted count and draft length, mixed in one batch, is plain decoding to the bit on the GPU") {
  if (test::no_cuda()) return;
  const auto executor = verify::open_executor("cuda");
  for (const spec::Spec& spec : test::rollback_specs()) {
    INFO(*spec.name);
    for (const std::uint64_t seed : {1u, 2u, 3u}) {
      test::Rollback rollback(*executor, spec, seed, 9);
      rollback.random_launches(8);
      CHECK(rollback.differing_outputs() == 0);
    }
  }
}

TEST_CASE("released models with drafts at their true sizes on the GPU") {
  if (test::no_cuda()) return;
  const auto executor = verify::open_executor("cuda");
  for (const spec::Spec& spec : test::drafting_models()) {
    INFO(*spec.name);
    test::Rollback rollback(*executor, spec, 5, 3);
    rollback.random_launches(4);
    CHECK(rollback.differing_outputs() == 0);
    const layout::Layout layout = layout::resolve(spec);
    for (const char* operation : {"decode_spec", "state_commit"}) {
      verify::Options options;
      options.rows = 8;
      const verify::Result result = verify::verify(*executor, spec, layout, operation, options);
      INFO(operation << "\n" << oracle::describe(result.deviations));
      CHECK(result.good);
    }
  }
}
