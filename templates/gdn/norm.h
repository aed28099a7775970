// The two norms of the layer: q and k over the key channels before the delta rule, and o over the value channels after
// it, with weight and gate. Sums go over the lanes of one wave; `x` and friends lie in shared memory.
#pragma once

#include "gdn/map.h"

namespace gdn {

// ---- q and k --------------------------------------------------------------------------------------------------------

// What q and k are multiplied by: their norms' inverses and their scales.
struct QkFactors {
  float q, k;
};

template <class F>
GDN_DEVICE float inverse_norm(float sum_of_squares) {
  if constexpr (!F::kQkNorm) {
    return 1.0f;
  } else if constexpr (F::kQkEpsAt == EpsAt::kSum) {
    return inverse_root(sum_of_squares + F::kQkEps);
  } else if constexpr (F::kQkEpsAt == EpsAt::kMean) {
    return inverse_root(sum_of_squares + F::kQkEps * F::kKeyDim);  // 1 / sqrt(mean + eps) / sqrt(n), under one root
  } else {
    const float norm = square_root(sum_of_squares);
    return quotient(1.0f, norm > F::kQkEps ? norm : F::kQkEps);
  }
}

// q or k as the delta rule reads it: normalised, scaled, rounded.
template <class F>
GDN_DEVICE float normalised(float x, float factor) {
  return rounded<typename F::RoundQk>(x * factor);
}

// Every wave computes the factors for itself: cheaper than a barrier to hear of them.
template <class F>
GDN_DEVICE QkFactors qk_factors(const float* q, const float* k) {
  float sums[2] = {0.0f, 0.0f};
  GDN_UNROLL
  for (int i = 0; i < F::kKeyDim; i += kWaveSize) {
    const int channel = i + lane_id();
    if (F::kKeyDim % kWaveSize == 0 || channel < F::kKeyDim) {
      sums[0] += q[channel] * q[channel];
      sums[1] += k[channel] * k[channel];
    }
  }
  if constexpr (F::kQkNorm) sum_over_lanes<kWaveSize>(sums);
  return {inverse_norm<F>(sums[0]) * F::kQScale, inverse_norm<F>(sums[1]) * F::kKScale};
}

// q . k after normalisation; every lane gets it.
template <class F>
GDN_DEVICE float qk_product(const float* q, const float* k, const QkFactors& factors) {
  float sum[1] = {0.0f};
  GDN_UNROLL
  for (int i = 0; i < F::kKeyDim; i += kWaveSize) {
    const int channel = i + lane_id();
    if (F::kKeyDim % kWaveSize == 0 || channel < F::kKeyDim) {
      sum[0] += normalised<F>(q[channel], factors.q) * normalised<F>(k[channel], factors.k);
    }
  }
  sum_over_lanes<kWaveSize>(sum);
  return sum[0];
}

// ---- o --------------------------------------------------------------------------------------------------------------

template <NormWeight kWeight>
GDN_DEVICE float norm_weight(float w) {
  return kWeight == NormWeight::kW ? w : kWeight == NormWeight::kOnePlusW ? 1.0f + w : 2.0f * (1.0f + w);
}

// act(z) of one value head to shared memory, by all threads of the block, each its share of the deal. Done with the
// loads of the convolution, so that no load stands between the last of o and `out`.
template <class F>
GDN_DEVICE void fetch_gates(const Args& args, int row, int head, Deal<F::kThreads>& deal, float* gates) {
  using Z = typename F::InputZ;
  constexpr int kWidth = smaller(inner_width<Z>(), power_of_two_above(larger(1, F::kGroup * Z::kRun / F::kThreads)));
  if constexpr (F::kNormGate != Activation::kNone) {
    const auto z_head = part<Z>(args, row) + Z::base(head);
    for (int item = deal.first; item < Z::kRun / kWidth; item += F::kThreads) {
      float z[kWidth];
      load_run<typename Z::Element, kWidth, kWidth>(z_head + item * kWidth * Z::kInnerStride, z);
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) gates[item * kWidth + i] = activate<F::kNormGate>(z[i]);
    }
    deal.next_part(Z::kRun / kWidth);
  }
}

// One value head of `out` by one wave, o and act(z) in shared memory:
//
//   norm then gate:  out = round(o / rms(o)) * w' * act(z)
//   gate then norm:  out = round(x / rms(x)) * w'  with x = o * act(z)
template <class F>
GDN_DEVICE void gated_norm(const Args& args, int row, int head, const float* o, const float* gates) {
  using W = typename F::NormW;
  using Out = typename F::Out;
  constexpr int kValueDim = F::kValueDim;
  // Accesses as wide as the operands allow, but no wider than gives every lane of the wave its share.
  constexpr int kWidth =
      smaller(W::kInnerStride == 1 ? inner_width<Out>() : 1, power_of_two_above(larger(1, kValueDim / kWaveSize)));
  constexpr int kWeightWidth = smaller(inner_width<W>(), kWidth);
  constexpr int kTurns = ceil_div(kValueDim, kWaveSize * kWidth);
  constexpr bool kWhole = kValueDim % (kWaveSize * kWidth) == 0;
  constexpr bool kGated = F::kNormGate != Activation::kNone;

  const auto weights = part<W>(args) + W::base(0);
  const auto out_head = part<Out>(args, row) + Out::base(head);

  float x[kTurns][kWidth];
  float sum[1] = {0.0f};
  GDN_UNROLL
  for (int turn = 0; turn < kTurns; ++turn) {
    const int channel = (turn * kWaveSize + lane_id()) * kWidth;
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      x[turn][i] = 0.0f;
      if (kWhole || channel < kValueDim) {
        x[turn][i] = kGated && !F::kNormBeforeGate ? o[channel + i] * gates[channel + i] : o[channel + i];
        sum[0] += x[turn][i] * x[turn][i];
      }
    }
  }
  sum_over_lanes<kWaveSize>(sum);
  const float factor = inverse_root(sum[0] * (1.0f / kValueDim) + F::kNormEps);

  GDN_UNROLL
  for (int turn = 0; turn < kTurns; ++turn) {
    const int channel = (turn * kWaveSize + lane_id()) * kWidth;
    if (kWhole || channel < kValueDim) {
      float y[kWidth];
      float w[kWidth];
      load_run<typename W::Element, kWidth, kWeightWidth>(weights + channel * W::kInnerStride, w);
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        y[i] = rounded<typename F::RoundNorm>(x[turn][i] * factor) * norm_weight<F::kNormWeight>(w[i]);
        if constexpr (kGated && F::kNormBeforeGate) y[i] *= gates[channel + i];
      }
      store_run<typename Out::Element, kWidth, kWidth>(out_head + channel * Out::kInnerStride, y);
    }
  }
}

}  // namespace gdn
