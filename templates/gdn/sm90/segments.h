// One sequence cut into segments that are worked through side by side, for few heads and long sequences.
//
//   carry    segments 0 to n - 2, without outputs: what a segment makes of its first state. The delta rule is affine in
//            the state: for segment 0 that is the state at its end; for the others N, from a state of zeros, and P, row
//            i of which is what becomes of the row e_i (v = 0).
//   combine  S^T at the end of segment j = N_j + (S^T at its start) P_j, in fp32
//   chain    all segments, from their first states
//
// Between the kernels lies, per (sequence, value head, segment), an End: fp32 S^T [V][K], then P [K][K]. The last
// segment's holds the sequence's first state: the slot it came from is written by the last segment, maybe before the
// block of the first one has begun.
#pragma once

#include "gdn/sm90/chain.h"

namespace gdn::sm90 {

template <class F>
struct End {
  static constexpr int kFloats = end_floats(F::kKeyDim, F::kValueDim);
  static constexpr int kTransition = F::kValueDim * F::kKeyDim;
  static_assert(F::kValueDim % 64 == 0 && F::kKeyDim % 64 == 0, "whole slices of V and of K");
  // Rows of either part.
  struct Rows {
    using Element = float;
    static constexpr int kRun = F::kKeyDim, kAlign = F::kKeyDim;
    static constexpr int kOuterStride = F::kKeyDim, kInnerStride = 1, kTapStride = 0;
  };
};

// How a launch cuts its sequences: each into `segments` of whole chunks, of equally many chunk numbers but for the last
// ones, which may be empty.
struct Cut {
  int segments;
  Global<float> ends;  // [sequence][value head][segment] End

