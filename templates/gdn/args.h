// What every kernel takes: one flat block of pointers and strides, the same for all operations and targets.
//
// Which operand stands at which index is the kernel's plan (core::KernelPlan::operands); the emitted facts name the
// same indices (`kOperand`). The block is plain data so that CUDA, HIP, the host shim and the CPU kernels share it.
#pragma once

namespace gdn {

constexpr int kMaxOperands = 32;

// What the caller of a launch on a programmatic edge vouches for (Args::promises). Without a promise a kernel reads
// nothing but parameters before the launch ahead of it is through.
[[maybe_unused]] constexpr unsigned kPoolsAreReady =
    1;  // slot indices, offsets, accepted counts and recurrent states are written by no launch that may still run

// Rows of an output beyond the batch's that a block of a launch over sequences zeroes.
[[maybe_unused]] constexpr int kExcessRows = 32;

struct Args {
  void* operand[kMaxOperands];     // base addresses; null for an operand that the caller leaves out
  long long stride[kMaxOperands];  // elements between two tokens, sequences or slots of an operand; of snapshot_rows
                                   // the number of snapshots
  int rows;                        // tokens in this launch, at least 1
  int sequences;                   // sequences in this launch: the offsets operand has one number more; where an
                                   // operation has no such operand every token is a sequence, and this equals rows
  int slots;                       // slots in the pools: a slot index is in [0, slots) or padding
  unsigned promises;               // of the caller: a sum of the constants above
  int out_rows;  // that the output's buffers have, where those without a token are to be zeroed; else 0
};

}  // namespace gdn
