// Keys whose value is a list of scalars: whole numbers, or words of the key.
#pragma once

#include <optional>
#include <string_view>

#include "spec/diagnostics.h"
#include "spec/document.h"
#include "spec/keys.h"

namespace gdn::spec {

// The word that stands for a value which nobody has read in the model's own files. It counts as unverified.
constexpr std::string_view kUnreadWord = "unread";

// The node as a value of a key of type kIntegers or kWords. Reports every entry that is not one and returns nothing
// then; arguments as read_value's.
std::optional<Value> read_list(const Key& key, const Node& node, std::string_view path, Place key_place,
                               Diagnostics& diagnostics);

}  // namespace gdn::spec
