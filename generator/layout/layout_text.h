// A layout as text: `gdn-gen dump --stage layout`.
#pragma once

#include <string>

#include "layout/layout.h"

namespace gdn::layout {

// One block a tensor: canonical text, identity, then every part's offset and strides.
std::string to_text(const Layout& layout);

}  // namespace gdn::layout
