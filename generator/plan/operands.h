// The operands of a kernel in the order of its arguments, and the maps and numbers of its facts that name them.
#pragma once

#include <string_view>

#include "layout/layout.h"
#include "plan/plan.h"

namespace gdn::plan {

// To a plan that has its operation, its target and the layout's numbers. The last ones are the workspace, where the
// operation has one.
void add_operands(const layout::Layout& layout, const Target& target, Planned& planned);

// Memory of a launch, for kernels that hand something to each other.
core::Operand workspace(bool optional);

}  // namespace gdn::plan
