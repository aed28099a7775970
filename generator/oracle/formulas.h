// The formulas of a Gated DeltaNet layer around the recurrence, in double, without any rounding.
#pragma once

#include <vector>

#include "spec/spec.h"

namespace gdn::oracle {

double sigmoid(double x);

// log(1 + exp(x)), exact at both ends. A threshold above 0 gives the kernels' short cut: x itself above it.
double softplus(double x, double threshold);

// What a conv's activation makes of x: x, x * sigmoid(x), or sigmoid(x).
double activate(core::Activation activation, double x);

// What the gate z multiplies the output by: 1, z * sigmoid(z), or sigmoid(z).
double gate_factor(core::Activation activation, double z);

// The factor that q or k is multiplied by so that its norm is one: `squares` is the sum of its n squares.
double norm_factor(core::EpsAt eps_at, double eps, double squares, int n);

// g, the natural logarithm of the decay, from the logit a of a head (GDN) or of a head's key channel (KDA), the stored
// A_log or -exp(A_log) of the head, and dt_bias:
//   softplus: -exp(A_log) * softplus(a + dt_bias)      bounded: bound * sigmoid(exp(A_log) * (a + dt_bias))
// Where there is no A_log, exp(A_log) is 1 and `a_log` is not looked at.
double log_decay(const spec::Decay& decay, double a, double a_log, double dt_bias);

// beta from the projection's b: factor * sigmoid(b).
double beta_of(const spec::Beta& beta, double b);

// g between domains: ln (natural logarithm), log2, exp (the decay itself). Throws std::invalid_argument for others.
double from_ln(core::Domain domain, double g);
double to_ln(core::Domain domain, double g);

// One channel of the conv, before its activation. `weight` has conv.width taps and `window` conv.window rows, both in
// the spec's order; `current` is the token's own input. With u_{t-m} the input m tokens ago and w_m its weight:
// bias + sum_{m=0}^{width-1} w_m u_{t-m}.
double conv_channel(const spec::Conv& conv, const double* weight, const double* window, double current, double bias);

// The sum of the absolute values of the same terms: what the error of another summation is measured against.
double conv_magnitude(const spec::Conv& conv, const double* weight, const double* window, double current, double bias);

// The window after the token, in place: `rows` becomes what the pool holds next, oldest input first. `stored` is the
// token's raw input.
void shift_window(const spec::Conv& conv, double* rows, double stored);

// Brings the inputs behind the `count` oldest of a window anchored first to its front, for every channel of a part.
void discard_oldest(const spec::Spec& spec, int count, std::vector<double>& windows);

// How many rows, counted from the first, shift_window may change.
int shifted_rows(const spec::Conv& conv);

// The factor of the output norm's weight: w, 1 + w or 2 * (1 + w).
double weight_factor(core::NormWeight weight, double w);

}  // namespace gdn::oracle
