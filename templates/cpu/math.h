// Elementary functions over vectors of fp32, relative error about 2e-7 unless said. NaN stays NaN.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// Registers are numbers of vector registers; `t1` to `t3` are changed and must differ from `x` and from each other.

// x <- e^x. Saturates at e^-104 (zero) and at the largest finite power, about e^88.7.
void emit_exp(Context& c, int x, int t1, int t2);

// x <- 2^x for x at most 127; zero below -200.
void emit_exp2(Context& c, int x, int t1, int t2);

// x <- log2(x) for x from 0 to 1e38; at least -200, which is what zero and subnormal numbers give.
void emit_log2(Context& c, int x, int t1, int t2, int t3);

// x <- 1 / (1 + e^-x). Below -87 it stays at 1.6e-38.
void emit_sigmoid(Context& c, int x, int t1, int t2);

// x <- activation(x): x * sigmoid(x), sigmoid(x), or x.
void emit_activation(Context& c, core::Activation activation, int x, int t1, int t2, int t3);

// The same for a result that goes on as `rounded` and need not be what rounding the exact one gives. Where that is
// bf16, SiLU has a relative error of 7e-5, a fiftieth of the rounding's, in two thirds of the instructions; not with
// registers in halves, whose reciprocal is a division.
void emit_activation_for(Context& c, core::Activation activation, core::DType rounded, int x, int t1, int t2, int t3);

// x <- ln(1 + e^x), relative error also for results near 0; x itself above `threshold` where that is positive.
// Changes k1.
void emit_softplus(Context& c, double threshold, int x, int t1, int t2, int t3, int t4);

// Adds up the lanes of two vectors: every lane of the low half of `sums` holds the sum of x's lanes, every lane of its
// high half the sum of y's. `t` is changed; `sums` may be x or y.
void emit_sum_pair(Context& c, int sums, int x, int y, int t);

// x, every lane <- the largest of its lanes. `t` is changed.
void emit_max_lanes(Context& c, int x, int t);

}  // namespace gdn::cpu
