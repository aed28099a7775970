// Specs with states of 8 bits, which have a scale a value channel, and of 16 bits that are rounded by chance.
#pragma once

#include <fmt/format.h>

#include <string>

#include "oracle/convert.h"
#include "support/laid_over.h"
#include "support/rows.h"
#include "support/specs.h"

namespace gdn::test {

inline std::string state_pool(const char* dtype, const char* order, bool scaled) {
  std::string text = fmt::format("pools:\n  state: {{dtype: {}, dims: [slot@launch, {}]}}\n", dtype, order);
  if (scaled) return text + "  state_scale: {dtype: fp32, dims: [slot@launch, value_head, value_dim]}\n";
  return text + "rounding: {state: stochastic}\n";
}

// Several tokens of a sequence with such states. What is stored is rounded; fp32 states wait to be committed.
inline spec::Spec with_drafts(const std::string& scheme, const char* dtype, const std::string& order) {
  std::string text = state_pool(dtype, order.c_str(), dtype[0] == 'e');
  if (scheme == "intermediate") {
    const std::string states =
        fmt::format("  intermediate_state: {{dtype: fp32, dims: [sequence@launch, step, {}]}}\n", order);
    text.insert(text.find('\n', text.find("  state:")) + 1, states);
  }
  return laid_over("fuzz_spec_" + scheme, text);
}

// Replay of up to so many tokens over bf16 states in (V, K) order, with value heads of five products' rows.
inline spec::Spec replay_of_bf16(int tokens, const char* rounding) {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_spec_replay.yaml";
  std::string text = read_text(file);
  const auto replace = [&](const std::string& from, const std::string& to) {
    text.replace(text.find(from), from.size(), to);
  };
  replace("key: 32, value: 48", "key: 64, value: 80");
  replace("tokens: 8", fmt::format("tokens: {}", tokens));
  replace("window: 11", fmt::format("window: {}", tokens + 3));
  replace("rounding: {", fmt::format("rounding: {{state: {}, ", rounding));
  replace("  state: {dtype: fp32", "  state: {dtype: bf16");
  return parse_spec(file, text);
}

// One token of each sequence by `decode`, from what `drafts` starts with.
inline oracle::Problem decode_of(const spec::Spec& spec, const oracle::Problem& drafts,
                                 const oracle::Options& options) {
  oracle::Problem plain = oracle::make_problem(spec, "decode", options);
  for (oracle::Buffer& buffer : plain.buffers()) {
    if (buffer.kind == oracle::Kind::kOutput) continue;
    for (std::int64_t row = 0; row < buffer.rows; ++row) {
      if (buffer.kind == oracle::Kind::kSlots) {
        const auto sequence = static_cast<std::size_t>(row);
        if (sequence < drafts.sequences().size()) {
          oracle::store(buffer.dtype, buffer.row(row), static_cast<double>(drafts.sequences()[sequence].slots[0]));
        }
        continue;
      }
      const oracle::Buffer& from = drafts.buffer(buffer.name);
      if (row < from.rows) copy_row(from, row, buffer, row);
    }
  }
  return plain;
}

}  // namespace gdn::test
