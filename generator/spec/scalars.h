// Scalars of a spec as values of their keys' types. YAML's own conversions are not used: they read 010 as 8, 0x80 as
// 128, yes as true and "128" as a number.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spec/diagnostics.h"
#include "spec/document.h"
#include "spec/keys.h"

namespace gdn::spec {

// The node as a value of the key's type. `path` names the key in messages, `key_place` is where an empty value is
// reported. Reports and returns nothing when it is not one.
std::optional<Value> read_value(const Key& key, const Node& node, std::string_view path, Place key_place,
                                Diagnostics& diagnostics);

// Reports a node that is not a scalar, or is empty, where a scalar of `type` is wanted; true when it is a scalar.
bool expect_scalar(const Node& node, std::string_view path, std::string_view wanted, Place key_place,
                   Diagnostics& diagnostics);

// A finite decimal number: optional minus, digits without leading zero, optional fraction, optional exponent.
std::optional<double> decimal(std::string_view text);

// What the key's type takes, for a message: "a whole number", "grouped or tiled", "one of silu, sigmoid or none".
std::string wanted_text(const Key& key);

// "a, b or c".
std::string listed(const std::vector<std::string_view>& words, std::string_view last = "or");

// The candidate with the smallest edit distance to `word`, transposed letters counting once; empty when none is near.
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace gdn::spec
