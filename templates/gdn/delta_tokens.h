// The gated delta rule of a few tokens of one sequence, with the recurrent state read once (see delta.h for the rule):
//
//   TokenRows      a state whose memory has the key channel innermost
//   TokenColumns   any other
//   TokenProducts  replay over a bf16 state of the first kind by matrix products, where the plan says so
//
// The first two:
// A piece of the state stays in registers, as fp32, while all tokens go over it; what a token adds is stored where the
// scheme of roll-back wants it. Each token does to the state what a decode step does, in the same order of operations,
// so that an fp32 state has the same bits whichever way its tokens came.
#pragma once

#include "gdn/token_columns.h"
#include "gdn/token_rows.h"
#if defined(GDN_ON_CUDA) || (defined(GDN_ON_HOST) && GDN_HOST_WAVE == 32)
#include "gdn/token_products.h"
#endif

namespace gdn {

// AMD has none: the plan leaves them out.
template <class F>
class TokenProducts;

enum class TokenBody : unsigned char { kRows, kColumns, kProducts };

template <TokenBody kBody, class F>
struct TokenChoice {
  using Type = TokenRows<F>;
};
template <class F>
struct TokenChoice<TokenBody::kColumns, F> {
  using Type = TokenColumns<F>;
};
template <class F>
struct TokenChoice<TokenBody::kProducts, F> {
  using Type = TokenProducts<F>;
};

template <class F>
using DeltaTokens =
    typename TokenChoice<F::kProducts != 0                                            ? TokenBody::kProducts
                         : F::State::kOuterStride == 1 && F::State::kInnerStride != 1 ? TokenBody::kColumns
                                                                                      : TokenBody::kRows,
                         F>::Type;

}  // namespace gdn
