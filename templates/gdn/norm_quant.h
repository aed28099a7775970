// norm_quant: the gated norm of o, and its quantisation. Needs no slots: every row of the batch is computed.
//
//   grid   x = rows, y = blocks of kHeadsPerBlock value heads, in the order in which a row of `out` has them
//   heads  a wave takes one at a time; a block has a whole number of groups, so that no scale needs another block
#pragma once

#include "gdn/quantise.h"

namespace gdn {

// The value head that lies in place `rank` of a row of `out`, whose heads are V channels each.
template <class F>
GDN_DEVICE int head_in_row(int rank) {
  using Out = typename F::Out;
  if constexpr (Out::kInnerStride != 1) {
    return rank;  // never quantised: any order is as good
  } else {
    constexpr int kSecondOfGroup = F::kPairing == Pairing::kGrouped ? 1 : F::kKeyHeads;
    constexpr bool kGroupInside = F::kGroup > 1 && Out::base(kSecondOfGroup % F::kValueHeads) == F::kValueDim;
    return kGroupInside ? value_head<F>(rank / F::kGroup, rank % F::kGroup)
                        : value_head<F>(rank % F::kKeyHeads, rank / F::kKeyHeads);
  }
}

// A head's part in a row of memory, as a source of the gated norm.
template <class M>
struct RowNumbers {
  MapElements<M> from;
  template <int kCount>
  GDN_DEVICE void read(int channel, float (&x)[kCount]) const {
    if constexpr (M::kInnerStride == 1) {
      load_run<typename M::Element, kCount, smaller(inner_width<M>(), kCount)>(from + channel, x);
    } else {
      GDN_UNROLL
      for (int i = 0; i < kCount; ++i) x[i] = load_one<typename M::Element>(from + (channel + i) * M::kInnerStride);
    }
  }
};
template <class F>
struct RowGates {
  RowNumbers<typename F::InputZ> from;
  template <int kCount>
  GDN_DEVICE void read(int channel, float (&x)[kCount]) const {
    from.read(channel, x);
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) x[i] = gate_of<F>(x[i]);
  }
};

template <class F>
GDN_DEVICE void normalise_row(const Args& args, int row, int head, GatedNorm<F>& norm) {
  using O = typename F::InputO;
  using Z = typename F::InputZ;
  const RowGates<F> gates{{part<Z>(args, row) + Z::base(head)}};
  const float sum = norm.read(RowNumbers<O>{part<O>(args, row) + O::base(head)}, gates);
  norm.normalise(args, sum, gates);
}

// Groups that have channels of several heads: each wave leaves the largest magnitudes of its heads' pieces, the scales
// are made of them, and then the heads are written. A wave with more than one head computes them a second time: o and z
// are in the cache by then.
template <class F>
GDN_DEVICE void norm_groups(const Args& args) {
  using Share = HeadShare<F>;
  constexpr int kHeads = F::kHeadsPerBlock, kWaves = F::kThreads / kWaveSize;
  constexpr int kPieces = kHeads * Share::kPieces, kOfGroup = F::kQuantGroup / Share::kPiece;
  constexpr int kGroups = kPieces / kOfGroup;
  static_assert(kPieces % kOfGroup == 0, "whole groups");
  struct Shared {
    float amax[kPieces];
    float scale[kGroups];
  };
  GDN_SHARED(Shared, shared);
  static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of a block");
  const int row = block_row();
  const int first = block_head() * kHeads;

  GatedNorm<F> norm;
  for (int i = wave_id(); i < kHeads; i += kWaves) {
    float amax[Share::kBatches];
    normalise_row<F>(args, row, head_in_row<F>(first + i), norm);
    norm.largest(amax);
    GDN_UNROLL
    for (int batch = 0; batch < Share::kBatches; ++batch) {
      if (Share::speaks(batch)) shared.amax[i * Share::kPieces + Share::piece(batch)] = amax[batch];
    }
  }
  barrier();
  for (int group = wave_id(); group < kGroups; group += kWaves) {
    float amax[1] = {0.0f};
    for (int piece = lane_id(); piece < kOfGroup; piece += kWaveSize) {
      const float size = shared.amax[group * kOfGroup + piece];
      amax[0] = size > amax[0] ? size : amax[0];
    }
    largest_over_lanes<kWaveSize>(amax);
    const float scale = scale_of<F>(amax[0]);
    if (lane_id() == 0) {
      shared.scale[group] = scale;
      store_scale<F>(args, row, block_head() * kGroups + group, scale);
    }
  }
  barrier();
  for (int i = wave_id(); i < kHeads; i += kWaves) {
    const int head = head_in_row<F>(first + i);
    if constexpr (kHeads > kWaves) normalise_row<F>(args, row, head, norm);
    float scale[Share::kBatches];
    GDN_UNROLL
    for (int batch = 0; batch < Share::kBatches; ++batch) {
      const int piece = smaller(Share::piece(batch), Share::kPieces - 1);
      scale[batch] = shared.scale[(i * Share::kPieces + piece) / kOfGroup];
    }
    norm.write(args, row, head, scale);
  }
}

template <class F>
GDN_DEVICE void norm_quant(const Args& args) {
  if (is_excess<F>(args, block_row())) {
    for (int i = 0; i < F::kHeadsPerBlock; ++i) {
      fill_output<F>(args, block_row(), head_in_row<F>(block_head() * F::kHeadsPerBlock + i), 0.0f);
    }
    return;
  }
  if constexpr (F::kQuantGroup > 0 && F::kValueDim % larger(1, F::kQuantGroup) != 0) {
    norm_groups<F>(args);
  } else {
    const int row = block_row();
    for (int i = wave_id(); i < F::kHeadsPerBlock; i += F::kThreads / kWaveSize) {
      const int head = head_in_row<F>(block_head() * F::kHeadsPerBlock + i);
      GatedNorm<F> norm;
      normalise_row<F>(args, row, head, norm);
      if constexpr (F::kQuantGroup > 0) {
        write_groups<F>(args, row, head, norm);
      } else {
        norm.write(args, row, head);
      }
    }
  }
}

}  // namespace gdn
