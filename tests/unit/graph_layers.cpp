// How many layers' launches a graph has that is timed.
#include "support/catch.h"
#include "verify/bench_parts.h"

namespace gdn {
namespace {

constexpr std::size_t kMiB = 1 << 20, kGiB = 1 << 30;

TEST_CASE("a timed graph has a model's layers where the memory has room for them") {
  CHECK(verify::graph_layers(64 * 2 * kMiB, 139 * kGiB) == 36);
  CHECK(verify::graph_layers(256 * 2 * kMiB, 139 * kGiB) == 36);
  CHECK(verify::graph_layers(256 * 2 * kMiB, 16 * kGiB) == 8);
  CHECK(verify::graph_layers(256 * 2 * kMiB, 8 * kGiB) == 4);
}

TEST_CASE("a timed graph visits no state while it is in a cache, whatever the memory") {
  for (const std::size_t memory : {kGiB, 8 * kGiB, 139 * kGiB}) {
    for (const std::size_t state : {kMiB / 2, kMiB, 2 * kMiB, 128 * kMiB, 300 * kMiB, 2 * kGiB}) {
      INFO(memory << " " << state);
      CHECK(static_cast<std::size_t>(verify::graph_layers(state, memory)) * state >= 400'000'000);
    }
  }
  CHECK(verify::graph_layers(kMiB, 139 * kGiB) == 382);
}

}  // namespace
}  // namespace gdn
