// What is compared before every launch: the caller's views against the kernel's plan.
#pragma once

#include <string>

#include "core/plan.h"
#include "gdn/args.h"
#include "view.h"

namespace gdn::runtime {

// Throws Error for the first thing that would make a launch of `plan` over these views wrong: number of operands, null,
// dtype, stated layout, sizes, strides, alignment, overlap of a written operand with another one, and the numbers of
// rows and slots. Of 0 rows, a warm-up call, which launches nothing: views may be missing, and those that are there are
// asked for their dtype and stated layout alone. A launch has as many sequences as the view of its offsets has numbers,
// less one. `views` stand in the order of plan.operands. `slots` is the number of slots in the pools; it is not looked
// at when no operand is indexed by slot. Dereferences nothing: device pointers are fine. Allocates nothing when
// everything agrees.
void check(const core::KernelPlan& plan, int rows, int slots, const Views& views);

// The block that a kernel takes. Call after check(): it trusts the views. The stride of an operand without a leading
// dimension is 0, and that of an operand with one row or slot is its number of inner elements.
Args make_args(const core::KernelPlan& plan, int rows, int slots, const Views& views);

// Throws Error kWrongDevice when a view states another device than the one that the kernel runs on. A view that states
// none passes.
void check_devices(const core::KernelPlan& plan, const Views& views, DeviceKind device, int ordinal);

// "the CPU", "CUDA device 1", "HIP device 0".
std::string device_text(DeviceKind device, int ordinal);

// Throws Error kSlotOutOfRange for a slot index that is neither in [0, slots) nor padding by the plan's rule, and
// kSlotRepeated for two rows on one slot. `values` are `rows` indices of the plan's slot dtype in memory that the host
// can read, as many as slot_rows() says; null is fine when the plan takes no slots, or can do without them.
void check_slots(const core::KernelPlan& plan, int rows, int slots, const void* values);

// How many slot indices a launch reads: one a row, or one a sequence.
int slot_rows(const core::KernelPlan& plan, const Args& args);

}  // namespace gdn::runtime
