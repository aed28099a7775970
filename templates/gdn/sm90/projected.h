// Where a chunk's numbers come from in a prefill of whole layers: the rows of the projections, through the convolution
// and the gates. v goes to rows of `out` where it has 16-byte pieces of 16 bits, else to rows of the workspace, [value
// head][value channel] in 16 bits; o takes its place there.
#pragma once

#include "gdn/prefill.h"
#include "gdn/prefill/conv_piece.h"
#include "gdn/sm90/chunks.h"
#include "gdn/sm90/job.h"
#include "gdn/sm90/staged.h"

namespace gdn::sm90 {

// Rows of v or o between the kernels of a launch.
template <class F, class E, bool kInOut>
struct PassedRows {
  using Rows = HeldRows<F, E>;
};
template <class F, class E>
struct PassedRows<F, E, true> {
  using Rows = RowsAs<typename F::Out, E>;
};

// The facts of chunk_delta's kernels inside a prefill.
template <class F>
struct InPrefill : F {
  static constexpr bool kInPrefill = true;
  using OwnV = typename F::InputV;  // of the projections
  using InputV = typename PassedRows<F, typename F::RoundConv, F::kRowsInOut>::Rows;
  using OutputO = typename PassedRows<F, typename F::RoundO, F::kRowsInOut>::Rows;
};

// Where a chunk's numbers come from in a prefill (prep_block.h).
template <class F>
class Projected {
 public:
  using Element = typename F::RoundConv;
  static constexpr bool kConvolves = true;

  GDN_DEVICE Projected(const Args& args, const Chunk& chunk, int key_head)
      : args_(args), chunk_(chunk), key_head_(key_head) {
    const bool windows = has_pool<typename F::WindowQ>(args);
    sequence_ = sequence_of_launch<F>(args, chunk.sequence, windows || has_pool<typename F::State>(args));
    sequence_.initial = sequence_.initial && windows;
  }

  template <int kRows>
  GDN_DEVICE void keys(Raw<16> (&pieces)[kRows], const RowPieces& which) const {
    using Of = ConvPiece<F, ConvOfK<F>>;
    Of::template convolve<true>(pieces, args_, sequence_, key_head_, which.channel, first_row() + which.row,
                                which.count);
  }
  template <int kRows>
  GDN_DEVICE void queries(Raw<16> (&pieces)[kRows], const RowPieces& which) const {
    using Of = ConvPiece<F, ConvOfQ<F>>;
    Of::template convolve<true>(pieces, args_, sequence_, key_head_, which.channel, first_row() + which.row,
                                which.count);
  }
  // The same by way of shared memory, where heads of k, q and v are of one size: turn by turn the value heads of the
  // group from `first` on, `values` of them, then k, then q. bring asks for the rows of a turn.
  static constexpr bool kStages = F::kKeyDim == F::kValueDim && F::kKeyDim % 64 == 0;
  using Rows = StagedRows<F, F::kKeyDim>;
  GDN_DEVICE void bring(int turn, int first, int values, unsigned place) const {
    if (turn < values) {
      bring<typename F::OwnV>(value_head<F>(key_head_, first + turn), place);
    } else if (turn == values) {
      bring<typename F::InputK>(key_head_, place);
    } else {
      bring<typename F::InputQ>(key_head_, place);
    }
  }
  template <int kRows>
  GDN_DEVICE void staged_keys(Raw<16> (&pieces)[kRows], unsigned place, int piece, int row) const {
    convolve_staged<F, ConvOfK<F>, true>(pieces, args_, sequence_, chunk_, key_head_, place, piece, row, [] {});
  }
  template <int kRows>
  GDN_DEVICE void staged_queries(Raw<16> (&pieces)[kRows], unsigned place, int piece, int row) const {
    convolve_staged<F, ConvOfQ<F>, true>(pieces, args_, sequence_, chunk_, key_head_, place, piece, row, [] {});
  }
  // v of a value head of the group to its rows.
  template <int kRows, class Read>
  GDN_DEVICE void staged_values(int member, unsigned place, int piece, int row, Read&& read) const {
    using To = typename F::InputV;
    using Maps = ConvMaps<typename F::OwnV, typename F::WeightV, typename F::BiasV, typename F::WindowV>;
    const int head = value_head<F>(key_head_, member);
    Raw<16> v[kRows];
    convolve_staged<F, Maps, false>(v, args_, sequence_, chunk_, head, place, piece, row, read);
    if (!sequence_.fate.computed) return;
    const auto to = part<To>(args_, first_row() + row) + To::base(head) + piece * 8;
    GDN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      if (i >= chunk_.tokens - row) break;
      store_16(reinterpret_cast<Global<char>>(to + i * args_.stride[To::kOperand]), v[i].word);
    }
  }
  // log2 of the decays of a value head, or of kChannels neighbouring key channels of it, by token of the chunk.
  template <int kChannels>
  class Rates {
    using A = typename F::InputA;
    using Bias = typename F::DtBias;

