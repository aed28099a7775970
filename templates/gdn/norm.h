// The two norms of the layer: q and k over the key channels before the delta rule, and o over the value channels after
// it, with weight and gate. Sums go over the lanes of one wave; `x` and friends lie in shared memory.
#pragma once

#include "gdn/map.h"

namespace gdn {

// ---- q and k --------------------------------------------------------------------------------------------------------

// What q and k are multiplied by: their norms' inverses and their scales. And q . k after that.
struct QkFactors {
  float q, k, product;
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
  float sums[3] = {0.0f, 0.0f, 0.0f};
  GDN_UNROLL
  for (int i = 0; i < F::kKeyDim; i += kWaveSize) {
    const int channel = i + lane_id();
    if (F::kKeyDim % kWaveSize == 0 || channel < F::kKeyDim) {
      sums[0] += q[channel] * q[channel];
      sums[1] += k[channel] * k[channel];
      sums[2] += q[channel] * k[channel];
    }
  }
  sum_over_lanes<kWaveSize>(sums);
  QkFactors factors{inverse_norm<F>(sums[0]) * F::kQScale, inverse_norm<F>(sums[1]) * F::kKScale, 0.0f};
  if constexpr (sizeof(typename F::RoundQk) == sizeof(float)) {
    factors.product = sums[2] * factors.q * factors.k;
  } else {  // the product of what q and k were rounded to
    float sum[1] = {0.0f};
    GDN_UNROLL
    for (int i = 0; i < F::kKeyDim; i += kWaveSize) {
      const int channel = i + lane_id();
      if (F::kKeyDim % kWaveSize == 0 || channel < F::kKeyDim) {
        sum[0] += normalised<F>(q[channel], factors.q) * normalised<F>(k[channel], factors.k);
      }
    }
    sum_over_lanes<kWaveSize>(sum);
    factors.product = sum[0];
  }
  return factors;
}

// ---- o --------------------------------------------------------------------------------------------------------------

template <NormWeight kWeight>
GDN_DEVICE float norm_weight(float w) {
  return kWeight == NormWeight::kW ? w : kWeight == NormWeight::kOnePlusW ? 1.0f + w : 2.0f * (1.0f + w);
}

// Whether the layer has a norm of o, and whether z opens it. Without a norm `out` is o.
template <class F>
GDN_HD constexpr bool normalises() {
  return F::NormW::kPresent;
}
template <class F>
GDN_HD constexpr bool has_gates() {
  return normalises<F>() && F::kNormGate != Activation::kNone;
}

// act(z), which makes a number of `out`.
template <class F>
GDN_DEVICE float gate_of(float z) {
  return activate_for<F::kNormGate, typename F::Out::Element>(z);
}

// act(z) of one value head to shared memory, by all threads of the block, each its share of the deal. Done with the
// loads of the convolution, so that no load stands between the last of o and `out`.
template <class F>
GDN_DEVICE void fetch_gates(const Args& args, int row, int head, Deal<F::kThreads>& deal, float* gates) {
  using Z = typename F::InputZ;
  // As wide as leaves half of the threads to others.
  constexpr int kWidth =
      smaller(inner_width<Z>(), power_of_two_above(larger(1, 2 * F::kGroup * Z::kRun / F::kThreads)));
  if constexpr (has_gates<F>()) {
    const auto z_head = part<Z>(args, row) + Z::base(head);
    for (int item = deal.first; item < Z::kRun / kWidth; item += F::kThreads) {
      float z[kWidth];
      load_run<typename Z::Element, kWidth, kWidth>(z_head + item * kWidth * Z::kInnerStride, z);
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) gates[item * kWidth + i] = gate_of<F>(z[i]);
    }
    deal.next_part(Z::kRun / kWidth);
  }
}

// o and act(z) of a head that lie in shared memory.
struct SharedNumbers {
  const float* from;
  template <int kCount>
  GDN_DEVICE void read(int channel, float (&x)[kCount]) const {
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) x[i] = from[channel + i];
  }
};

