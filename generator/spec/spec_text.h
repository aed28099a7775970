// Spec to text: `dump --stage spec`.
#pragma once

#include <string>
#include <vector>

#include "spec/spec.h"

namespace gdn::spec {

// The whole spec in a fixed order, without comments, every shorthand written as its list. check() of the result gives
// the same spec.
std::string to_text(const Spec& spec);

// "[token@launch, key_head, {q: [key_dim], v: [group, value_dim]}]"
std::string dims_text(const std::vector<Dim>& dims);

}  // namespace gdn::spec
