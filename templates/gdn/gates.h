// The two gates of a value head: beta, how much of the new value is written, and g <= 0, the logarithm of the decay:
// one number for the head (gdn) or one for each of its key channels (kda: `a` and dt_bias have channels, A_log none).
//
//   beta = factor * sigmoid(b)
//   g    = -exp(A_log) * softplus(a + dt_bias)          softplus form
//   g    = bound * sigmoid(exp(A_log) * (a + dt_bias))  bounded form
//
// Without an A_log, exp(A_log) is 1.
#pragma once

#include "gdn/map.h"

namespace gdn {

// A number per value head of a part in a token's row, or of a parameter.
template <class M>
GDN_DEVICE float head_number(MapElements<M> from, int head) {
  return load_one<typename M::Element>(from + M::base(head));
}

template <class F>
GDN_DEVICE float beta_of(const Args& args, int row, int head) {
  const float b = head_number<typename F::InputB>(part<typename F::InputB>(args, row), head);
  return rounded<typename F::RoundBeta>(F::kBetaFactor * sigmoid(b));
}

// Whether a value head forgets each key channel at its own rate.
template <class F>
GDN_HD constexpr bool decays_by_channel() {
  return F::kRule == Rule::kKda;
}

// How many decays a value head has.
template <class F>
GDN_HD constexpr int decays_of_head() {
  return decays_by_channel<F>() ? F::kKeyDim : 1;
}

// -exp(A_log) of a value head.
template <class F>
GDN_DEVICE float negative_rate_of(const Args& args, int head) {
  if constexpr (F::kAStored == AStored::kAbsent) {
    return -1.0f;
  } else {
    const float stored = head_number<typename F::ALog>(part<typename F::ALog>(args), head);
    return F::kAStored == AStored::kNegativeExp ? stored : -exponential(stored);
  }
}

template <class F>
GDN_DEVICE float log_decay(float negative_rate, float a_with_bias) {
  if constexpr (F::kDecayForm == DecayForm::kSoftplus) {
    return negative_rate * softplus(a_with_bias, F::kSoftplusThreshold);
  } else {
    return F::kDecayBound * sigmoid(-negative_rate * a_with_bias);
  }
}

// log2 of the same decay to 1e-5 of itself, in a third of the instructions: where a chunk's rates are summed,
// exponentials of the sums keep no more.
template <class F>
GDN_DEVICE float log2_decay_fast(float negative_rate, float a_with_bias) {
  if constexpr (F::kDecayForm == DecayForm::kSoftplus) {
    // log2(1 + e) by its series where 1 + e would lose e's places.
    const float x = a_with_bias * kLog2E, e = exp2_fast(-(x < 0.0f ? -x : x));
    const float series = e * fused(e, fused(e, kLog2E / 3.0f, kLog2E / -2.0f), kLog2E);
    float y = (x > 0.0f ? x : 0.0f) + (e < 1.0f / 64 ? series : log2_fast(1.0f + e));
    if (F::kSoftplusThreshold > 0.0f && F::kSoftplusThreshold < 16.0f && a_with_bias > F::kSoftplusThreshold) y = x;
    return negative_rate * y;
  } else {
    return F::kDecayBound * kLog2E * reciprocal_fast(1.0f + exp2_fast(negative_rate * kLog2E * a_with_bias));
  }
}

// g of a value head (gdn).
template <class F>
GDN_DEVICE float log_decay_of(const Args& args, int row, int head) {
  static_assert(!decays_by_channel<F>(), "this head has a decay for each key channel");
  const float a = head_number<typename F::InputA>(part<typename F::InputA>(args, row), head);
  const float bias = head_number<typename F::DtBias>(part<typename F::DtBias>(args), head);
  return log_decay<F>(negative_rate_of<F>(args, head), a + bias);
}

// Neighbouring key channels that one thread takes at a time, in whichever operation: as many as `a` allows, but no more
// than leave every thread a share of the block's kGroup * kKeyDim.
template <class F, class M>
GDN_HD constexpr int decay_width() {
  return smaller(inner_width<M>(), power_of_two_above(larger(1, F::kGroup * F::kKeyDim / F::kThreads)));
}

// g of a value head's key channels (kda), each thread its share of the deal: sink(channel, g) takes
// decay_width<F, InputA>() numbers of neighbouring channels.
template <class F, class Sink>
GDN_DEVICE void log_decays(const Args& args, int row, int head, Deal<F::kThreads>& deal, Sink sink) {
  using A = typename F::InputA;
  using Bias = typename F::DtBias;
  static_assert(A::kRun == F::kKeyDim && Bias::kRun == F::kKeyDim, "a and dt_bias of a kda layer have key channels");
  constexpr int kWidth = decay_width<F, A>();
  const auto a_head = part<A>(args, row) + A::base(head);
  const auto bias_head = part<Bias>(args) + Bias::base(head);
  for (int item = deal.first; item < F::kKeyDim / kWidth; item += F::kThreads) {
    float a[kWidth];
    float bias[kWidth];
    float g[kWidth];
    load_run<typename A::Element, kWidth, kWidth>(a_head + item * kWidth * A::kInnerStride, a);
    if constexpr (Bias::kInnerStride == 1) {
      load_run<typename Bias::Element, kWidth, smaller(kWidth, inner_width<Bias>())>(bias_head + item * kWidth, bias);
    } else {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        bias[i] = load_one<typename Bias::Element>(bias_head + (item * kWidth + i) * Bias::kInnerStride);
      }
    }
    const float negative_rate = negative_rate_of<F>(args, head);
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) g[i] = log_decay<F>(negative_rate, a[i] + bias[i]);
    sink(item * kWidth, g);
  }
  deal.next_part(F::kKeyDim / kWidth);
}