// How a wave deals out the channels of a head: piece by piece, where a piece is what one group of the quantised output
// has of the head (all of it without quantisation, or where a group is larger). kLanes lanes take a piece; a wave has
// kAtOnce pieces under way and takes the head in kBatches of them, each in kTurns.
template <class F>
struct HeadShare {
  using Out = typename F::Out;
  static constexpr int kValueDim = F::kValueDim;
  static constexpr int kPiece = F::kQuantGroup > 0 ? common_divisor(F::kQuantGroup, kValueDim) : kValueDim;
  static constexpr int kPieces = kValueDim / kPiece;
  // Accesses as wide as the operands allow, but no wider than gives every lane of the wave its share.
  static constexpr int kWidth =
      smaller(smaller(F::NormW::kInnerStride == 1 ? inner_width<Out>() : 1, power_of_two_in(kPiece)),
              power_of_two_above(larger(1, kValueDim / kWaveSize)));
  static constexpr int kLanes = smaller(kWaveSize, power_of_two_above(ceil_div(kPiece, kWidth)));
  static constexpr int kTurns = ceil_div(kPiece, kLanes* kWidth);
  static constexpr int kAtOnce = kWaveSize / kLanes;
  static constexpr int kBatches = ceil_div(kPieces, kAtOnce);
  static constexpr bool kWhole = kPiece == kLanes * kWidth * kTurns && kPieces == kAtOnce * kBatches;

  GDN_DEVICE static int piece(int batch) { return batch * kAtOnce + lane_id() / kLanes; }
  GDN_DEVICE static int channel_in_piece(int turn) { return (turn * kLanes + lane_id() % kLanes) * kWidth; }
  GDN_DEVICE static int channel(int batch, int turn) { return piece(batch) * kPiece + channel_in_piece(turn); }
  GDN_DEVICE static bool inside(int batch, int turn) {
    return kWhole || (piece(batch) < kPieces && channel_in_piece(turn) < kPiece);
  }
  // The lane that speaks for a piece.
  GDN_DEVICE static bool speaks(int batch) { return lane_id() % kLanes == 0 && piece(batch) < kPieces; }
};

// The norm's weights of a lane's share of a head, asked for before they are needed: the bits, which nothing waits for.
template <class F>
class NormWeights {
  using Share = HeadShare<F>;
  using W = typename F::NormW;
  static constexpr int kWidth = Share::kWidth, kSteps = Share::kBatches * Share::kTurns;
  static constexpr int kAccess = smaller(inner_width<W>(), kWidth);
  using Piece = Pack<typename W::Element, kAccess>;

 public:
  GDN_DEVICE void fetch(const Args& args) {
    const auto weights = part<W>(args) + W::base(0);
    GDN_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      const int batch = step / Share::kTurns, turn = step % Share::kTurns;
      if (!Share::inside(batch, turn)) continue;
      GDN_UNROLL
      for (int i = 0; i < kWidth / kAccess; ++i) {
        piece_[step][i] = load_pack<typename W::Element, kAccess>(
            weights + (Share::channel(batch, turn) + i * kAccess) * W::kInnerStride);
      }
    }
  }
  GDN_DEVICE float get(int step, int i) const { return piece_[step][i / kAccess].get(i % kAccess); }

 private:
  Piece piece_[kSteps][kWidth / kAccess] = {};
};

// One value head of `out` by one wave, which holds it in registers:
//
//   norm then gate:  y = (round(o / rms(o)) * w' + bias) * act(z)
//   gate then norm:  y = round(x / rms(x)) * w' + bias  with x = o * act(z)
//
// In steps, so that a caller can put together what several waves or blocks have of a head or of a group: read, then
// normalise with the sum of all squares of the head, then write; quantised, the largest magnitude of each group in
// between. Gates give act(z) as SharedNumbers do; they are not read where the layer has none.
template <class F>
class GatedNorm {
  using Share = HeadShare<F>;
  using W = typename F::NormW;
  using B = typename F::NormB;
  using Out = typename F::Out;
  static constexpr int kWidth = Share::kWidth, kSteps = Share::kBatches * Share::kTurns;
  static constexpr bool kGated = F::kNormGate != Activation::kNone;

