// Specs with states of 8 bits, which have a scale a value channel, and of 16 bits that are rounded by chance.
#pragma once

#include <fmt/format.h>

#include <string>

#include "support/laid_over.h"

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

}  // namespace gdn::test
