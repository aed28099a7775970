// Rows of the output behind the last sequence's, where the spec has a launch zero them (zeroes_excess in map.h).
#pragma once

#include "gdn/quantise.h"

namespace gdn {

// By the blocks behind those of the sequences, kExcessRows rows each: `number` among them, with value heads first_head
// to end_head - 1 of a key head's group.
template <class F>
GDN_DEVICE void zero_excess_rows(const Args& args, int number, int key_head, int first_head, int end_head) {
  long long end = args.rows;
  if constexpr (F::kOffsetsOperand >= 0) {
    end = index_at<typename F::Offset>(args, F::kOffsetsOperand, args.sequences);
  }
  const int last = smaller(args.out_rows, (number + 1) * kExcessRows);
  int row = number * kExcessRows;
  if (row < end) row = end < last ? static_cast<int>(end) : last;
  for (; row < last; ++row) {
    for (int g = first_head; g < end_head; ++g) fill_output<F>(args, row, value_head<F>(key_head, g), 0.0f);
  }
}

}  // namespace gdn
