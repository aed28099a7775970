// prefill: whole sequences through the whole layer between the projections: conv, gates, q and k norm, the delta rule
// in chunks, gated norm. Kernels of one launch:
//
//   prefill           a block a sequence, value head and slice of value channels: convolves what it needs, walks the
//                     sequence (prefill/chunk.h), and puts o, rounded to rounding.o, where `out` will be, or, where
//                     that can't hold it (F::kHoldsO), in the workspace
//   prefill_snapshots, prefill_windows   a block a sequence, key head and part: windows of snapshots and the last ones,
//                     once every block has read the first ones
//   prefill_norm      a block a row and some value heads: o becomes out, in place
//   prefill_excess    where the layer has no norm and rows behind the last sequence are zeroed: these
//
// Without a norm `out` has o from the first kernel.
//
// States, windows, empty sequences and padding: as in chunk_delta.h and conv_prefill.h. `out` holds o without another
// rounding in between: the plan sees to that.
#pragma once

#include "gdn/chunk_delta.h"
#include "gdn/excess.h"
#include "gdn/norm_quant.h"
#include "gdn/prefill/conv.h"

namespace gdn {

// Rows in the workspace: [value head][value channel]. The runtime gives them the operand behind it.
template <class F, class E>
struct HeldRows {
  using Element = E;
  static constexpr bool kPresent = true;
  static constexpr int kOperand = F::kWorkspaceOperand + 1;
  GDN_HD static constexpr int base(int value_head) { return value_head * F::kValueDim; }
  static constexpr int kRun = F::kValueDim, kInnerStride = 1, kOuterStride = 0, kTapStride = 0;
  static constexpr int kAlign = power_of_two_in(F::kValueDim);
};

// `Map` with elements of another type, of its size.
template <class Map, class E>
struct RowsAs : Map {
  using Element = E;
  static_assert(sizeof(E) == sizeof(typename Map::Element), "in place of its own");
};

// Where o waits for the norm.
template <class F, bool kHeld>
struct WaitingO {
  using Rows = typename F::Out;
};
template <class F>
struct WaitingO<F, true> {
  using Rows = HeldRows<F, typename F::RoundO>;
};

// A chunk's numbers from the rows of the projections, and o to the rows of `out`.
template <class F>
class ProjectedTokens {
  using Shape = ChunkShape<F>;
  static constexpr int kTokens = Shape::kTokens, kStride = Shape::kStride, kColumns = Shape::kColumns;
  using ConvQ = ConvChannel<F, typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ>;
  using ConvK = ConvChannel<F, typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK>;
  using ConvV = ConvChannel<F, typename F::InputV, typename F::WeightV, typename F::BiasV, typename F::WindowV>;

 public:
  // `sequence.initial` says whether its window is read.
  GDN_DEVICE ProjectedTokens(const Args& args, const Sequence& sequence, int head, int first_column)
      : args_(args), sequence_(sequence), head_(head), key_head_(key_head_of<F>(head)), first_column_(first_column) {}

