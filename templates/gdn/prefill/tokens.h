// What the bodies of prefill do alike with a chunk's tokens and with a sequence, wherever q, k, v and the gates come
// from and o goes.
#pragma once

#include "gdn/gates.h"
#include "gdn/norm.h"
#include "gdn/prefill/chunk.h"

namespace gdn {

// A row of q or k as the rule reads it, by one wave: normalised, rounded to prefill.qk, scaled. number_at(channel) is
// asked once for each channel.
template <class F, class NumberAt>
GDN_DEVICE void put_unit_row(float* to, float scale, NumberAt number_at) {
  constexpr int kEach = ceil_div(F::kKeyDim, kWaveSize);
  float x[kEach];
  float squares[1] = {0.0f};
  GDN_UNROLL
  for (int i = 0; i < kEach; ++i) {
    const int c = i * kWaveSize + lane_id();
    x[i] = c < F::kKeyDim ? number_at(c) : 0.0f;
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

// The block's columns of o of n tokens from `row` on, rounded to rounding.o.
template <class F, class Output>
GDN_DEVICE void put_columns(const Args& args, int row, int n, int head, int first_column, const float* o) {
  constexpr int kColumns = ChunkShape<F>::kColumns;
  for (int at = thread_id(); at < n * kColumns; at += F::kThreads) {
    const int i = at / kColumns;
    const int channel = first_column + at % kColumns;
    if (channel >= F::kValueDim) continue;
    store_one<typename Output::Element>(
        part<Output>(args, row + i) + Output::base(head) + channel * Output::kInnerStride,
        rounded<typename F::RoundO>(o[at]));
  }
}

// A sequence from its first state to its last, by the block of a value head and the columns from `first_column` on.
// fill(row, value) fills the head's results of a row that is not computed; make_tokens(sequence) gives what Chunks
// reads from and writes to; `windows`: the launch has conv windows, by slot.
template <class F, class Fill, class MakeTokens>
GDN_DEVICE void walk_sequence(const Args& args, int number, int head, int first_column, bool windows, Fill fill,
                              MakeTokens make_tokens) {
  using State = typename F::State;
  const bool states = has_pool<State>(args);
  const Sequence sequence = sequence_of_launch<F>(args, number, states || windows);
  const SequenceRows& rows = sequence.rows;
  if (rows.first >= rows.end) return;
  if (!sequence.fate.computed) {
    for (int row = rows.first; sequence.fate.filled && first_column == 0 && row < rows.end; ++row) {
      fill(row, sequence.fate.filler);
    }
    return;
  }

  using Shared = ChunkShared<F>;
  GDN_SHARED(Shared, shared);
  static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of a block");
  auto tokens = make_tokens(sequence);
  Chunks<F, decltype(tokens)> chunks(shared, tokens, first_column);
  if constexpr (State::kPresent) {
    const auto at = part<State>(args, states ? sequence.slot : 0) + State::base(head);
    if (states && sequence.initial) chunks.template load_state<State>(at);
    chunks.run(rows, Snapshots<F>(args, rows.first), [&](long long slot) {
      if (states) chunks.template store_state<State>(part<State>(args, slot) + State::base(head));
    });
    if (states && F::kFinalStates) chunks.template store_state<State>(at);
  } else {
    chunks.run(rows, Snapshots<F>(args, rows.first), [](long long) {});
  }
}

}  // namespace gdn
