// The two gates of a value head: beta, how much of the new value is written, and g <= 0, the logarithm of the decay.
//
//   beta = factor * sigmoid(b)
//   g    = -exp(A_log) * softplus(a + dt_bias)          softplus form
//   g    = bound * sigmoid(exp(A_log) * (a + dt_bias))  bounded form
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

template <class F>
GDN_DEVICE float log_decay_of(const Args& args, int row, int head) {
  const float a = head_number<typename F::InputA>(part<typename F::InputA>(args, row), head);
  const float bias = head_number<typename F::DtBias>(part<typename F::DtBias>(args), head);
  const float stored = head_number<typename F::ALog>(part<typename F::ALog>(args), head);
  const float negative_rate = F::kAStored == AStored::kNegativeExp ? stored : -exponential(stored);
  if constexpr (F::kDecayForm == DecayForm::kSoftplus) {
    return negative_rate * softplus(a + bias, F::kSoftplusThreshold);
  } else {
    return F::kDecayBound * sigmoid(-negative_rate * (a + bias));
  }
}

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

}  // namespace gdn
