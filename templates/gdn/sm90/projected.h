// Where a chunk's numbers come from in a prefill of whole layers: the rows of the projections, through the convolution
// and the gates. v goes to rows of `out` where it has 16-byte pieces of 16 bits, else to rows of the workspace, [value
// head][value channel] in 16 bits; o takes its place there.
#pragma once

#include "gdn/prefill.h"
#include "gdn/sm90/chunks.h"
#include "gdn/sm90/job.h"

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

// 8 neighbouring channels of one head of a part through the convolution: weights in registers, the inputs of earlier
// tokens from the launch's own rows, from the sequence's window, or zeros (gdn/prefill/conv.h).
template <class F, class Input, class Weight, class Bias, class Window>
class ConvPiece {
  using One = ConvChannel<F, Input, Weight, Bias, Window>;
  using E = typename Input::Element;
  static constexpr int kWidth = One::kWidth, kHistory = One::kHistory;
  static_assert(sizeof(E) == 2 && Input::kInnerStride == 1 && Input::kAlign % 8 == 0, "16-byte pieces");
  static_assert(sizeof(typename F::RoundConv) == 2, "results of 16 bits");

 public:
  GDN_DEVICE ConvPiece(const Args& args, const Sequence& sequence, int head, int first)
      : args_(args), sequence_(sequence), head_(head), first_(first) {
    GDN_UNROLL
    for (int c = 0; c < 8; ++c) One{args, head, first + c}.load_weights(weight_[c], bias_[c]);
  }

  // Of one row of the launch, all by itself.
  GDN_DEVICE Raw<16> at(int row) {
    GDN_UNROLL
    for (int age = 1; age <= kHistory; ++age) older(row, age);
    return next(row);
  }
  // The inputs before a row, for next() from there on.
  GDN_DEVICE void begin(int row) {
    GDN_UNROLL
    for (int age = 1; age <= kHistory; ++age) older(row, age);
  }
  // The row behind the last one.
  GDN_DEVICE Raw<16> next(int row) {
    float x[8], y[8];
    input(row, x);
    GDN_UNROLL
    for (int c = 0; c < 8; ++c) {
      y[c] = One::convolved(x[c], older_[c], weight_[c], bias_[c]);
      GDN_UNROLL
      for (int age = kHistory - 1; age > 0; --age) older_[c][age] = older_[c][age - 1];
      older_[c][0] = rounded<typename Window::Element>(x[c]);
    }
    Raw<16> raw;
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) raw.word[i] = Number<typename F::RoundConv>::pair(y[2 * i], y[2 * i + 1]);
    return raw;
  }

 private:
  GDN_DEVICE void input(int row, float (&x)[8]) const {
    const Pack<E, 8> pack{load<16>(part<Input>(args_, row) + Input::base(head_) + first_)};
    GDN_UNROLL
    for (int c = 0; c < 8; ++c) x[c] = pack.get(c);
  }
  GDN_DEVICE void older(int row, int age) {
    const int missing = sequence_.rows.first - (row - age);
    if (missing <= 0) {
      float x[8];
      input(row - age, x);
      GDN_UNROLL
      for (int c = 0; c < 8; ++c) older_[c][age - 1] = rounded<typename Window::Element>(x[c]);
      return;
    }
    GDN_UNROLL
    for (int c = 0; c < 8; ++c) older_[c][age - 1] = One{args_, head_, first_ + c}.before(sequence_, row, age);
  }

  const Args& args_;
  const Sequence& sequence_;
  int head_, first_;
  float weight_[8][kWidth], older_[8][kHistory], bias_[8];
};

// Where a chunk's numbers come from in a prefill (prep_block.h).
template <class F>
class Projected {
  template <class Input, class Weight, class Bias, class Window>
  using Piece = ConvPiece<F, Input, Weight, Bias, Window>;

 public:
  using Element = typename F::RoundConv;

  GDN_DEVICE Projected(const Args& args, const Chunk& chunk, int key_head)
      : args_(args), chunk_(chunk), key_head_(key_head) {
    const bool windows = has_pool<typename F::WindowQ>(args);
    sequence_ = sequence_of_launch<F>(args, chunk.sequence, windows || has_pool<typename F::State>(args));
    sequence_.initial = sequence_.initial && windows;
  }

  GDN_DEVICE Raw<16> key(int row, int first) const {
    using Of = Piece<typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK>;
    return Of(args_, sequence_, key_head_, first).at(first_row() + row);
  }
  GDN_DEVICE Raw<16> query(int row, int first) const {
    using Of = Piece<typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ>;
    return Of(args_, sequence_, key_head_, first).at(first_row() + row);
  }
  // log2 of the decays of a value head, or of one of its key channels, by token of the chunk.
  class Rates {
    using A = typename F::InputA;
    using Bias = typename F::DtBias;

   public:
    GDN_DEVICE Rates(const Args& args, long long row, int head, int channel)
        : first_(part<A>(args, row) + A::base(head) + channel * A::kInnerStride),
          stride_(args.stride[A::kOperand]),
          negative_rate_(negative_rate_of<F>(args, head)),
          bias_(load_one<typename Bias::Element>(part<Bias>(args) + Bias::base(head) + channel * Bias::kInnerStride)) {}
    GDN_DEVICE float of(int token) const {
      const float a = load_one<typename A::Element>(first_ + token * stride_);
      return bounded_log2(log_decay<F>(negative_rate_, a + bias_) * kLog2E);
    }

   private:
    MapElements<A> first_;
    long long stride_;
    float negative_rate_, bias_;
  };
  GDN_DEVICE Rates rates(int head, int channel = 0) const { return {args_, chunk_.token, head, channel}; }
  GDN_DEVICE float beta(long long row, int head) const { return beta_of<F>(args_, static_cast<int>(row), head); }

  // v of `heads` value heads of the group from number `first_head` on, a thread 8 channels of a quarter of the chunk.
  // Not of a sequence that is not computed, whose rows of `out` may have to stay what they are.
  GDN_DEVICE void finish(int first_head, int heads) const {
    if (!sequence_.fate.computed) return;
    using Of = Piece<typename F::OwnV, typename F::WeightV, typename F::BiasV, typename F::WindowV>;
    using Rows = typename F::InputV;
    constexpr int kPieces = F::kValueDim / 8, kQuarter = kChunk / 4;
    const int units = heads * kPieces;
    for (int unit = thread_id(); unit < 4 * units; unit += kPrepThreads) {
      const int first = unit / units * kQuarter, channel = unit % kPieces * 8;
      const int head = value_head<F>(key_head_, first_head + unit % units / kPieces);
      const int end = smaller(first + kQuarter, chunk_.tokens);
      if (first >= end) continue;
      Of piece(args_, sequence_, head, channel);
      piece.begin(first_row() + first);
      for (int row = first_row() + first; row < first_row() + end; ++row) {
        store<16>(part<Rows>(args_, row) + Rows::base(head) + channel, piece.next(row));
      }
    }
  }

 private:
  GDN_DEVICE int first_row() const { return static_cast<int>(chunk_.token); }

  const Args& args_;
  Chunk chunk_;
  int key_head_;
  Sequence sequence_;
};

}  // namespace gdn::sm90
