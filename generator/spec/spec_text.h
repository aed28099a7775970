// A spec as normalised text: every key in one order, every shorthand as its dimension list. `gdn-gen dump --stage
// spec`.
#pragma once

#include <string>

#include "spec/spec.h"

namespace gdn::spec {

std::string to_text(const Spec& spec);

// "[token@launch, key_head, {q: [key_dim], v: [group, value_dim]}]"
std::string dims_text(const std::vector<Dim>& dims);

}  // namespace gdn::spec
