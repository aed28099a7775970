// conv_update: the convolution of one token, with activation, and the shift of its window; z comes along as it is.
// Padding rows, and rows whose slot is not in the pools, leave the windows alone (row_fate in map.h). Grid: x = rows,
// y = key heads.
#pragma once

#include "gdn/conv.h"

namespace gdn {

// Where convolved channels go: to a head of an output.
template <class M>
struct ToOutput {
  MapElements<M> to;
  template <int kChannels>
  GDN_DEVICE void operator()(int channel, const float (&y)[kChannels]) const {
    if constexpr (M::kInnerStride == 1) {
      store_run<typename M::Element, kChannels, smaller(M::kAlign, kChannels)>(to + channel, y);
    } else {
      GDN_UNROLL
      for (int i = 0; i < kChannels; ++i) store_one<typename M::Element>(to + (channel + i) * M::kInnerStride, y[i]);
    }
  }
};

template <class M>
GDN_DEVICE ToOutput<M> to_output(const Args& args, int row, int head) {
  return {part<M>(args, row) + M::base(head)};
}

template <class F>
GDN_DEVICE void conv_update(const Args& args) {
  using Q = typename F::OutputQ;
  using K = typename F::OutputK;
  using V = typename F::OutputV;
  using Z = typename F::OutputZ;
  const int row = block_row();
  const int key_head = block_head();
  const long long slot = slot_of<F>(args, row);
  const RowFate fate = row_fate<F>(args, slot);
  if (!fate.computed) {
    if (!fate.filled) return;
    fill_head<F, Q>(part<Q>(args, row), key_head, fate.filler);
    fill_head<F, K>(part<K>(args, row), key_head, fate.filler);
    for (int g = 0; g < F::kGroup; ++g) {
      const int head = value_head<F>(key_head, g);
      fill_head<F, V>(part<V>(args, row), head, fate.filler);
      if constexpr (Z::kPresent) fill_head<F, Z>(part<Z>(args, row), head, fate.filler);
    }
    return;
  }

  Deal<F::kThreads> deal;
  convolve_head<F, ConvOfQ<F>>(args, row, slot, key_head, deal, to_output<Q>(args, row, key_head));
  convolve_head<F, ConvOfK<F>>(args, row, slot, key_head, deal, to_output<K>(args, row, key_head));
  for (int g = 0; g < F::kGroup; ++g) {
    const int head = value_head<F>(key_head, g);
    convolve_head<F, ConvOfV<F>>(args, row, slot, head, deal, to_output<V>(args, row, head));
    if constexpr (Z::kPresent) {
      copy_head<F, typename F::InputZ, Z>(part<typename F::InputZ>(args, row), part<Z>(args, row), head);
    }
  }
}

}  // namespace gdn
