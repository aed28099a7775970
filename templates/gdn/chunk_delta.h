// chunk_delta: the gated delta rule over whole sequences, on q, k and v after the convolution and on computed gates, as
// they are handed over; q and k are normalised here, rounded to prefill.qk and then scaled.
//
//   states     a sequence starts from its slot or from zeros (prefill.initial_states), and leaves its last state there
//              where prefill.final_states wants it; without a pool (null) it starts from zeros and leaves nothing
//   empty      a sequence without tokens touches nothing
//   padding    a sequence whose slot is padding or outside the pools: row_fate in map.h, for each of its tokens
//   grid       x = sequences, y = value heads * slices of value channels
#pragma once

#include "gdn/prefill/tokens.h"

namespace gdn {

// A chunk's numbers from the tensors that are handed over, and o back to them.
template <class F>
class HandedTokens {
  using Shape = ChunkShape<F>;
  static constexpr int kTokens = Shape::kTokens, kStride = Shape::kStride, kColumns = Shape::kColumns;

 public:
  GDN_DEVICE HandedTokens(const Args& args, int head, int first_column)
      : args_(args), head_(head), key_head_(key_head_of<F>(head)), first_column_(first_column) {}

  GDN_DEVICE void fetch(int row, int n, ChunkShared<F>& shared) const {
    for (int i = wave_id(); i < kTokens; i += F::kThreads / kWaveSize) {
      put_unit_row<F>(shared.q + i * kStride, F::kQScale,
                      [&](int c) { return i < n ? number<typename F::InputQ>(row + i, key_head_, c) : 0.0f; });
      put_unit_row<F>(shared.k + i * kStride, F::kKScale,
                      [&](int c) { return i < n ? number<typename F::InputK>(row + i, key_head_, c) : 0.0f; });
    }
    for (int at = thread_id(); at < kTokens * kColumns; at += F::kThreads) {
      const int i = at / kColumns;
      const int channel = first_column_ + at % kColumns;
      const bool inside = i < n && channel < F::kValueDim;
      shared.v[at] = inside ? number<typename F::InputV>(row + i, head_, channel) : 0.0f;
    }
    using G = typename F::InputG;
    if constexpr (Shape::kByChannel) {
      for (int at = thread_id(); at < n * F::kKeyDim; at += F::kThreads) {
        const int i = at / F::kKeyDim;
        const int c = at % F::kKeyDim;
        shared.u[i * kStride + c] = log2_decay_of_handover<F>(number<G>(row + i, head_, c));
      }
    }
    for (int i = thread_id(); i < kTokens; i += F::kThreads) {
      shared.beta[i] = i < n ? number<typename F::InputBeta>(row + i, head_, 0) : 0.0f;
      if constexpr (!Shape::kByChannel) {
        shared.g[i] = i < n ? log2_decay_of_handover<F>(number<G>(row + i, head_, 0)) : 0.0f;
      }
    }
  }

  GDN_DEVICE void put(int row, int n, const ChunkShared<F>& shared) const {
    put_columns<F, typename F::OutputO>(args_, row, n, head_, first_column_, shared.o);
  }

 private:
  template <class M>
  GDN_DEVICE float number(int row, int head, int channel) const {
    return load_one<typename M::Element>(part<M>(args_, row) + M::base(head) + channel * M::kInnerStride);
  }

  const Args& args_;
  int head_;
  int key_head_;
  int first_column_;
};

template <class F>
GDN_DEVICE void chunk_delta(const Args& args) {
  using Shape = ChunkShape<F>;
  const int head = block_head() / Shape::kSlices;
  const int first_column = block_head() % Shape::kSlices * Shape::kColumns;
  using O = typename F::OutputO;
  walk_sequence<F>(
      args, block_row(), head, first_column, false,
      [&](int row, float value) { fill_head<F, O>(part<O>(args, row), head, value); },
      [&](const Sequence&) { return HandedTokens<F>(args, head, first_column); });
}

}  // namespace gdn
