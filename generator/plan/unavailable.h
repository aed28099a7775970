// Why a target has no kernel for an operation of a spec.
#pragma once

#include <string>
#include <string_view>

#include "layout/layout.h"
#include "plan/target.h"

namespace gdn::plan {

// Names the key of the spec and what to do instead; empty: there is a kernel. An unknown operation has a reason too.
std::string unavailable(const layout::Layout& layout, std::string_view operation, const Target& target);

}  // namespace gdn::plan
