// What two kernels must share to be the same kernel: the operation, where everything lies, and every number.
#pragma once

#include "core/plan.h"

namespace gdn::plan {

// Of a plan that is complete but for its identity.
core::Identity kernel_identity(const core::KernelPlan& plan);

}  // namespace gdn::plan
