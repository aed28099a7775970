// How the blocks of one key head share its work, where rows times key heads would leave multiprocessors idle:
// kHeadParts parts of the group's value heads, and each of those in kRowParts parts of the heads' value channels. Parts
// of one key head are neighbours in the grid and, where there are several, one cluster. Key heads follow each other in
// the grid for one row after the other (kHeadsFirst), or rows for one key head after the other: blocks that run at the
// same time then read neighbouring states, or the same place of many states.
#pragma once

#include "gdn/map.h"

namespace gdn {

template <class F>
GDN_HD constexpr int parts_of_key_head() {
  return F::kHeadParts * F::kRowParts;
}

// The most value heads that a part has; the last one may have fewer, but has one.
template <class F>
GDN_HD constexpr int heads_of_part() {
  static_assert((F::kHeadParts - 1) * ceil_div(F::kGroup, F::kHeadParts) < F::kGroup, "a part without a value head");
  return ceil_div(F::kGroup, F::kHeadParts);
}

// The value channels of each of its heads that a part has.
template <class F>
GDN_HD constexpr int values_of_part() {
  static_assert(F::kValueDim % F::kRowParts == 0, "parts of equally many value channels");
  return F::kValueDim / F::kRowParts;
}

// Which part of which key head of which row a block has.
template <class F>
struct Share {
  int row;
  int key_head;
  int number;  // of the part, 0 to parts_of_key_head<F>() - 1; the block's number in its cluster

  GDN_DEVICE int first_head() const { return number / F::kRowParts * heads_of_part<F>(); }  // in the group
  GDN_DEVICE int end_head() const { return smaller(F::kGroup, first_head() + heads_of_part<F>()); }
  GDN_DEVICE int first_value() const { return number % F::kRowParts * values_of_part<F>(); }
  GDN_DEVICE static Share of(int block, int rows) {
    constexpr int kParts = parts_of_key_head<F>();
    if constexpr (F::kHeadsFirst != 0)
      return {block / (F::kKeyHeads * kParts), block / kParts % F::kKeyHeads, block % kParts};
    return {block / kParts % rows, block / kParts / rows, block % kParts};
  }

  // The part that has the first value channels of the same heads.
  GDN_DEVICE int gatherer() const { return number / F::kRowParts * F::kRowParts; }
};

}  // namespace gdn
