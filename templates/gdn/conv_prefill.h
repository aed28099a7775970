// conv_prefill: the convolution over whole sequences, with activation; z comes along as it is.
//
//   windows    a sequence continues the inputs in its slot's window, or starts from zeros (prefill.initial_states), and
//              leaves its last inputs there where prefill.final_states wants them: a second kernel, prefill_windows,
//              behind the first; before it prefill_snapshots keeps those of snapshots. Without windows (null) sequences
//              start from zeros and leave nothing.
//   empty      a sequence without tokens touches nothing
//   padding    a sequence whose slot is padding or outside the pools: row_fate in map.h, for each of its tokens
//   grid       x = tiles of kTileRows rows, y = parts of key heads: q, k, v of each value head of the group, z of each
#pragma once

#include "gdn/prefill/conv_piece.h"

namespace gdn {

template <class M>
struct ToRows {
  const Args& args;
  int head;
  GDN_DEVICE void operator()(int row, int channel, float y) const {
    store_one<typename M::Element>(part<M>(args, row) + M::base(head) + channel * M::kInnerStride, y);
  }
};

// visit(sequence, row, count) for the runs of one sequence in the rows from `first` to before `end`; rows of no
// sequence are left alone.
template <class F, class Visit>
GDN_DEVICE void for_each_run(const Args& args, int first, int end, Visit visit) {
  for (int row = first; row < end;) {
    const int number = sequence_at<F>(args, row);
    if (number >= args.sequences) return;
    const Sequence sequence = sequence_of_launch<F>(args, number, has_pool<typename F::WindowQ>(args));
    const int count = smaller(end, sequence.rows.end) - row;
    if (sequence.fate.computed || sequence.fate.filled) visit(sequence, row, count);
    row += count;
  }
}

// One head of a part in pieces of 8 channels and kRowsPerPass rows, by all threads of the block. make(rows, sequence,
// channel, row, count) fills the first `count` rows of a piece.
template <class F, class Output, class Make>
GDN_DEVICE void fill_pieces(const Args& args, const RowTile& tile, int head, Make make) {
  using E = typename Output::Element;
  constexpr int kPieces = Output::kRun / 8, kItems = kPieces * (F::kTileRows / F::kRowsPerPass);
  static_assert(F::kTileRows % F::kRowsPerPass == 0, "whole pieces");
  for (int item = thread_id(); item < kItems; item += F::kThreads) {
    const int channel = item % kPieces * 8, first = tile.first + item / kPieces * F::kRowsPerPass;
    for_each_run<F>(args, first, smaller(first + F::kRowsPerPass, tile.end),
                    [&](const Sequence& s, int row, int count) {
                      Raw<16> rows[F::kRowsPerPass];
                      if (s.fate.computed) {
                        make(rows, s, channel, row, count);
                      } else {
                        const unsigned filler = Number<E>::pair(s.fate.filler, s.fate.filler);
                        GDN_UNROLL
                        for (int i = 0; i < F::kRowsPerPass; ++i) rows[i] = Raw<16>{{filler, filler, filler, filler}};
                      }
                      const auto to = part<Output>(args, row) + Output::base(head) + channel;
                      GDN_UNROLL
                      for (int i = 0; i < F::kRowsPerPass; ++i) {
                        if (i < count) store<16>(to + i * args.stride[Output::kOperand], rows[i]);
                      }
                    });
  }
}

template <class F, class Maps, class Output>
GDN_DEVICE void convolve_part(const Args& args, const RowTile& tile, int head) {
  using Input = typename Maps::Input;
  using Round = typename F::RoundConv;
  if constexpr (comes_in_pieces<Input>() && comes_in_pieces<Output>() && same_type<Round, typename Output::Element>()) {
    fill_pieces<F, Output>(args, tile, head,
                           [&](Raw<16>(&rows)[F::kRowsPerPass], const Sequence& s, int channel, int row, int count) {
                             ConvPiece<F, Maps>::template convolve<false>(rows, args, s, head, channel, row, count);
                           });
  } else {
    convolve_tile<F, Maps>(args, tile, head, ToRows<Output>{args, head});
  }
}

template <class F>
GDN_DEVICE void copy_z(const Args& args, const RowTile& tile, int head) {
  using From = typename F::InputZ;
  using To = typename F::OutputZ;
  if constexpr (comes_in_pieces<From>() && comes_in_pieces<To>() &&
                same_type<typename From::Element, typename To::Element>()) {
    fill_pieces<F, To>(args, tile, head,
                       [&](Raw<16>(&rows)[F::kRowsPerPass], const Sequence&, int channel, int row, int count) {
                         const auto from = part<From>(args, row) + From::base(head) + channel;
                         GDN_UNROLL
                         for (int i = 0; i < F::kRowsPerPass; ++i) {
                           if (i < count) rows[i] = load<16>(from + i * args.stride[From::kOperand]);
                         }
                       });
  } else {
    for_each_run<F>(args, tile.first, tile.end, [&](const Sequence& s, int first, int count) {
      for (int row = first; row < first + count; ++row) {
        if (s.fate.computed) {
          copy_head<F, From, To>(part<From>(args, row), part<To>(args, row), head);
        } else {
          fill_head<F, To>(part<To>(args, row), head, s.fate.filler);
        }
      }
    });
  }
}

template <class F>
GDN_DEVICE void conv_prefill(const Args& args) {
  constexpr int kParts = 2 + F::kGroup * (F::OutputZ::kPresent ? 2 : 1);
  const int key_head = block_head() / kParts, part = block_head() % kParts;
  const RowTile tile{block_row() * F::kTileRows, smaller(args.rows, (block_row() + 1) * F::kTileRows)};
  if (part == 0) {
    convolve_part<F, ConvOfQ<F>, typename F::OutputQ>(args, tile, key_head);
  } else if (part == 1) {
    convolve_part<F, ConvOfK<F>, typename F::OutputK>(args, tile, key_head);
  } else if (part < 2 + F::kGroup) {
    convolve_part<F, ConvOfV<F>, typename F::OutputV>(args, tile, value_head<F>(key_head, part - 2));
  } else if constexpr (F::OutputZ::kPresent) {
    copy_z<F>(args, tile, value_head<F>(key_head, part - 2 - F::kGroup));
  }
}

}  // namespace gdn
