// The specs that roll-back is tested with: every scheme with a state in both orders, all of it fp32, so that
// speculative and plain decoding must agree to the bit.
#pragma once

#include <string>
#include <vector>

#include "support/specs.h"

namespace gdn::test {

inline spec::Spec with_fp32_states(const std::string& name) {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml";
  std::string text = read_text(file);
  for (const std::string narrow : {"state: {dtype: bf16, dims: [s", "state: {dtype: fp16, dims: [s"}) {
    for (std::size_t at = 0; (at = text.find(narrow)) != std::string::npos;) {
      if (text.compare(at - 5, 5, "conv_") == 0) break;
      text.replace(at + 15, 4, "fp32");
    }
  }
  // How a state is rounded is said of 16 bits alone.
  const std::string rounding = "state: nearest, ";
  if (const std::size_t at = text.find(rounding); at != std::string::npos) text.erase(at, rounding.size());
  return parse_spec(file, text);
}

inline std::vector<spec::Spec> rollback_specs() {
  std::vector<spec::Spec> specs;
  for (const char* name :
       {"fuzz_spec_slots", "fuzz_spec_slots_kv", "fuzz_spec_intermediate", "fuzz_spec_intermediate_kv",
        "fuzz_spec_replay", "fuzz_spec_replay_kv", "fuzz_spec_kda", "fuzz_spec_kda_kv"}) {
    specs.push_back(with_fp32_states(name));
  }
  return specs;
}

// Released models with an engine's overlays and three drafts, their states made fp32.
inline std::vector<spec::Spec> drafting_models() {
  const std::vector<std::vector<std::string>> combinations = {
      {"qwen3_5_27b", "engines/vllm_sd", "engines/mtp3"},
      {"qwen3_next_80b", "engines/vllm_ds", "engines/replay3"},
      {"olmo_hybrid_7b", "engines/transformers", "engines/replay3"}};
  std::vector<spec::Spec> specs;
  for (const std::vector<std::string>& files : combinations) {
    std::vector<spec::Source> sources;
    for (const std::string& file : files) {
      const std::string path = std::string(GDN_SOURCE_DIR) + "/specs/" + file + ".yaml";
      sources.push_back({path, read_text(path)});
    }
    spec::Diagnostics diagnostics;
    std::optional<spec::Spec> spec = spec::check(sources, diagnostics);
    if (!spec) throw std::runtime_error(spec::render(diagnostics, sources));
    for (spec::Tensor& pool : spec->pools) {
      if (*pool.name == "state") pool.dtype.value = core::DType::kFp32;
    }
    specs.push_back(std::move(*spec));
  }
  return specs;
}

}  // namespace gdn::test
