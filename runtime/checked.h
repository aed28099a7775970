// Checked mode: what a launch can only know by reading its operands.
//
// GDN_CHECK=1 turns it on for kernels loaded from then on; it costs a wait for the stream and a copy of every state
// that the launch touches. Not for streams that are being recorded into a graph.
#pragma once

#include <cstddef>

#include "core/plan.h"
#include "gdn/args.h"

namespace gdn::runtime {

// Reads the memory that a kernel's operands lie in, as it is after everything that was enqueued before.
class OperandReader {
 public:
  virtual ~OperandReader() = default;
  virtual void read(void* to, const void* from, std::size_t bytes) const = 0;
};

// Of memory that the host can read.
class HostReader final : public OperandReader {
 public:
  void read(void* to, const void* from, std::size_t bytes) const override;
};

// Whether GDN_CHECK is 1. Unset, empty and 0 are no; throws Error kBadArgument for anything else.
bool checked_mode();

enum class Moment { kBefore, kAfter };

// Throws Error kSlotOutOfRange or kSlotRepeated (before), and kNanInState for a NaN in a slot of a pool that a row of
// the launch names. The text names operation, operand, row, slot and element.
void check_contents(const core::KernelPlan& plan, const Args& args, const OperandReader& reader, Moment moment);

}  // namespace gdn::runtime
