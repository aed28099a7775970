#include "plan/choices.h"

#include <algorithm>
#include <numeric>

namespace gdn::plan {
namespace {

// Whether the state's memory has the key channel innermost: (V, K). The body deals such a state out by rows; any other
// one by columns or element by element.
bool key_channel_innermost(const core::Map& state) { return state.inner_stride == 1; }

// Threads and rows in flight for an operation that streams the state.
Choices state_choices(const Target& target, const core::Map& state) {
  const bool half = core::size_of(state.dtype) == 2;
  if (target.family == Family::kCuda) {
    // Measured on an H200 from 64 to 512 threads and 2 to 16 rows (tests/bench/NOTES.md): fp32 rows want the most
    // threads, 16-bit rows, which take twice the arithmetic a byte, fewer threads with more rows each.
    if (key_channel_innermost(state)) return {{"threads", half ? 128 : 512}, {"rows_per_pass", half ? 8 : 4}};
    return {{"threads", half ? 128 : 256}, {"rows_per_pass", 4}};
  }
  // 256 threads with 4 rows of 16 bytes in flight each cover the memory's latency with two blocks on a compute unit.
  return {{"threads", 256}, {"rows_per_pass", 4}};
}

// A thread per value head, or for kda per four key channels of one: their gates are all there is to compute.
std::int64_t gating_threads(const Target& target, const core::Facts& facts) {
  const int decays = facts.rule == core::Rule::kKda ? facts.group * facts.key_dim : 1;
  int threads = target.wave;
  while (threads < 128 && threads * 4 < decays) threads *= 2;
  return threads;
}

// The plain bodies of prefill: a few lanes share a value channel's state, each so many key channels of it as registers
// hold; the rest of a block goes to neighbouring value channels.
Choices prefill_choices(const core::Facts& facts) {
  constexpr std::int64_t kThreads = 128;
  const std::int64_t lanes = facts.key_dim >= 160 && facts.key_dim % 32 == 0 ? 8 : 4;
  return {{"threads", kThreads}, {"columns", kThreads / lanes}};
}

constexpr int kNormThreads = 256;

// A block of norm_quant takes a head a wave, but never a part of a group: whole units of as many heads as a whole
// number of groups fills, and a number of them that divides the row.
int norm_heads(const Target& target, const core::Facts& facts) {
  const int unit = facts.quant_group > 0 ? std::lcm(facts.quant_group, facts.value_dim) / facts.value_dim : 1;
  int heads = unit;
  for (int more = unit; more <= std::min(kNormThreads / target.wave, facts.value_heads); more += unit) {
    if (facts.value_heads % more == 0) heads = more;
  }
  return heads;
}

}  // namespace

std::int64_t shared_bytes_of_groups(const Target& target, const core::Facts& facts) {
  const int piece = std::gcd(facts.quant_group, facts.value_dim);
  const std::int64_t channels = std::int64_t{norm_heads(target, facts)} * facts.value_dim;
  return 4 * (channels / piece + channels / facts.quant_group);
}

Choices model_choices(const Target& target, std::string_view operation, const core::Facts& facts) {
  if (target.family == Family::kCpu) return {};
  if (operation == "chunk_delta") return prefill_choices(facts);
  // Several tokens a state: q and k come from shared memory for each, and the state stays in registers as fp32.
  if (operation == "decode_spec" || operation == "state_commit") return {{"threads", 256}, {"rows_per_pass", 4}};
  if (facts.state.present()) return state_choices(target, facts.state);
  if (operation == "norm_quant") {
    const int heads = norm_heads(target, facts);
    return {{"threads", std::min(kNormThreads, heads * target.wave)}, {"heads_per_block", heads}};
  }
  // The other operations move a few kilobytes a block: more threads than channels only idle.
  const int channels = 2 * facts.key_dim + facts.group * facts.value_dim;
  const std::int64_t threads = operation == "gating" ? gating_threads(target, facts) : channels <= 128 ? 128 : 256;
  return {{"threads", std::min<std::int64_t>(threads, target.max_threads)}, {"rows_per_pass", 4}};
}

int max_state_threads(const core::Facts& facts) { return key_channel_innermost(facts.state) ? 512 : 256; }

}  // namespace gdn::plan
