// conv_prefill: the convolution over whole sequences, with activation; z comes along as it is.
//
//   windows    a sequence continues the inputs in its slot's window, or starts from zeros (prefill.initial_states), and
//              leaves its last inputs there where prefill.final_states wants them: a second kernel, prefill_windows,
//              behind the first; before it prefill_snapshots keeps those of snapshots. Without windows (null) sequences
//              start from zeros and leave nothing.
//   empty      a sequence without tokens touches nothing
//   padding    a sequence whose slot is padding or outside the pools: row_fate in map.h, for each of its tokens
//   grid       x = tiles of kTileRows rows, y = key heads
#pragma once

#include "gdn/prefill/conv.h"

namespace gdn {

template <class M>
struct ToRows {
  const Args& args;
  int head;
  GDN_DEVICE void operator()(int row, int channel, float y) const {
    store_one<typename M::Element>(part<M>(args, row) + M::base(head) + channel * M::kInnerStride, y);
  }
};

// A tile of z, copied; rows of no sequence are left alone.
template <class F>
GDN_DEVICE void copy_z(const Args& args, const RowTile& tile, int head) {
  using From = typename F::InputZ;
  using To = typename F::OutputZ;
  Sequence sequence;
  for (int row = tile.first; row < tile.end; ++row) {
    if (row == tile.first || row >= sequence.rows.end) {
      const int number = sequence_at<F>(args, row);
      if (number >= args.sequences) return;
      sequence = sequence_of_launch<F>(args, number, has_pool<typename F::WindowQ>(args));
    }
    if (sequence.fate.computed) {
      copy_head<F, From, To>(part<From>(args, row), part<To>(args, row), head);
    } else if (sequence.fate.filled) {
      fill_head<F, To>(part<To>(args, row), head, sequence.fate.filler);
    }
  }
}

template <class F>
GDN_DEVICE void conv_prefill(const Args& args) {
  const int key_head = block_head();
  const RowTile tile{block_row() * F::kTileRows, smaller(args.rows, (block_row() + 1) * F::kTileRows)};
  Deal<F::kThreads> deal;
  convolve_tile<F, typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ>(
      args, tile, key_head, deal, ToRows<typename F::OutputQ>{args, key_head});
  convolve_tile<F, typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK>(
      args, tile, key_head, deal, ToRows<typename F::OutputK>{args, key_head});
  for (int g = 0; g < F::kGroup; ++g) {
    const int head = value_head<F>(key_head, g);
    convolve_tile<F, typename F::InputV, typename F::WeightV, typename F::BiasV, typename F::WindowV>(
        args, tile, head, deal, ToRows<typename F::OutputV>{args, head});
    if constexpr (F::OutputZ::kPresent) copy_z<F>(args, tile, head);
  }
}

}  // namespace gdn
