#include "plan/choices.h"

#include <algorithm>

namespace gdn::plan {

Choices model_choices(const Target& target, std::string_view operation, const core::Facts& facts) {
  if (target.family == Family::kCpu) return {};
  // A block streams the states of one key head's value heads. 256 threads with 4 rows of 16 bytes in flight each cover
  // the memory's latency with two blocks on a multiprocessor; the other operations move a few kilobytes a block, where
  // more threads than channels only idle.
  const bool state = operation == "decode" || operation == "delta_update";
  std::int64_t threads = 256;
  if (!state) {
    const int channels = 2 * facts.key_dim + facts.group * facts.value_dim;
    threads = operation == "gating" ? target.wave : channels <= 128 ? 128 : 256;
  }
  threads = std::min<std::int64_t>(threads, target.max_threads);
  Choices choices = {{"threads", threads}};
  choices.emplace_back("rows_per_pass", 4);
  return choices;
}

}  // namespace gdn::plan
