#include "cpu/math.h"

namespace gdn::cpu {
namespace {

// ln 2 in two pieces: n * kLn2High is exact for every exponent n of fp32.
constexpr float kLn2High = 0.693359375f;
constexpr float kLn2Low = -2.12194440e-4f;
constexpr float kLog2E = 1.44269504f;

// e^r on [-ln2/2, ln2/2], degree 6, interpolated at the Chebyshev nodes with the first two coefficients fixed at 1:
// relative error 8e-9 before rounding. Highest power first.
constexpr float kExp[] = {
    1.3926926911630483e-3f, 8.363773874335872e-3f, 4.166655011032689e-2f, 1.666657338190147e-1f, 0.5f, 1.0f, 1.0f};

// 2^r on [-1/2, 1/2]: the same polynomial with the powers of ln 2 in its coefficients.
constexpr float kExp2[] = {0.00015445716621818715f,
                           0.0013382263833244372f,
                           0.009618102202334293f,
                           0.05550379800355692f,
                           0.2402265069591007f,
                           0.6931471805599453f,
                           1.0f};

// 2^r on [0, 1] in fewer terms, minimax: relative error 2.6e-6.
constexpr float kShortExp2[] = {0.0135341679f, 0.0520114606f, 0.241442757f, 0.693003834f, 1.00000259f};

// atanh(s) / s as a polynomial of s^2 on [0, 1/9], interpolated at the Chebyshev nodes: relative error 1.6e-8.
constexpr float kAtanh[] = {1.342574903181678e-1f, 1.4118309898128883e-1f, 2.0003780322769135e-1f,
                            3.333332016834303e-1f, 1.0f};

template <std::size_t N>
void horner(Context& c, const float (&coefficients)[N], int result, int x) {
  c.e.vbroadcastss(zmm(result), c.e.scalar(coefficients[0]));
  for (std::size_t i = 1; i < N; ++i) c.e.vfmadd213ps(zmm(result), zmm(x), c.e.constant(coefficients[i]));
}

// The bounds stand in the first source: the instructions return the second one when either is NaN.
void clamp(Context& c, int x, float low, float high, int t) {
  c.e.vbroadcastss(zmm(t), c.e.scalar(low));
  c.e.vmaxps(zmm(x), zmm(t), zmm(x));
  c.e.vbroadcastss(zmm(t), c.e.scalar(high));
  c.e.vminps(zmm(x), zmm(t), zmm(x));
}

void bounded_exp(Context& c, int x, float low, float high, int t1, int t2) {
  clamp(c, x, low, high, t1);
  c.e.vmulps(zmm(t1), zmm(x), c.e.constant(kLog2E));
  c.e.vrndscaleps(zmm(t1), zmm(t1), imm8(0));
  c.e.vfnmadd231ps(zmm(x), zmm(t1), c.e.constant(kLn2High));
  c.e.vfnmadd231ps(zmm(x), zmm(t1), c.e.constant(kLn2Low));
  horner(c, kExp, t2, x);
  c.e.vscalefps(zmm(x), zmm(t2), zmm(t1));
}

void short_silu(Context& c, int x, int t1, int t2, int t3) {
  // As in clamp(): a NaN passes. Within the bounds 1 + 2^y and its reciprocal are normal numbers.
  c.e.vmulps(zmm(t1), zmm(x), c.e.constant(-kLog2E));
  clamp(c, t1, -125.0f, 125.0f, t2);
  constexpr int kToFloor = 0x09;  // of whole numbers, no exceptions: the same that vscalefps takes
  c.e.vreduceps(zmm(t2), zmm(t1), imm8(kToFloor));
  horner(c, kShortExp2, t3, t2);
  c.e.vscalefps(zmm(t3), zmm(t3), zmm(t1));
  c.e.vaddps(zmm(t3), zmm(t3), c.e.constant(1.0f));
  c.e.vrcp14ps(zmm(t3), zmm(t3));
  c.e.vmulps(zmm(x), zmm(x), zmm(t3));
}

}  // namespace

void emit_exp(Context& c, int x, int t1, int t2) { bounded_exp(c, x, -104.0f, 88.72f, t1, t2); }

void emit_exp2(Context& c, int x, int t1, int t2) {
  // As in clamp(): a NaN passes.
  c.e.vbroadcastss(zmm(t1), c.e.scalar(-200.0f));
  c.e.vmaxps(zmm(x), zmm(t1), zmm(x));
  c.e.vrndscaleps(zmm(t1), zmm(x), imm8(0));
  c.e.vsubps(zmm(x), zmm(x), zmm(t1));
  horner(c, kExp2, t2, x);
  c.e.vscalefps(zmm(x), zmm(t2), zmm(t1));
}

void emit_log2(Context& c, int x, int t1, int t2, int t3) {
  // x = m 2^n with m in [3/4, 3/2), ln m = 2 atanh((m - 1) / (m + 1)); n is the exponent of x / m, a power of two.
  constexpr int kFrom3Quarters = 3;
  c.e.vgetmantps(zmm(t1), zmm(x), imm8(kFrom3Quarters));
  c.e.vdivps(zmm(x), zmm(x), zmm(t1));
  c.e.vgetexpps(zmm(x), zmm(x));
  c.e.vaddps(zmm(t2), zmm(t1), c.e.constant(1.0f));
  c.e.vsubps(zmm(t1), zmm(t1), c.e.constant(1.0f));
  c.e.vdivps(zmm(t1), zmm(t1), zmm(t2));
  c.e.vmulps(zmm(t2), zmm(t1), zmm(t1));
  horner(c, kAtanh, t3, t2);
  c.e.vmulps(zmm(t3), zmm(t3), zmm(t1));
  c.e.vfmadd231ps(zmm(x), zmm(t3), c.e.constant(2 * kLog2E));
  c.e.vbroadcastss(zmm(t1), c.e.scalar(-200.0f));
  c.e.vmaxps(zmm(x), zmm(t1), zmm(x));
}

void emit_sigmoid(Context& c, int x, int t1, int t2) {
  c.e.vpxord(zmm(x), zmm(x), c.e.constant_bits(0x80000000u));
  // Up to e^87 the reciprocal is a normal number, which the approximation below needs.
  bounded_exp(c, x, -104.0f, 87.0f, t1, t2);
  c.e.vaddps(zmm(x), zmm(x), c.e.constant(1.0f));
  c.e.vrcp14ps(zmm(t1), zmm(x));
  c.e.vfnmadd213ps(zmm(x), zmm(t1), c.e.constant(1.0f));
  c.e.vfmadd213ps(zmm(x), zmm(t1), zmm(t1));
}

void emit_activation(Context& c, core::Activation activation, int x, int t1, int t2, int t3) {
  switch (activation) {
    case core::Activation::kNone:
      return;
    case core::Activation::kSigmoid:
      emit_sigmoid(c, x, t1, t2);
      return;
    case core::Activation::kSilu:
      c.e.vmovaps(zmm(t3), zmm(x));
      emit_sigmoid(c, x, t1, t2);
      c.e.vmulps(zmm(x), zmm(x), zmm(t3));
      return;
  }
}

void emit_activation_for(Context& c, core::Activation activation, core::DType rounded, int x, int t1, int t2, int t3) {
  if (activation == core::Activation::kSilu && rounded == core::DType::kBf16 && !c.e.is_narrow()) {
    short_silu(c, x, t1, t2, t3);
  } else {
    emit_activation(c, activation, x, t1, t2, t3);
  }
}

void emit_softplus(Context& c, double threshold, int x, int t1, int t2, int t3, int t4) {
  // max(x, 0) + ln(1 + y) with y = e^-|x| <= 1, and ln(1 + y) = 2 atanh(y / (2 + y)): no cancellation anywhere.
  c.e.vpord(zmm(t1), zmm(x), c.e.constant_bits(0x80000000u));
  emit_exp(c, t1, t2, t3);
  c.e.vaddps(zmm(t2), zmm(t1), c.e.constant(2.0f));
  c.e.vdivps(zmm(t1), zmm(t1), zmm(t2));
  c.e.vmulps(zmm(t2), zmm(t1), zmm(t1));
  horner(c, kAtanh, t3, t2);
  c.e.vaddps(zmm(t1), zmm(t1), zmm(t1));
  c.e.vpxord(zmm(t4), zmm(t4), zmm(t4));
  c.e.vmaxps(zmm(t4), zmm(t4), zmm(x));
  c.e.vfmadd231ps(zmm(t4), zmm(t1), zmm(t3));
  if (threshold > 0) {
    c.e.replace_where_greater(zmm(t4), zmm(x), c.e.constant(static_cast<float>(threshold)), zmm(x));
  }
  c.e.vmovaps(zmm(x), zmm(t4));
}

void emit_sum_pair(Context& c, int sums, int x, int y, int t) {
  // 128-bit pieces: t = x0 x1 y0 y1, sums = x2 x3 y2 y3; from there on both halves fold alike.
  c.e.vshuff64x2(zmm(t), zmm(x), zmm(y), imm8(0x44));
  c.e.vshuff64x2(zmm(sums), zmm(x), zmm(y), imm8(0xee));
  c.e.vaddps(zmm(sums), zmm(sums), zmm(t));
  c.e.vshuff64x2(zmm(t), zmm(sums), zmm(sums), imm8(0xb1));
  c.e.vaddps(zmm(sums), zmm(sums), zmm(t));
  c.e.vpermilps(zmm(t), zmm(sums), imm8(0x4e));
  c.e.vaddps(zmm(sums), zmm(sums), zmm(t));
  c.e.vpermilps(zmm(t), zmm(sums), imm8(0xb1));
  c.e.vaddps(zmm(sums), zmm(sums), zmm(t));
}

void emit_max_lanes(Context& c, int x, int t) {
  for (const int lanes : {0x4e, 0xb1}) {  // of 128 bits, then of 32
    c.e.vshuff64x2(zmm(t), zmm(x), zmm(x), imm8(lanes));
    c.e.vmaxps(zmm(x), zmm(x), zmm(t));
  }
  for (const int lanes : {0x4e, 0xb1}) {
    c.e.vpermilps(zmm(t), zmm(x), imm8(lanes));
    c.e.vmaxps(zmm(x), zmm(x), zmm(t));
  }
}

}  // namespace gdn::cpu