  GDN_DEVICE void fetch(int row, int n, ChunkShared<F>& shared) const {
    for (int i = wave_id(); i < kTokens; i += F::kThreads / kWaveSize) {
      put_unit_row<F>(shared.q + i * kStride, F::kQScale,
                      [&](int c) { return i < n ? ConvQ{args_, key_head_, c}.at(sequence_, row + i) : 0.0f; });
      put_unit_row<F>(shared.k + i * kStride, F::kKScale,
                      [&](int c) { return i < n ? ConvK{args_, key_head_, c}.at(sequence_, row + i) : 0.0f; });
    }
    for (int at = thread_id(); at < kTokens * kColumns; at += F::kThreads) {
      const int i = at / kColumns;
      const int channel = first_column_ + at % kColumns;
      const bool inside = i < n && channel < F::kValueDim;
      shared.v[at] = inside ? ConvV{args_, head_, channel}.at(sequence_, row + i) : 0.0f;
    }
    if constexpr (Shape::kByChannel) {
      using A = typename F::InputA;
      using Bias = typename F::DtBias;
      const float negative_rate = negative_rate_of<F>(args_, head_);
      for (int at = thread_id(); at < n * F::kKeyDim; at += F::kThreads) {
        const int i = at / F::kKeyDim;
        const int c = at % F::kKeyDim;
        const float a = load_one<typename A::Element>(part<A>(args_, row + i) + A::base(head_) + c * A::kInnerStride);
        const float bias =
            load_one<typename Bias::Element>(part<Bias>(args_) + Bias::base(head_) + c * Bias::kInnerStride);
        shared.u[i * kStride + c] = bounded_log2(log_decay<F>(negative_rate, a + bias) * kLog2E);
      }
    }
    for (int i = thread_id(); i < kTokens; i += F::kThreads) {
      shared.beta[i] = i < n ? beta_of<F>(args_, row + i, head_) : 0.0f;
      if constexpr (!Shape::kByChannel) {
        shared.g[i] = i < n ? bounded_log2(log_decay_of<F>(args_, row + i, head_) * kLog2E) : 0.0f;
      }
    }
  }

  GDN_DEVICE void put(int row, int n, const ChunkShared<F>& shared) const {
    put_columns<F, typename WaitingO<F, F::kHoldsO>::Rows>(args_, row, n, head_, first_column_, shared.o);
  }

 private:
  const Args& args_;
  Sequence sequence_;
  int head_;
  int key_head_;
  int first_column_;
};

template <class F>
GDN_DEVICE void prefill(const Args& args) {
  using Shape = ChunkShape<F>;
  if (block_row() >= args.sequences) return;  // blocks that other operations zero rows beyond the batch with
  const int head = block_head() / Shape::kSlices;
  const int first_column = block_head() % Shape::kSlices * Shape::kColumns;
  const bool windows = has_pool<typename F::WindowQ>(args);
  walk_sequence<F>(
      args, block_row(), head, first_column, windows,
      [&](int row, float value) { fill_output<F>(args, row, head, value); },
      [&](Sequence sequence) {
        sequence.initial = windows && has_initial_state<F>(args, sequence.number);
        return ProjectedTokens<F>(args, sequence, head, first_column);
      });
}

// By the blocks behind those of the sequences.
template <class F>
GDN_DEVICE void prefill_excess(const Args& args) {
  if (const int number = block_row() - args.sequences; number >= 0) {
    zero_excess_rows<F>(args, number, block_head(), 0, F::kGroup);
  }
  end_behind_previous();
}

template <class F, bool kHeld>
struct PrefillNorm : F {
  using InputO = typename WaitingO<F, kHeld>::Rows;
};

template <class F>
GDN_DEVICE void prefill_norm(const Args& args) {
  wait_for_previous();
  const int number = sequence_at<F>(args, block_row());
  if (number >= args.sequences) {
    if constexpr (zeroes_excess<F>()) {
      for (int i = 0; i < F::kHeadsPerBlock; ++i) {
        fill_output<F>(args, block_row(), head_in_row<F>(block_head() * F::kHeadsPerBlock + i), 0.0f);
      }
    }
    return;
  }
  const bool pooled = has_pool<typename F::State>(args) || has_pool<typename F::WindowQ>(args);
  if (!sequence_of_launch<F>(args, number, pooled).fate.computed) return;
  // With a workspace that may be left out, o is where the launch's other kernels put it.
  if constexpr (F::kWorkspaceOperand >= 0 && !F::kHoldsO && !F::kRowsInOut) {
    if (args.operand[F::kWorkspaceOperand] != nullptr) return norm_quant<PrefillNorm<F, true>>(args);
  }
  norm_quant<PrefillNorm<F, F::kHoldsO>>(args);
}

}  // namespace gdn
