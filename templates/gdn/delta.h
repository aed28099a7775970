// The gated delta rule of one token, with the recurrent state streamed through registers once.
//
//   S <- exp(g) S;  u = beta (v - S^T k);  o = (S + k u^T)^T q;  S <- S + k u^T      (S is K x V)
//
// exp(g) is one number for a value head (gdn) or one for each key channel, a row of S (kda).
//
// The state is almost all the memory that a decode step touches, so it is read once and written once: while a row is
// in registers both S^T k and S^T q are summed over it, and o is then exp(g) S^T q + (q . k) u, with no second sum to
// wait for. o never sees the state rounded to its storage type. A head's decay is multiplied into the sums, channels'
// decays into the state before it is summed; the bodies do both, and one of the two factors is the constant 1, which
// costs nothing. So is the scale of a row of an 8-bit state (state_store.h), whose next one is made of the updated row
// while it is in registers.
//
// Two ways to deal out the state, by which channel its memory has innermost:
//   DeltaRows     a row of memory is one value channel: a few lanes share it and sum over its key channels.
//                 No barrier: once v, q, k and the gates are in shared memory, each wave runs on its own.
//   DeltaColumns  a row of memory is one key channel: the block takes a slab of value channels, for all key channels,
//                 so wide that it covers whole lines of memory; its sums cross the waves through shared memory.
#pragma once

#include "gdn/delta_columns.h"
#include "gdn/delta_rows.h"

namespace gdn {

template <bool kColumns, class F>
struct DeltaChoice {
  using Type = DeltaRows<F>;
};
template <class F>
struct DeltaChoice<true, F> {
  using Type = DeltaColumns<F>;
};

// Columns where the value channels are adjacent in memory; rows serve every other layout, element by element where
// neither channel is.
template <class F>
using Delta = typename DeltaChoice<(F::State::kOuterStride == 1 && F::State::kInnerStride != 1), F>::Type;

}  // namespace gdn
