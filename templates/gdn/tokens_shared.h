// What the tokens of a turn of decode_spec have in shared memory, and how the pieces of a state reach memory again.
#pragma once

#include "gdn/delta.h"
#include "gdn/draft.h"

namespace gdn {

template <class F>
GDN_HD constexpr bool replays() {
  return F::kRollback == Rollback::kReplay;
}

// What a value head's numbers are multiplied by where warps take products (token_products.h): of tokens t, records and
// earlier tokens s, [s][t].
struct TokenFactors {
  alignas(16) float x[4], y[4], beta[4], weight[4];
  float old_x[4][4], old_y[4][4], new_x[4][4], new_y[4][4];
  float all;
  unsigned zero, unused[2];
};
constexpr int kOperandsOfProducts = 16;  // words of each key channel; the generator's block_limits.cpp has the same

// And the operands of those products, as lanes take them.
template <class F, int kHeads, bool kProducts = F::kProducts != 0>
struct ProductsShared {};
template <class F, int kHeads>
struct ProductsShared<F, kHeads, true> {
  alignas(16) unsigned token[F::kKeyDim / 16][32][4];
  alignas(16) unsigned record[F::kKeyDim / 32][32][4];
  alignas(16) float dots[F::kKeyDim / 16][8][8];
  TokenFactors factors[kHeads];
};

// The value heads that a block works on at a time: as many as fit in 48 KB with all tokens' numbers.
template <class F>
GDN_HD constexpr int token_heads_at_once() {
  constexpr bool kProducts = F::kProducts != 0;
  const int shared = F::kTokens * (2 * F::kKeyDim + 1 + (replays<F>() ? F::kKeyDim : 0)) +
                     (kProducts ? kOperandsOfProducts * F::kKeyDim : 0);
  const int a_head = F::kTokens * (2 * F::kValueDim + decays_of_head<F>() + 1 +
                                   (replays<F>() ? F::kValueDim + decays_of_head<F>() : 0)) +
                     (kProducts ? static_cast<int>(sizeof(TokenFactors) / 4) : 0);
  return smaller(heads_of_part<F>(), larger(1, (12 * 1024 - 64 - shared) / a_head));
}

// What the tokens of a turn have in shared memory.
template <class F>
struct TokensShared : ProductsShared<F, token_heads_at_once<F>()>, InboxShared<F, token_heads_at_once<F>()> {
  static constexpr int kHeads = token_heads_at_once<F>();
  static constexpr int kRecords = replays<F>() ? F::kTokens : 1;  // of the launch before
  alignas(16) float q[F::kTokens][F::kKeyDim];                    // convolved, then normalised
  alignas(16) float k[F::kTokens][F::kKeyDim];
  alignas(16) float vo[F::kTokens][kHeads * F::kValueDim];                          // v; then o, rounded to rounding.o
  alignas(16) float gates[F::kTokens][has_gates<F>() ? kHeads * F::kValueDim : 1];  // act(z)
  alignas(16) float old_k[kRecords][replays<F>() ? F::kKeyDim : 1];
  alignas(16) float old_u[kRecords][replays<F>() ? kHeads * F::kValueDim : 1];
  alignas(16) float old_decay[kRecords][replays<F>() ? kHeads * decays_of_head<F>() : 1];
  alignas(16) float decay[F::kTokens][kHeads * decays_of_head<F>()];  // exp(g)
  float beta[F::kTokens][kHeads];
  float product[F::kTokens];  // q . k
  // Of the tokens' states, where each has one of its own.
  long long own_slot[F::kRollback == Rollback::kSlots ? F::kTokens : 1];

  // As of DeltaShared: the decay of a whole head, and that of a key channel; one of the two is 1.
  GDN_DEVICE static float head_decay(const float* decay, int head) {
    return decays_by_channel<F>() ? 1.0f : decay[head];
  }
  GDN_DEVICE static float channel_decay(const float* decay, int head, int channel) {
    return decays_by_channel<F>() ? decay[head * decays_of_head<F>() + channel] : 1.0f;
  }
};

// Normalises q and k of all tokens where they stand: waves take tokens in turn. Between two barriers.
template <class F>
GDN_DEVICE void normalise_tokens(TokensShared<F>& shared, int tokens) {
  for_items<F::kTokens, F::kThreads / kWaveSize>(wave_id(), tokens, [&](int t) {
    const QkFactors factors = qk_factors<F>(shared.q[t], shared.k[t]);
    const float product = factors.product;
    for (int channel = lane_id(); channel < F::kKeyDim; channel += kWaveSize) {
      shared.q[t][channel] = normalised<F>(shared.q[t][channel], factors.q);
      shared.k[t][channel] = normalised<F>(shared.k[t][channel], factors.k);
    }
    if (lane_id() == 0) shared.product[t] = product;
  });
}

// kCount numbers whose neighbours lie kStride apart in M, at an address that M's alignment allows.
template <class M, int kCount, int kStride, bool kEvictFirst = false>
GDN_DEVICE void store_along(MapElements<M> to, const float (&x)[kCount]) {
  using Element = typename M::Element;
  if constexpr (kStride == 1) {
    constexpr int kWidth =
        access_width<Element>(smaller(M::kAlign, smaller(power_of_two_in(M::kOuterStride == 1 ? 0 : M::kOuterStride),
                                                         power_of_two_in(M::kInnerStride == 1 ? 0 : M::kInnerStride))),
                              kCount);
    GDN_UNROLL
    for (int i = 0; i < kCount; i += kWidth) {
      float piece[kWidth];
      GDN_UNROLL
      for (int j = 0; j < kWidth; ++j) piece[j] = x[i + j];
      Pack<Element, kWidth> pack;
      pack.set(piece);
      store_stream<Pack<Element, kWidth>::kBytes, kEvictFirst>(to + i, pack.raw);
    }
  } else {
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) store_one<Element>(to + i * kStride, x[i]);
  }
}

}  // namespace gdn
