// A batch of prefill, decode and speculative rows, as continuous batching makes them, in one call.
//
// The batch's tokens lie side by side in the tensors that all runs share: rows of the projections (a and b with q, k, v
// and z of the same tokens), the output and its scales, what is handed over between parts. A run is a range of those
// rows of one kind; what says whose they are is its own: slots, cu_seqlens (from 0, within the run), has_initial_state,
// accepted, snapshots, a workspace. Pools are shared: a sequence stands in one run, and no slot in two.
//
// Everything is compared before anything is launched; then the launches go to one stream, in the batch's order, and
// nothing waits for the device. An `out` that is larger than the batch ends with the last run's.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "dispatch/dispatch.h"
#include "kernel.h"
#include "view.h"

namespace gdn::runtime {

// A tensor under the name of the operands that it is given for.
struct NamedView {
  std::string_view name;
  const View* view = nullptr;
};

struct MixedRun {
  Rows rows;
  std::vector<NamedView> own;  // taken before a shared tensor of the same name, and as it is
};

// The kernel of an operation, or null where there is none: its parts are taken then, if all of them are there.
using KernelOf = std::function<const Kernel*(std::string_view operation)>;

// `slots`: of the shared pools. A workspace is looked for under "<operation>.<operand>" first ("prefill.workspace",
// "decode.arrivals"), for runs of several launches. Throws Error: kBadArgument for a batch without rows, and for an
// operand that no tensor was given for and that can't be left out; kUnsupported where neither an operation nor all of
// its parts have a kernel; kSlotRepeated for a slot that two runs have, where the kernels are on the host; and what
// Kernel::launch throws. Nothing was launched then, except with kDeviceError.
void launch_mixed(const std::vector<MixedRun>& runs, int slots, const std::vector<NamedView>& shared,
                  const KernelOf& kernel_of, Stream stream = nullptr);

}  // namespace gdn::runtime
