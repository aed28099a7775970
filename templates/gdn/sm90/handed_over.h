// A chunk's numbers as they are handed over, for the kernels that prepare its record (prep_block.h says what they ask).
#pragma once

#include "gdn/gates.h"
#include "gdn/sm90/chunks.h"

namespace gdn::sm90 {

// Pieces of 16 bytes, from channel `channel` on, of rows of a chunk that follow each other. From row `row` + `count` on
// there are none, and what is fetched is zero.
struct RowPieces {
  int row, count, channel;
};

// Neighbouring channels' numbers, in as few accesses as the map allows.
template <class M, int kChannels>
GDN_DEVICE void load_channels(MapElements<M> from, float (&x)[kChannels]) {
  if constexpr (kChannels > 1 && M::kInnerStride == 1) {
    load_run<typename M::Element, kChannels, smaller(kChannels, inner_width<M>())>(from, x);
  } else {
    GDN_UNROLL
    for (int i = 0; i < kChannels; ++i) x[i] = load_one<typename M::Element>(from + i * M::kInnerStride);
  }
}

template <class F>
class HandedOver {
 public:
  using Element = typename F::InputK::Element;  // of q and k before the norm
  static constexpr bool kConvolves = false, kStages = false;

  GDN_DEVICE HandedOver(const Args& args, const Chunk& chunk, int key_head)
      : args_(args), chunk_(chunk), key_head_(key_head) {}

  template <int kRows>
  GDN_DEVICE void keys(Raw<16> (&pieces)[kRows], const RowPieces& which) const {
    load<typename F::InputK>(pieces, which);
  }
  template <int kRows>
  GDN_DEVICE void queries(Raw<16> (&pieces)[kRows], const RowPieces& which) const {
    load<typename F::InputQ>(pieces, which);
  }

  // Rows of keys, or of queries, at a channel: where one of them is, and how many bytes the next one is further.
  struct RowsAt {
    Global<const char> first;
    long long stride;
  };
  GDN_DEVICE RowsAt keys_at(int row, int channel) const { return rows_at<typename F::InputK>(row, channel); }
  GDN_DEVICE RowsAt queries_at(int row, int channel) const { return rows_at<typename F::InputQ>(row, channel); }

  // log2 of the decays of a value head, or of kChannels neighbouring key channels of it, by token from one of the
  // chunk's on.
  template <int kChannels>
  class Rates {
    using G = typename F::InputG;

   public:
    GDN_DEVICE Rates(const Args& args, long long row, int offset)
        : first_(part<G>(args, row) + offset), stride_(args.stride[G::kOperand]) {}
    GDN_DEVICE void of(int token, float (&rates)[kChannels]) const {
      load_channels<G>(first_ + token * stride_, rates);
      GDN_UNROLL
      for (int i = 0; i < kChannels; ++i) rates[i] = log2_decay_of_handover<F>(rates[i]);
    }
    // Of as many tokens as `rates` has room for, what times kFactor is log2 of the decay; of those behind number `last`
    // what that one has.
    static constexpr float kFactor = F::kGHandover == Domain::kLn ? kLog2E : 1.0f;
    template <int kTokens>
    GDN_DEVICE void run(float (&rates)[kTokens][kChannels], int last) const {
      auto from = first_;
      GDN_UNROLL
      for (int i = 0; i < kTokens; ++i, from += i <= last ? stride_ : 0) {
        load_channels<G>(from, rates[i]);
        GDN_UNROLL
        for (int c = 0; c < kChannels; ++c) {
          float& x = rates[i][c];
          x = kFactor == 1.0f ? log2_decay_of_handover<F>(x) : bounded_log2(x, 1.0f / kFactor);
        }
      }
    }

   private:
    MapElements<G> first_;
    long long stride_;
  };
  template <int kChannels = 1>
  GDN_DEVICE Rates<kChannels> rates(int head, int channel = 0, int token = 0) const {
    return {args_, chunk_.token + token, F::InputG::base(head) + channel * F::InputG::kInnerStride};
  }
  // What a value head needs of a token, counted from the chunk's first, on its way to the L2 if the launch has it: half
  // 0 or 1 of its channels of k, q and the rates.
  GDN_DEVICE void touch(int head, int token, int half) const {
    const long long row = chunk_.token + token;
    if (row >= args_.rows) return;
    touch_half<typename F::InputG>(row, head, half);
    touch_half<typename F::InputK>(row, key_head_, half);
    touch_half<typename F::InputQ>(row, key_head_, half);
  }
  GDN_DEVICE float beta(long long row, int head) const {
    using B = typename F::InputBeta;
    return head_number<B>(part<B>(args_, row), head);
  }

 private:
  template <class M, int kRows>
  GDN_DEVICE void load(Raw<16> (&pieces)[kRows], const RowPieces& which) const {
    static_assert(sizeof(typename M::Element) == 2 && M::kInnerStride == 1 && M::kAlign % 8 == 0, "16-byte pieces");
    const long long stride = args_.stride[M::kOperand];
    const auto from = part<M>(args_, chunk_.token) + M::base(key_head_) + which.channel + which.row * stride;
    GDN_UNROLL
    for (int i = 0; i < kRows; ++i) pieces[i] = i < which.count ? gdn::load<16>(from + i * stride) : Raw<16>{};
  }
  template <class M>
  GDN_DEVICE void touch_half(long long row, int head, int half) const {
    if constexpr (M::kInnerStride == 1) {
      constexpr int kInLine = 128 / static_cast<int>(sizeof(typename M::Element));
      const auto from = part<M>(args_, row) + M::base(head) + half * (F::kKeyDim / 2);
      GDN_UNROLL
      for (int i = 0; i < F::kKeyDim / 2; i += kInLine) bring_near(from + i);
    }
  }
  template <class M>
  GDN_DEVICE RowsAt rows_at(int row, int channel) const {
    const long long stride = args_.stride[M::kOperand];
    const auto from = part<M>(args_, chunk_.token) + M::base(key_head_) + channel + row * stride;
    return {reinterpret_cast<Global<const char>>(from), 2 * stride};
  }

  const Args& args_;
  Chunk chunk_;
  int key_head_;
};

}  // namespace gdn::sm90