   public:
    GDN_DEVICE Rates(const Args& args, long long row, int head, int channel)
        : first_(part<A>(args, row) + A::base(head) + channel * A::kInnerStride),
          stride_(args.stride[A::kOperand]),
          negative_rate_(negative_rate_of<F>(args, head)) {
      load_channels<Bias>(part<Bias>(args) + Bias::base(head) + channel * Bias::kInnerStride, bias_);
    }
    GDN_DEVICE void of(int token, float (&rates)[kChannels]) const { take(first_ + token * stride_, rates); }
    // Of as many tokens as `rates` has room for; of those behind number `last` what that one has.
    static constexpr float kFactor = 1.0f;
    template <int kTokens>
    GDN_DEVICE void run(float (&rates)[kTokens][kChannels], int last) const {
      auto from = first_;
      GDN_UNROLL
      for (int i = 0; i < kTokens; ++i, from += i <= last ? stride_ : 0) take(from, rates[i]);
    }

   private:
    GDN_DEVICE void take(MapElements<A> from, float (&rates)[kChannels]) const {
      load_channels<A>(from, rates);
      GDN_UNROLL
      for (int i = 0; i < kChannels; ++i) {
        rates[i] = bounded_log2(log2_decay_fast<F>(negative_rate_, rates[i] + bias_[i]));
      }
    }
    MapElements<A> first_;
    long long stride_;
    float negative_rate_, bias_[kChannels];
  };
  template <int kChannels = 1>
  GDN_DEVICE Rates<kChannels> rates(int head, int channel = 0, int token = 0) const {
    return {args_, chunk_.token + token, head, channel};
  }
  GDN_DEVICE float beta(long long row, int head) const { return beta_of<F>(args_, static_cast<int>(row), head); }

  // v of `heads` value heads of the group from number `first_head` on, a thread 8 channels of 8 rows at a time.
  // Not of a sequence that is not computed, whose rows of `out` may have to stay what they are.
  GDN_DEVICE void finish(int first_head, int heads) const {
    if (!sequence_.fate.computed) return;
    using Of = ConvPiece<F, ConvMaps<typename F::OwnV, typename F::WeightV, typename F::BiasV, typename F::WindowV>>;
    using Rows = typename F::InputV;
    constexpr int kPieces = F::kValueDim / 8, kRows = 8, kRuns = kChunk / kRows;
    const int units = heads * kPieces;
    GDN_NO_UNROLL
    for (int unit = thread_id(); unit < kRuns * units; unit += kPrepThreads) {
      const int row = unit / units * kRows, channel = unit % kPieces * 8;
      const int head = value_head<F>(key_head_, first_head + unit % units / kPieces);
      const int count = chunk_.tokens - row;
      Raw<16> v[kRows];
      Of::template convolve<false>(v, args_, sequence_, head, channel, first_row() + row, count);
      const auto to = part<Rows>(args_, first_row() + row) + Rows::base(head) + channel;
      GDN_UNROLL
      for (int i = 0; i < kRows; ++i) {
        if (i < count) store<16>(to + i * args_.stride[Rows::kOperand], v[i]);
      }
    }
  }

 private:
  GDN_DEVICE int first_row() const { return static_cast<int>(chunk_.token); }
  template <class Input>
  GDN_DEVICE void bring(int head, unsigned place) const {
    const auto first = part<Input>(args_, chunk_.token) + Input::base(head);
    Rows::bring(reinterpret_cast<Global<const char>>(first), 2 * args_.stride[Input::kOperand], sequence_, chunk_,
                place);
  }

  const Args& args_;
  Chunk chunk_;
  int key_head_;
  Sequence sequence_;
};

}  // namespace gdn::sm90