 public:
  // Reads the head and returns the sum of its squares; every lane gets it.
  template <class Numbers, class Gates>
  GDN_DEVICE float read(const Numbers& o, const Gates& gates) {
    float sum[1] = {0.0f};
    for_each([&](int step, int channel, bool inside) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) y_[step][i] = 0.0f;
      if (!inside) return;
      o.read(channel, y_[step]);
      if constexpr (kGated && !F::kNormBeforeGate) multiply(y_[step], gates, channel);
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) sum[0] += y_[step][i] * y_[step][i];
    });
    sum_over_lanes<kWaveSize>(sum);
    return sum[0];
  }

  template <class Gates>
  GDN_DEVICE void normalise(const Args& args, float sum_of_squares, const Gates& gates) {
    constexpr int kWeightWidth = smaller(inner_width<W>(), kWidth);
    const auto weights = part<W>(args) + W::base(0);
    normalise_with(args, sum_of_squares, gates, [&](int, int channel, float(&w)[kWidth]) {
      load_run<typename W::Element, kWidth, kWeightWidth>(weights + channel * W::kInnerStride, w);
    });
  }

  // With weights that were asked for before.
  template <class Gates>
  GDN_DEVICE void normalise(const Args& args, const NormWeights<F>& weights, float sum_of_squares, const Gates& gates) {
    normalise_with(args, sum_of_squares, gates, [&](int step, int, float(&w)[kWidth]) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) w[i] = weights.get(step, i);
    });
  }

  GDN_DEVICE void write(const Args& args, int row, int head) const {
    const auto out = part<Out>(args, row) + Out::base(head);
    for_each([&](int step, int channel, bool inside) {
      if (inside) store_run<typename Out::Element, kWidth, kWidth>(out + channel * Out::kInnerStride, y_[step]);
    });
  }

  // The largest magnitude of this lane's piece of each batch, which all lanes of the piece get.
  GDN_DEVICE void largest(float (&amax)[Share::kBatches]) const {
    GDN_UNROLL
    for (int batch = 0; batch < Share::kBatches; ++batch) amax[batch] = 0.0f;
    for_each([&](int step, int, bool) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const float size = magnitude(y_[step][i]);
        float& most = amax[step / Share::kTurns];
        most = size > most ? size : most;
      }
    });
    largest_over_lanes<Share::kLanes>(amax);
  }

  // With the scale of the group that this lane's piece of each batch belongs to.
  GDN_DEVICE void write(const Args& args, int row, int head, const float (&scale)[Share::kBatches]) const;

 private:
  // weigh(step, channel, w) puts the weights of a step's channels into w.
  template <class Gates, class Weigh>
  GDN_DEVICE void normalise_with(const Args& args, float sum_of_squares, const Gates& gates, Weigh weigh) {
    const float factor = inverse_root(sum_of_squares * (1.0f / F::kValueDim) + F::kNormEps);
    for_each([&](int step, int channel, bool inside) {
      if (!inside) return;
      float w[kWidth];
      weigh(step, channel, w);
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) y_[step][i] *= factor;
      round_run<typename F::RoundNorm>(y_[step]);
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) y_[step][i] *= norm_weight<F::kNormWeight>(w[i]);
      if constexpr (B::kPresent) {
        constexpr int kBiasWidth = smaller(inner_width<B>(), kWidth);
        load_run<typename B::Element, kWidth, kBiasWidth>(part<B>(args) + B::base(0) + channel * B::kInnerStride, w);
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) y_[step][i] += w[i];
      }
      if constexpr (kGated && F::kNormBeforeGate) multiply(y_[step], gates, channel);
      if constexpr (F::kQuantGroup > 0) round_run<typename F::QuantFrom>(y_[step]);
    });
  }

  // visit(step, channel of its first number, whether there is one)
  template <class Visit>
  GDN_DEVICE static void for_each(Visit visit) {
    GDN_UNROLL
    for (int batch = 0; batch < Share::kBatches; ++batch) {
      GDN_UNROLL
      for (int turn = 0; turn < Share::kTurns; ++turn) {
        visit(batch * Share::kTurns + turn, Share::channel(batch, turn), Share::inside(batch, turn));
      }
    }
  }

  template <class Gates>
  GDN_DEVICE static void multiply(float (&y)[kWidth], const Gates& gates, int channel) {
    float gate[kWidth];
    gates.read(channel, gate);
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) y[i] *= gate[i];
  }

  float y_[kSteps][kWidth];
};

}  // namespace gdn
