// Dimension lists as the spec writes them, shorthands expanded.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "spec/diagnostics.h"
#include "spec/document.h"
#include "spec/spec.h"

namespace gdn::spec {

// The value of a tensor's `dims`: a list, or a shorthand for one. `path` ("inputs.qkvz") names the tensor in messages,
// `name` is its last part, `rule` says whether a has key channels, `key_place` where an empty value is reported. Every
// entry of an expanded shorthand has the shorthand's place. Reports and returns nothing where the list can't be
// understood.
std::optional<std::vector<Dim>> read_dims(const Node& node, std::string_view path, std::string_view name,
                                          core::Rule rule, Place key_place, Diagnostics& diagnostics);

}  // namespace gdn::spec
