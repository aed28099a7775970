// Specs with states of 8 bits, which have a scale a value channel, and of 16 bits that are rounded by chance.
#pragma once

#include <fmt/format.h>

#include <string>

#include "oracle/convert.h"
#include "support/laid_over.h"
#include "support/rows.h"

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
