// What a launch of speculative decoding says about its sequences, read from its operands and checked.
#pragma once

#include <cstdint>
#include <vector>

#include "checked.h"
#include "core/plan.h"
#include "gdn/args.h"

namespace gdn::runtime {

struct DraftedSequence {
  int first = 0, tokens = 0;                // rows; none in state_commit
  int accepted = 0;                         // tokens, the guaranteed one included
  bool padding = false;                     // then the rest of this says nothing
  std::vector<std::int64_t> read, written;  // slots of the state; read first
  std::int64_t window = 0;                  // slot of the conv windows
};

// Throws Error: kBadArgument for offsets that do not ascend from 0 to at most args.rows, more tokens of a sequence than
// the kernel takes, more accepted tokens than that, or than its last launch left records of; kSlotOutOfRange and
// kSlotRepeated for slots. The records are those of the last launch only before this one. For plans of operations that
// draft (facts.rollback is not kNone).
std::vector<DraftedSequence> read_sequences(const core::KernelPlan& plan, const Args& args, const OperandReader& reader,
                                            Moment moment);

// The snapshots of a launch of prefill. Throws Error: kBadArgument for rows that do not ascend or are not the launch's,
// kSlotOutOfRange and kSlotRepeated for slots, which no other snapshot and no sequence of the launch may have. Nothing
// for a plan, or a launch, without snapshots.
void check_snapshots(const core::KernelPlan& plan, const Args& args, const OperandReader& reader);

// The indices of a launch, whatever its operation: what read_sequences, check_snapshots and check_slots throw. Nothing
// for an operation without slots.
void check_indices(const core::KernelPlan& plan, const Args& args, const OperandReader& reader);

// Whether a slot index marks padding.
bool is_padding(core::Padding padding, std::int64_t slot);

}  // namespace gdn::runtime
