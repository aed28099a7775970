// Where the numbers of a kernel lie: what every body does with the maps of its facts type.
//
// A facts type F has one member type per part (InputQ, WindowV, State, ...; Absent when the operation has no such
// part). A map M says: element (inner, outer, tap) of head h lies at
//
//   M::base(h) + inner * M::kInnerStride + outer * M::kOuterStride + tap * M::kTapStride
//
// elements behind the part's row; base takes a key head for the parts of q and k, a value head for those of v, z, b,
// a, g, beta, o and the state, and anything for headless parts. M::kAlign, a power of two in elements, divides every
// base and every row stride. Offsets inside a row are int; rows and slots are reached with 64-bit strides.
#pragma once

#include "gdn/numeric.h"

namespace gdn {

// ---- heads ----------------------------------------------------------------------------------------------------------

// The value head that is number g of the group of a key head.
template <class F>
GDN_DEVICE int value_head(int key_head, int g) {
  return F::kPairing == Pairing::kGrouped ? key_head * F::kGroup + g : g * F::kKeyHeads + key_head;
}

// And back: the key head of a value head, and its number in that group.
template <class F>
GDN_DEVICE int key_head_of(int value_head) {
  return F::kPairing == Pairing::kGrouped ? value_head / F::kGroup : value_head % F::kKeyHeads;
}
template <class F>
GDN_DEVICE int member_of(int value_head) {
  return F::kPairing == Pairing::kGrouped ? value_head % F::kGroup : value_head / F::kKeyHeads;
}

// ---- pointers -------------------------------------------------------------------------------------------------------

template <class M>
using MapElements = Elements<typename M::Element>;

// The start of a part that has neither token nor slot (weights, gate parameters).
template <class M>
GDN_DEVICE MapElements<M> part(const Args& args) {
  static_assert(M::kOperand >= 0 && M::kOperand < kMaxOperands, "an operand of the argument block");
  return to_global<Bits<typename M::Element>>(args.operand[M::kOperand]);
}

// The start of a part in a token's row or in a slot.
template <class M>
GDN_DEVICE MapElements<M> part(const Args& args, long long row) {
  return part<M>(args) + row * args.stride[M::kOperand];
}

// ---- slots ----------------------------------------------------------------------------------------------------------

template <class F>
GDN_DEVICE long long slot_of(const Args& args, int row) {
  static_assert(F::kSlotsOperand >= 0 && F::kSlotsOperand < kMaxOperands, "an operand of the argument block");
  return to_global<typename F::Slot>(args.operand[F::kSlotsOperand])[row];
}

// Whether a slot index marks a row that only fills up the batch.
template <class F>
GDN_DEVICE bool is_padding(long long slot) {
  if constexpr (F::kPadding == Padding::kNegative) {
    return slot < 0;
  } else if constexpr (F::kPadding == Padding::kZeroOrNegative) {
    return slot <= 0;
  } else {
    return false;
  }
}

// What becomes of a row. A row that is not computed reads and writes no pool; its output rows are filled with `filler`
// or left as they are.
struct RowFate {
  bool computed;
  bool filled;
  float filler;
};

// A number of an operand of indices; `at` counts numbers.
template <class E>
GDN_DEVICE long long index_at(const Args& args, int operand, long long at) {
  return to_global<E>(args.operand[operand])[at];
}

// Padding gives zeros or nothing, by the spec. A slot that is neither padding nor in the pools is the caller's mistake:
// a kernel can't report it, but it can keep out of memory that is not its own and say so in its output, with NaN.
template <class F>
GDN_DEVICE RowFate row_fate(const Args& args, long long slot) {
  if (is_padding<F>(slot)) return {false, F::kPaddedOutput == PaddedOutput::kZero, 0.0f};
  if (slot < 0 || slot >= args.slots) return {false, true, float_of(0x7fc00000u)};
  return {true, false, 0.0f};
}

// Rows of the output that no token of the launch has are zeroed by blocks of their own, or left as they are.
template <class F>
GDN_HD constexpr bool zeroes_excess() {
  return F::kExcessOutput == PaddedOutput::kZero;
}

// How many rows a launch over tokens has blocks for.
template <class F>
GDN_DEVICE int rows_of_grid(const Args& args) {
  if constexpr (zeroes_excess<F>()) return args.rows > args.out_rows ? args.rows : args.out_rows;
  return args.rows;
}

// Whether a block's row is not the launch's.
template <class F>
GDN_DEVICE bool is_excess(const Args& args, int row) {
  if constexpr (zeroes_excess<F>()) return row >= args.rows;
  return false;
}

// ---- runs of elements -----------------------------------------------------------------------------------------------

constexpr int kAccessBytes = 16;  // the widest memory access of one thread

// How many neighbouring elements one access may take when addresses are multiples of `align` elements and `run`
// elements are neighbours: a power of two that divides the run.
template <class E>
GDN_HD constexpr int access_width(int align, int run) {
  return smaller(smaller(power_of_two_in(align), power_of_two_in(run)), kAccessBytes / static_cast<int>(sizeof(E)));
}

// The same for a part's run along its inner dimension (outer and tap constant); 1 when neighbours are not adjacent.
template <class M>
GDN_HD constexpr int inner_width() {
  if (M::kInnerStride != 1) return 1;
  return access_width<typename M::Element>(
      smaller(M::kAlign, smaller(power_of_two_in(M::kOuterStride), power_of_two_in(M::kTapStride))), M::kRun);
}

// kCount neighbouring elements, at an address that is a multiple of kAlign elements, in accesses as wide as that
// allows.
template <class E, int kCount, int kAlign>
GDN_DEVICE void load_run(Elements<E> from, float (&x)[kCount]) {
  constexpr int kWidth = access_width<E>(kAlign, kCount);
  GDN_UNROLL
  for (int i = 0; i < kCount; i += kWidth) {
    const Pack<E, kWidth> pack = load_pack<E, kWidth>(from + i);
    GDN_UNROLL
    for (int j = 0; j < kWidth; ++j) x[i + j] = pack.get(j);
  }
}

template <class E, int kCount, int kAlign>
GDN_DEVICE void store_run(Elements<E> to, const float (&x)[kCount]) {
  constexpr int kWidth = access_width<E>(kAlign, kCount);
  GDN_UNROLL
  for (int i = 0; i < kCount; i += kWidth) {
    float piece[kWidth];
    GDN_UNROLL
    for (int j = 0; j < kWidth; ++j) piece[j] = x[i + j];
    Pack<E, kWidth> pack;
    pack.set(piece);
    store_pack<E, kWidth>(to + i, pack);
  }
}

// ---- whole parts ----------------------------------------------------------------------------------------------------

// One head of a per-token output set to one value by all threads of the block.
template <class F, class M>
GDN_DEVICE void fill_head(MapElements<M> row, int head, float value) {
  constexpr int kWidth = inner_width<M>();
  const MapElements<M> to = row + M::base(head);
  for (int i = thread_id() * kWidth; i < M::kRun; i += F::kThreads * kWidth) {
    float x[kWidth];
    GDN_UNROLL
    for (int j = 0; j < kWidth; ++j) x[j] = value;
    store_run<typename M::Element, kWidth, kWidth>(to + i * M::kInnerStride, x);
  }
}

// One head of a part copied from one operand to another by all threads of the block; a change of dtype rounds.
template <class F, class From, class To>
GDN_DEVICE void copy_head(MapElements<From> from_row, MapElements<To> to_row, int head) {
  static_assert(From::kRun == To::kRun, "the same part on both sides");
  constexpr int kWidth = smaller(inner_width<From>(), inner_width<To>());
  const MapElements<From> from = from_row + From::base(head);
  const MapElements<To> to = to_row + To::base(head);
  for (int i = thread_id() * kWidth; i < From::kRun; i += F::kThreads * kWidth) {
    float x[kWidth];
    load_run<typename From::Element, kWidth, kWidth>(from + i * From::kInnerStride, x);
    store_run<typename To::Element, kWidth, kWidth>(to + i * To::kInnerStride, x);
  }
}

// One head of a part brought to shared memory as fp32 by all threads of the block.
template <class F, class M>
GDN_DEVICE void fetch_head(MapElements<M> row, int head, float* to) {
  constexpr int kWidth = inner_width<M>();
  const MapElements<M> from = row + M::base(head);
  for (int i = thread_id() * kWidth; i < M::kRun; i += F::kThreads * kWidth) {
    float x[kWidth];
    load_run<typename M::Element, kWidth, kWidth>(from + i * M::kInnerStride, x);
    GDN_UNROLL
    for (int j = 0; j < kWidth; ++j) to[i + j] = x[j];
  }
}

// And back: one head of a part from fp32 in shared memory.
template <class F, class M>
GDN_DEVICE void push_head(MapElements<M> row, int head, const float* from) {
  constexpr int kWidth = inner_width<M>();
  const MapElements<M> to = row + M::base(head);
  for (int i = thread_id() * kWidth; i < M::kRun; i += F::kThreads * kWidth) {
    float x[kWidth];
    GDN_UNROLL
    for (int j = 0; j < kWidth; ++j) x[j] = from[i + j];
    store_run<typename M::Element, kWidth, kWidth>(to + i * M::kInnerStride, x);
  }
}

// ---- work -----------------------------------------------------------------------------------------------------------

// Deals the items of one part after the other out to the threads of a block as if all parts were one list: no thread
// gets a second item before every thread had its first, and no index has to be divided.
template <int kThreads>
struct Deal {
  int first = thread_id();  // this thread's first item of the part at hand; the next ones follow kThreads apart

  GDN_DEVICE void next_part(int items_of_this_part) {
    first -= items_of_this_part % kThreads;
    if (first < 0) first += kThreads;
  }
};

// body(item) for `first` and what follows kStep apart, below `end`, which is at most kMost. Where that is one turn
// there is no loop: at its back edge a compiler takes all for under way that its body waits for, and so a thread waited
// in front of it for a state that it did not need yet (tests/bench/NOTES.md).
template <int kMost, int kStep, class Body>
GDN_DEVICE void for_items(int first, int end, Body body) {
  if constexpr (kMost <= kStep) {
    if (first < end) body(first);
  } else {
    for (int item = first; item < end; item += kStep) body(item);
  }
}

}  // namespace gdn
