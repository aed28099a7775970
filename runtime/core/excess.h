// Rows of an output's buffer that no token of a launch has, on the CPU.
#pragma once

#include "core/plan.h"
#include "gdn/args.h"

namespace gdn::core {

// Zeroes the rows of every output behind the last token's, up to args.out_rows: what blocks of their own do on a GPU.
// All operands are memory that the host can read and write.
void zero_excess(const KernelPlan& plan, const Args& args);

}  // namespace gdn::core
