// Where the blocks of a key head meet that are no cluster: a record of memory for each row of a launch.
//
//   counters   of each key head 1 + F::kGroup numbers of 32 bits: the first counts its parts as they have read the
//              windows of q and k; number 1 + g those that have put their o of the heads from number g of the group on
//   o          of each value head, key head by key head: F::kValueDim numbers in fp32, rounded to rounding.o
//
// The memory is an operand of the launch. Its counters are zero before the first launch, and are so again after each
// (count_up in memory.h), so that a graph can be replayed and nobody has to clear them. Records have one size whatever
// the number of rows and of parts, so that all launches of a kernel find the same counters at the same place. Two
// launches that may run at the same time need a memory each. Nobody waits: whoever comes last does what is left to do.
#pragma once

#include "gdn/split.h"

namespace gdn {

// Whether the parts of a key head meet in memory.
template <class F>
GDN_HD constexpr bool meets_in_memory() {
  return parts_of_key_head<F>() > 1 && F::kArrivalsOperand >= 0;
}

constexpr int kArrivalsAlign = 128;  // bytes; runtime/core/arrivals.cpp has the same

// Counters of a row, with what makes whole lines of them.
template <class F>
GDN_HD constexpr int counters_of_row() {
  constexpr int kInLine = kArrivalsAlign / 4;
  return ceil_div(F::kKeyHeads * (1 + F::kGroup), kInLine) * kInLine;
}

// Numbers of 32 bits of a row's record.
template <class F>
GDN_HD constexpr int words_of_arrivals() {
  constexpr int kInLine = kArrivalsAlign / 4;
  return counters_of_row<F>() + ceil_div(F::kValueHeads * F::kValueDim, kInLine) * kInLine;
}

// The part of the record that a block of decode uses.
template <class F>
struct Arrivals {
  Global<unsigned> windows;  // counts the parts of the key head
  Global<unsigned> outputs;  // counts the parts of this part's value heads
  Elements<float> o;         // of this part's first value head, and those of the others behind it

  GDN_DEVICE Arrivals(const Args& args, const Share<F>& share) {
    static_assert(F::kArrivalsOperand < kMaxOperands, "an operand of the argument block");
    static_assert(F::kArrivalsRowBytes == 4 * words_of_arrivals<F>(),
                  "the records of the generator and of the template disagree");
    const long long record = static_cast<long long>(share.row) * words_of_arrivals<F>();
    windows = to_global<unsigned>(args.operand[F::kArrivalsOperand]) + (record + share.key_head * (1 + F::kGroup));
    outputs = windows + 1 + share.first_head();
    o = to_global<float>(args.operand[F::kArrivalsOperand]) +
        (record + counters_of_row<F>() + (share.key_head * F::kGroup + share.first_head()) * F::kValueDim);
  }
};

}  // namespace gdn
