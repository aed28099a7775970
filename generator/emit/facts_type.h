// Facts -> the C++ type that a kernel body is instantiated with.
#pragma once

#include <string>

#include "plan/plan.h"

namespace gdn::emit {

// "struct Decode { ... };", one such type a variant, and the static_asserts that hold the generator's addresses against
// the type's own.
std::string facts_type(const plan::Planned& planned);

// The type's name: the operation in PascalCase ("conv_update" -> "ConvUpdate").
std::string type_name(const std::string& operation);

// The name of the type of a variant, which is the operation's with other choices: "DecodeTo4".
std::string variant_type(const core::KernelPlan& plan, const core::Variant& variant);

}  // namespace gdn::emit
