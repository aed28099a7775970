// The gated delta rule of a few tokens of one sequence, with the recurrent state read once (see delta.h for the rule).
//
// A piece of the state stays in registers, as fp32, while all tokens go over it; what a token adds is stored where the
// scheme of roll-back wants it. Each token does to the state what a decode step does, in the same order of operations,
// so that an fp32 state has the same bits whichever way its tokens came.
#pragma once

#include "gdn/token_columns.h"
#include "gdn/token_rows.h"

namespace gdn {

template <bool kColumns, class F>
struct TokenChoice {
  using Type = TokenRows<F>;
};
template <class F>
struct TokenChoice<true, F> {
  using Type = TokenColumns<F>;
};

template <class F>
using DeltaTokens = typename TokenChoice<(F::State::kOuterStride == 1 && F::State::kInnerStride != 1), F>::Type;

}  // namespace gdn
