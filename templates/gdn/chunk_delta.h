// chunk_delta: the gated delta rule over whole sequences, on q, k and v after the convolution and on computed gates, as
// they are handed over; q and k are normalised here, rounded to prefill.qk and then scaled.
//
//   states     a sequence starts from its slot or from zeros (prefill.initial_states), and leaves its last state there
//              where prefill.final_states wants it; without a pool (null) it starts from zeros and leaves nothing
//   empty      a sequence without tokens touches nothing
//   padding    a sequence whose slot is padding or outside the pools: row_fate in map.h, for each of its tokens
//   grid       x = sequences, y = value heads * slices of value channels
#pragma once

#include "gdn/gates.h"
#include "gdn/norm.h"
#include "gdn/prefill/chunk.h"

namespace gdn {

// log2 of the decay out of a number that was handed over. A decay that is 0 to fp32 is as good as any below 2^-256:
// sums of it stay finite, and differences of the sums numbers.
template <class F>
GDN_DEVICE float log2_decay_of_handover(float g) {
  if constexpr (F::kGHandover == Domain::kExp) {
    g = log2(g);
  } else if constexpr (F::kGHandover == Domain::kLn) {
    g = g * kLog2E;
  }
  return g < -256.0f ? -256.0f : g;
}

// A chunk's numbers from the tensors that are handed over, and o back to them.
template <class F>
class HandedTokens {
  using Shape = ChunkShape<F>;
  static constexpr int kTokens = Shape::kTokens, kStride = Shape::kStride, kColumns = Shape::kColumns;

 public:
  GDN_DEVICE HandedTokens(const Args& args, int head, int first_column)
      : args_(args),
        head_(head),
        key_head_(F::kPairing == Pairing::kGrouped ? head / F::kGroup : head % F::kKeyHeads),
        first_column_(first_column) {}

  GDN_DEVICE void fetch(int row, int n, ChunkShared<F>& shared) const {
    for (int i = wave_id(); i < kTokens; i += F::kThreads / kWaveSize) {
      unit_row<typename F::InputQ>(row + i, i < n, F::kQScale, shared.q + i * kStride);
      unit_row<typename F::InputK>(row + i, i < n, F::kKScale, shared.k + i * kStride);
    }
    using V = typename F::InputV;
    for (int at = thread_id(); at < kTokens * kColumns; at += F::kThreads) {
      const int i = at / kColumns;
      const int channel = first_column_ + at % kColumns;
      const bool inside = i < n && channel < F::kValueDim;
      shared.v[at] = inside ? load_one<typename V::Element>(part<V>(args_, row + i) + V::base(head_) +
                                                            channel * V::kInnerStride)
                            : 0.0f;
    }
    using G = typename F::InputG;
    if constexpr (Shape::kByChannel) {
      for (int at = thread_id(); at < kTokens * F::kKeyDim; at += F::kThreads) {
        const int i = at / F::kKeyDim;
        const int c = at % F::kKeyDim;
        if (i < n) {
          const auto from = part<G>(args_, row + i) + G::base(head_) + c * G::kInnerStride;
          shared.u[i * kStride + c] = log2_decay_of_handover<F>(load_one<typename G::Element>(from));
        }
      }
    }
    for (int i = thread_id(); i < kTokens; i += F::kThreads) {
      using Beta = typename F::InputBeta;
      shared.beta[i] = i < n ? head_number<Beta>(part<Beta>(args_, row + i), head_) : 0.0f;
      if constexpr (!Shape::kByChannel) {
        shared.g[i] = i < n ? log2_decay_of_handover<F>(head_number<G>(part<G>(args_, row + i), head_)) : 0.0f;
      }
    }
  }

  GDN_DEVICE void put(int row, int n, const ChunkShared<F>& shared) const {
    using O = typename F::OutputO;
    for (int at = thread_id(); at < n * kColumns; at += F::kThreads) {
      const int i = at / kColumns;
      const int channel = first_column_ + at % kColumns;
      if (channel >= F::kValueDim) continue;
      store_one<typename O::Element>(part<O>(args_, row + i) + O::base(head_) + channel * O::kInnerStride,
                                     rounded<typename F::RoundO>(shared.o[at]));
    }
  }

 private:
  // A row of q or k of this block's key head, by one wave. A row of no token is zeros: nothing of it is read.
  template <class M>
  GDN_DEVICE void unit_row(int row, bool inside, float scale, float* to) const {
    constexpr int kEach = ceil_div(F::kKeyDim, kWaveSize);
    const auto from = part<M>(args_, row) + M::base(key_head_);
    float x[kEach];
    float squares[1] = {0.0f};
    GDN_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const int c = i * kWaveSize + lane_id();
      x[i] = inside && c < F::kKeyDim ? load_one<typename M::Element>(from + c * M::kInnerStride) : 0.0f;
      squares[0] += x[i] * x[i];
    }
    if constexpr (F::kQkNorm) sum_over_lanes<kWaveSize>(squares);
    const float factor = inverse_norm<F>(squares[0]);
    GDN_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const int c = i * kWaveSize + lane_id();
      if (c < F::kKeyDim) to[c] = rounded<typename F::RoundPrefillQk>(x[i] * factor) * scale;
    }
  }

  const Args& args_;
  int head_;
  int key_head_;
  int first_column_;
};

template <class F>
GDN_DEVICE void chunk_delta(const Args& args) {
  using Shape = ChunkShape<F>;
  using Output = typename F::OutputO;
  using State = typename F::State;
  const int sequence = block_row();
  const int head = block_head() / Shape::kSlices;
  const int first_column = block_head() % Shape::kSlices * Shape::kColumns;
  const SequenceRows rows = sequence_rows<F>(args, sequence);
  if (rows.first >= rows.end) return;

  const bool pooled = State::kPresent && args.operand[State::kOperand] != nullptr;
  const long long slot = sequence_slot<F>(args, sequence);
  const RowFate fate = sequence_fate<F>(args, slot, pooled);
  if (!fate.computed) {
    for (int row = rows.first; fate.filled && first_column == 0 && row < rows.end; ++row) {
      fill_head<F, Output>(part<Output>(args, row), head, fate.filler);
    }
    return;
  }

  using Shared = ChunkShared<F>;
  GDN_SHARED(Shared, shared);
  static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of a block");
  Chunks<F, HandedTokens<F>> chunks(shared, HandedTokens<F>(args, head, first_column), first_column);
  if constexpr (State::kPresent) {
    const bool starts = has_initial_state<F>(args, sequence);
    if (pooled && starts) chunks.template load_state<State>(part<State>(args, slot) + State::base(head));
  }
  chunks.run(rows);
  if constexpr (State::kPresent && F::kFinalStates) {
    if (pooled) chunks.template store_state<State>(part<State>(args, slot) + State::base(head));
  }
}

}  // namespace gdn