// exp(g) of a head's key channels, to shared memory.
struct DecaysToShared {
  float* to;
  template <int kChannels>
  GDN_DEVICE void operator()(int channel, const float (&g)[kChannels]) const {
    GDN_UNROLL
    for (int i = 0; i < kChannels; ++i) to[channel + i] = exponential(g[i]);
  }
};

// g as it is handed from one part to the next, in the domain that the spec names, and back to the decay exp(g).
template <class F>
GDN_DEVICE float handover_of_log_decay(float g) {
  if constexpr (F::kGHandover == Domain::kLog2) {
    return g * kLog2E;
  } else if constexpr (F::kGHandover == Domain::kExp) {
    return exponential(g);
  } else {
    return g;
  }
}

template <class F>
GDN_DEVICE float decay_of_handover(float g) {
  if constexpr (F::kGHandover == Domain::kLog2) {
    return exp2(g);
  } else if constexpr (F::kGHandover == Domain::kExp) {
    return g;
  } else {
    return exponential(g);
  }
}

// log2 of a decay. One that is 0 to fp32 is as good as any below 2^-256: sums of it stay finite, and differences of the
// sums numbers.
// `unit`: of what x is counted in, log2.
GDN_DEVICE float bounded_log2(float x, float unit = 1.0f) { return x < -256.0f * unit ? -256.0f * unit : x; }

// log2 of the decay out of a number that was handed over.
template <class F>
GDN_DEVICE float log2_decay_of_handover(float g) {
  if constexpr (F::kGHandover == Domain::kExp) {
    return bounded_log2(log2(g));
  } else if constexpr (F::kGHandover == Domain::kLn) {
    return bounded_log2(g * kLog2E);
  } else {
    return bounded_log2(g);
  }
}

// The decays of a value head's key channels (kda) out of the g that was handed over, to shared memory, by all threads
// of the block.
template <class F>
GDN_DEVICE void fetch_decays(const Args& args, int row, int head, float* to) {
  using G = typename F::InputG;
  static_assert(G::kRun == F::kKeyDim, "g of a kda layer has key channels");
  constexpr int kWidth = decay_width<F, G>();
  const auto g_head = part<G>(args, row) + G::base(head);
  for (int i = thread_id() * kWidth; i < F::kKeyDim; i += F::kThreads * kWidth) {
    float g[kWidth];
    load_run<typename G::Element, kWidth, kWidth>(g_head + i * G::kInnerStride, g);
    GDN_UNROLL
    for (int j = 0; j < kWidth; ++j) to[i + j] = decay_of_handover<F>(g[j]);
  }
}

}  // namespace gdn
