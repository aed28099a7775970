// What every kernel takes: one flat block of pointers and strides, the same for all operations and targets.
//
// Which operand stands at which index is the kernel's plan (core::KernelPlan::operands); the emitted facts name the
// same indices (`kOperand`). The block is plain data so that CUDA, HIP, the host shim and the CPU kernels share it.
#pragma once

namespace gdn {

constexpr int kMaxOperands = 24;

struct Args {
  void* operand[kMaxOperands];     // base addresses; null for an operand that the caller leaves out
  long long stride[kMaxOperands];  // elements between two rows (token) or two slots (pool) of an operand
  int rows;                        // tokens in this launch, at least 1
  int slots;                       // slots in the pools: a slot index is in [0, slots) or padding
};

}  // namespace gdn
