// The kernels of templates/gdn/sm90 over a facts type that is written by hand, for the compile test and for the bench
// beside this file: no generator is needed to work on them.
//
// Operands: 0 q, 1 k, 2 v, 3 g (ln), 4 beta, 5 o, 6 state, 7 starts of the sequences, 8 slots, 9 has_initial_state
// (bytes), 10 records, 11 ends of segments; stride[11] is the number of segments.
#pragma once

#include "gdn/sm90/pair.h"
#include "gdn/sm90/prep.h"
#include "gdn/sm90/prep_channels.h"
#include "gdn/sm90/segments.h"

namespace hand {

template <class E, int kIndex, int kLength>
struct Part {
  using Element = E;
  static constexpr bool kPresent = true;
  static constexpr int kOperand = kIndex;
  GDN_HD static constexpr int base(int head) { return head * kLength; }
  static constexpr int kRun = kLength, kInnerStride = 1, kOuterStride = 0, kTapStride = 0, kAlign = kLength & -kLength;
};

template <class E, int kIndex, int kKeys, int kValues, bool kKeyFirst>
struct StatePart {
  using Element = E;
  static constexpr bool kPresent = true;
  static constexpr int kOperand = kIndex;
  GDN_HD static constexpr int base(int head) { return head * kKeys * kValues; }
  static constexpr int kRun = kKeys, kInnerStride = kKeyFirst ? kValues : 1, kOuterStride = kKeyFirst ? 1 : kKeys;
  static constexpr int kTapStride = 0, kAlign = 1;
};

// kNorm: q and k come as they are and are normalised, else they are unit vectors. kKeyFirst: a pool of [K][V].
template <int kHeads, int kRatio, int kKeys, int kValues, bool kNorm, bool kKeyFirst, class StateElement, class E>
struct Facts : gdn::NoParts {
  static constexpr gdn::Rule kRule = gdn::Rule::kGdn;
  static constexpr int kKeyHeads = kHeads, kValueHeads = kHeads * kRatio, kGroup = kRatio;
  static constexpr int kKeyDim = kKeys, kValueDim = kValues;
  static constexpr gdn::Pairing kPairing = gdn::Pairing::kGrouped;
  static constexpr bool kQkNorm = kNorm;
  static constexpr float kQkEps = 1e-6f;
  static constexpr gdn::EpsAt kQkEpsAt = gdn::EpsAt::kSum;
  static constexpr float kQScale = 0.088388346f, kKScale = 1.0f;
  static constexpr gdn::Domain kGHandover = gdn::Domain::kLn;
  using RoundPrefillQk = float;
  using InputQ = Part<E, 0, kKeys>;
  using InputK = Part<E, 1, kKeys>;
  using InputV = Part<E, 2, kValues>;
  using InputG = Part<float, 3, 1>;
  using InputBeta = Part<float, 4, 1>;
  using OutputO = Part<E, 5, kValues>;
  using State = StatePart<StateElement, 6, kKeys, kValues, kKeyFirst>;
};

// The same with a decay for each key channel.
template <int kHeads, int kRatio, int kKeys, int kValues, bool kNorm, bool kKeyFirst, class StateElement, class E>
struct ChannelFacts : Facts<kHeads, kRatio, kKeys, kValues, kNorm, kKeyFirst, StateElement, E> {
  static constexpr gdn::Rule kRule = gdn::Rule::kKda;
  using InputG = Part<float, 3, kKeys>;
};

template <class T>
GDN_DEVICE T* operand(const gdn::Args& args, int i) {
  return static_cast<T*>(args.operand[i]);
}
GDN_DEVICE gdn::sm90::Sequences<int> sequences(const gdn::Args& args) {
  return {operand<const int>(args, 7), args.sequences, args.rows};
}
GDN_DEVICE gdn::sm90::Cut cut(const gdn::Args& args) {
  return {static_cast<int>(args.stride[11]), operand<float>(args, 11)};
}
GDN_DEVICE gdn::sm90::SlotUse slot_use(const gdn::Args& args, int sequence) {
  const int slot = operand<const int>(args, 8)[sequence];
  return {slot, slot >= 0 && operand<const unsigned char>(args, 9)[sequence] != 0, slot >= 0};
}
// Block number -> sequence, head, first slice.
template <class F>
GDN_DEVICE gdn::sm90::Place place(const gdn::Args& args, int block, int blocks_of_head, int slices) {
  const int of_sequence = F::kValueHeads * blocks_of_head, sequence = block / of_sequence;
  return sequences(args).place(sequence, block % of_sequence / blocks_of_head, block % blocks_of_head * slices);
}

extern __shared__ __align__(1024) char shared[];

template <class F>
GDN_DEVICE void prep(const gdn::Args& args) {
  gdn::sm90::prep<F>(args, sequences(args), operand<char>(args, 10), shared);
}
template <class F>
GDN_DEVICE void prep_channels(const gdn::Args& args) {
  gdn::sm90::prep_channels<F>(args, sequences(args), operand<char>(args, 10), shared);
}

template <class F, int kSlices>
GDN_DEVICE void chain(const gdn::Args& args) {
  const auto where = place<F>(args, gdn::block_row(), gdn::sm90::ChainShape<F, kSlices>::kBlocksPerHead, kSlices);
  gdn::sm90::chain<F, kSlices>(args, slot_use(args, where.sequence), where, operand<const char>(args, 10), shared);
}

template <class F>
GDN_DEVICE void pair(const gdn::Args& args) {
  const auto where = place<F>(args, gdn::block_row() / 2, gdn::ceil_div(F::kValueDim, 64), 1);
  gdn::sm90::pair<F>(args, slot_use(args, where.sequence), where, operand<const char>(args, 10), shared);
}

// Grid: x = sequences * value heads, y = pairs of slices of V of all segments but the last, then of K of all but the
// first and the last.
template <class F>
GDN_DEVICE void carry(const gdn::Args& args) {
  constexpr int kValuePairs = F::kValueDim / 128, kKeyPairs = F::kKeyDim / 128;
  const int values = kValuePairs * (cut(args).segments - 1), job = gdn::block_head();
  const bool transition = job >= values;
  const int segment = transition ? 1 + (job - values) / kKeyPairs : job / kValuePairs;
  auto where = place<F>(args, gdn::block_row(), 1, 1);
  where.slice = 2 * (transition ? (job - values) % kKeyPairs : job % kValuePairs);
  gdn::sm90::carry<F>(args, slot_use(args, where.sequence), where, cut(args), segment, transition,
                      operand<const char>(args, 10), shared);
}

template <class F>
GDN_DEVICE void combine(const gdn::Args& args) {
  gdn::sm90::combine<F>(cut(args), gdn::block_row() / F::kValueHeads, gdn::block_row() % F::kValueHeads,
                        gdn::block_head() * gdn::sm90::kCombineRows, shared);
}

template <class F, int kSlices>
GDN_DEVICE void segment(const gdn::Args& args) {
  const auto where = place<F>(args, gdn::block_row(), gdn::sm90::ChainShape<F, kSlices>::kBlocksPerHead, kSlices);
  gdn::sm90::chain_segment<F, kSlices>(args, slot_use(args, where.sequence), where, cut(args), gdn::block_head(),
                                       operand<const char>(args, 10), shared);
}

}  // namespace hand