  template <class F>
  GDN_DEVICE Global<float> end(int sequence, int head, int segment) const {
    return ends + ((static_cast<long long>(sequence) * F::kValueHeads + head) * segments + segment) * End<F>::kFloats;
  }
  // The segment's part of the sequence.
  template <class F>
  GDN_DEVICE Place of(const Args& args, Place place, int segment) const {
    const int chunks = ceil_div(chunk_numbers_of<F>(args, place), segments);
    const long long first = place.chunk + static_cast<long long>(chunks) * segment;
    const Spot begin = spot_of<F>(args, place, first), end = spot_of<F>(args, place, first + chunks);
    place.token = begin.token, place.chunk = begin.chunk;
    place.tokens = end.token - begin.token;
    return place;
  }
};

// A block carries two slices of segment `segment`: of V, or, with `transition`, of P.
template <class F>
GDN_DEVICE void carry(const Args& args, const SlotUse& use, const Place& whole, const Cut& cut, int segment,
                      bool transition, Global<const char> workspace, char* shared) {
  using Rows = typename End<F>::Rows;
  const Place place = cut.of<F>(args, whole, segment);
  const StatePlace<Rows> to = {cut.end<F>(whole.sequence, whole.head, segment) +
                               (transition ? End<F>::kTransition : 0)};
  run_chain<F, 2, false>(
      args, place, !transition, workspace, shared,
      [&](ChainSlice<F, 2, false>& slice) {
        if (transition) {
          slice.set_identity();
        } else if (segment == 0 && use.read) {
          slice.read(state_in_slot<F>(args, use.slot, place.head));
        } else {
          slice.clear();
        }
        if (segment == 0) slice.keep(StatePlace<Rows>{cut.end<F>(whole.sequence, whole.head, cut.segments - 1)});
      },
      [&](ChainSlice<F, 2, false>& slice) { slice.write(to); });
}

// A block of kCombineThreads takes kCombineRows rows of S^T of one value head through the segments. The transitions
// come by bulk copies, one ahead: they wait for no state.
template <class F>
struct CombineShape {
  static constexpr int kTransitionBytes = F::kKeyDim * F::kKeyDim * 4;  // two of them
  static constexpr int kRows = 2 * kTransitionBytes;  // fp32 [key channel][kCombineRows]: the segment's first state
  static constexpr int kBarriers = kRows + F::kKeyDim * kCombineRows * 4;
  static constexpr int kShared = kBarriers + 16;
  static_assert(kShared == combine_shared(F::kKeyDim, kCombineRows), "as the launch will have it");
};

template <class F>
GDN_DEVICE void combine(const Cut& cut, int sequence, int head, int first_row, char* shared) {
  using Shape = CombineShape<F>;
  constexpr int kColumns = F::kKeyDim, kTeams = kCombineThreads / kColumns, kRows = kCombineRows / kTeams;
  static_assert(kTeams * kColumns == kCombineThreads && kRows % 2 == 0, "a column a thread, for some of the rows");
  const unsigned base = shared_address(shared);
  float* rows = reinterpret_cast<float*>(shared + Shape::kRows);
  const int column = thread_id() % kColumns, mine = thread_id() / kColumns * kRows;
  const auto fetch = [&](int j) {  // thread 0
    const unsigned at = static_cast<unsigned>(j & 1), full = base + Shape::kBarriers + 8 * at;
    if (j + 1 >= cut.segments) return;
    expect(full, Shape::kTransitionBytes);
    bulk_load(base + at * Shape::kTransitionBytes,
              reinterpret_cast<Global<const char>>(cut.end<F>(sequence, head, j) + End<F>::kTransition),
              Shape::kTransitionBytes, full);
  };
  if (thread_id() == 0) {
    for (unsigned i = 0; i < 2; ++i) barrier_init(base + Shape::kBarriers + 8 * i, 1);
    barrier_init_done();
  }
  barrier();
  wait_for_previous_grid();
  if (thread_id() == 0) fetch(1), fetch(2);
  const auto state_of = [&](int j) { return cut.end<F>(sequence, head, j) + (first_row + mine) * kColumns + column; };
  float sum[kRows], ahead[kRows];
  GDN_UNROLL
  for (int r = 0; r < kRows; ++r) ahead[r] = state_of(0)[r * kColumns];
  for (int j = 0; j + 1 < cut.segments; ++j) {
    const Global<float> state = state_of(j);
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      sum[r] = ahead[r];
      if (j + 2 < cut.segments) ahead[r] = state_of(j + 1)[r * kColumns];
    }
    if (j > 0) {
      const float* transition = reinterpret_cast<const float*>(shared + (j & 1) * Shape::kTransitionBytes) + column;
      wait(base + Shape::kBarriers + 8 * static_cast<unsigned>(j & 1), static_cast<unsigned>((j - 1) / 2) & 1);
#pragma unroll 16
      for (int i = 0; i < kColumns; ++i) {
        const float p = transition[i * kColumns];
        GDN_UNROLL
        for (int r = 0; r < kRows; ++r) sum[r] = fused(rows[i * kCombineRows + mine + r], p, sum[r]);
      }
      barrier();
      if (thread_id() == 0) fetch(j + 2);
      GDN_UNROLL
      for (int r = 0; r < kRows; ++r) state[r * kColumns] = sum[r];
    }
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) rows[column * kCombineRows + mine + r] = sum[r];
    barrier();
  }
}

// A segment of the chain, from the end before its own.
template <class F, int kSlices>
GDN_DEVICE void chain_segment(const Args& args, const SlotUse& use, const Place& whole, const Cut& cut, int segment,
                              Global<const char> workspace, char* shared) {
  using Rows = typename End<F>::Rows;
  const Place place = cut.of<F>(args, whole, segment);
  const int before = (segment == 0 ? cut.segments : segment) - 1;
  run_chain<F, kSlices, true>(
      args, place, true, workspace, shared,
      [&](ChainSlice<F, kSlices, true>& slice) {
        wait_for_previous_grid();
        slice.read(StatePlace<Rows>{cut.end<F>(whole.sequence, whole.head, before)});
      },
      [&](ChainSlice<F, kSlices, true>& slice) {
        if (use.written && segment == cut.segments - 1) slice.write(state_in_slot<F>(args, use.slot, place.head));
      });
}

}  // namespace gdn::sm90
