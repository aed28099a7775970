// What a person types for a spec: a file, a model's name, another name of it, each with overlays.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "spec/spec.h"

namespace gdn::tool {

// Files to read for a name: the spec first, then its overlays; and the layers of a model that is another name.
struct Found {
  std::vector<std::string> files;
  std::optional<spec::Layers> layers;  // without places; nothing: as the spec says
};

// What "qwen3_5_27b+vllm_ds" stands for.
//
// The model is a path, or a name: specs/<name>.yaml, specs/more/<name>.yaml, or an alias of specs/names.txt, all below
// the current folder. An overlay is a path or a name: engines/<name>.yaml beside the spec, one folder above it, or
// specs/engines. Throws Failure: kCannotJudge for a name that is not there, kFinding for a model that names.txt
// refuses, with its reason.
Found find_spec(const std::string& name);

// The rows of specs/names.txt.
struct Names {
  struct Alias {
    std::string name, spec;  // spec: a model's name, with overlays or without
    std::optional<spec::Layers> layers;
  };
  struct Refused {
    std::string name, reason;
  };
  std::vector<Alias> aliases;
  std::vector<Refused> refused;
};

// "# comment", "alias NAME SPEC", "alias NAME SPEC layers of COUNT: LAYER...", counted from 0, and "refuse NAME
// REASON..." lines. A missing file has no rows; throws
// Failure(kFinding) naming the line for anything else.
Names read_names(const std::string& file);

}  // namespace gdn::tool
