// The specs that tests walk over: the released models and the fuzz geometries.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "spec/diagnostics.h"
#include "spec/parser.h"

namespace gdn::test {

inline std::vector<std::string> yaml_files(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(GDN_SOURCE_DIR) + "/" + folder)) {
    if (entry.path().extension() == ".yaml") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

inline std::vector<std::string> released_specs() { return yaml_files("specs"); }
inline std::vector<std::string> fuzz_specs() { return yaml_files("tests/fuzz"); }
inline std::vector<std::string> all_specs() {
  std::vector<std::string> files = released_specs();
  for (std::string& file : fuzz_specs()) files.push_back(std::move(file));
  return files;
}

// A spec from text; throws with the rendered diagnostics when it is not valid.
inline spec::Spec parse_spec(const std::string& file, const std::string& text) {
  spec::Diagnostics diagnostics;
  std::optional<spec::Spec> spec = spec::check(file, text, diagnostics);
  if (!spec) throw std::runtime_error(spec::render(diagnostics, file, text));
  return std::move(*spec);
}

inline std::string read_text(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot read " + file);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

inline spec::Spec load_spec(const std::string& file) { return parse_spec(file, read_text(file)); }

// Whether an overlay of that name is for a model, as the overlay says itself. Overlays that are laid over another
// overlay fit no model alone.
inline bool overlay_fits(const std::string& model, const std::string& overlay) {
  if (overlay.find("mtp") == 0 || overlay == "replay3" || overlay.find("fp8_") == 0) return false;
  if (overlay == "vllm_lora" || overlay == "vllm_quantised") return false;
  const std::string file = std::string(GDN_SOURCE_DIR) + "/specs/engines/" + overlay + ".yaml";
  const std::vector<spec::Source> sources = {{model, read_text(model)}, {file, read_text(file)}};
  spec::Diagnostics diagnostics;
  (void)spec::check(sources, diagnostics);
  return spec::render(diagnostics, sources).find("[overlay.for]") == std::string::npos;
}

// A released spec by name: "qwen3_next_80b".
inline spec::Spec released(const std::string& name) {
  return load_spec(std::string(GDN_SOURCE_DIR) + "/specs/" + name + ".yaml");
}
inline spec::Spec fuzz(const std::string& name) {
  return load_spec(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml");
}

// A released spec with one piece of its text replaced; the file keeps its name, so the spec's name stays too.
inline spec::Spec variant(const std::string& file, const std::string& from, const std::string& to) {
  std::string text = read_text(file);
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error(file + " does not contain " + from);
  text.replace(at, from.size(), to);
  return parse_spec(file, text);
}

}  // namespace gdn::test
