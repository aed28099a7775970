// A fuzz geometry with an overlay that a test writes.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/specs.h"

namespace gdn::test {

// `text` is what follows an overlay's head: sections and tensors. Throws with the rendered diagnostics when the
// combination is not valid.
inline spec::Spec laid_over(const std::string& fuzz_name, const std::string& text) {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + fuzz_name + ".yaml";
  const std::vector<spec::Source> sources = {{file, read_text(file)},
                                             {"test.yaml", "gdn_gen: 1\noverlay: test\nengine: a test\n" + text}};
  spec::Diagnostics diagnostics;
  std::optional<spec::Spec> spec = spec::check(sources, diagnostics);
  if (!spec) throw std::runtime_error(spec::render(diagnostics, sources));
  return std::move(*spec);
}

}  // namespace gdn::test
