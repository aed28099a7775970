// fp32 to and from the two 8-bit types, as integers: what a machine without the instructions runs, and what those that
// have them must agree with, code for code.
//
// To 8 bits: to nearest, ties to even; beyond the largest number, the largest; NaN stays NaN. Every code's value is
// exact in fp32. Sources: OCP 8-bit Floating Point Specification 1.0 (e4m3fn); Noune et al., arXiv 2206.02915
// (e4m3fnuz).
#pragma once

#include "gdn/config.h"

namespace gdn {

template <class E>
struct EightBit;

template <>
struct EightBit<E4m3fn> {
  static constexpr int kBias = 7;
  static constexpr float kLargest = 448.0f;
  static constexpr unsigned kNan = 0x7fu, kSignOfZero = 0x80u;
  GDN_DEVICE static bool is_nan(unsigned code) { return (code & 0x7fu) == 0x7fu; }
};

template <>
struct EightBit<E4m3fnuz> {
  static constexpr int kBias = 8;
  static constexpr float kLargest = 240.0f;
  static constexpr unsigned kNan = 0x80u, kSignOfZero = 0u;  // its negative zero is NaN
  GDN_DEVICE static bool is_nan(unsigned code) { return code == 0x80u; }
};

// 2^e as fp32.
GDN_DEVICE float power_of_two(int e) { return float_of(static_cast<unsigned>(e + 127) << 23); }

template <class E>
GDN_DEVICE float float_by_bits(unsigned code) {
  using T = EightBit<E>;
  const unsigned sign = (code & 0x80u) << 24;
  const unsigned exponent = (code >> 3) & 15u, mantissa = code & 7u;
  const float denormal = static_cast<float>(mantissa) * power_of_two(-2 - T::kBias);
  const unsigned normal = ((exponent + 127u - T::kBias) << 23) | mantissa << 20;
  const unsigned magnitude = exponent == 0u ? bits_of(denormal) : normal;
  return T::is_nan(code) ? float_of(0x7fc00000u) : float_of(sign | magnitude);
}

template <class E>
GDN_DEVICE unsigned code_by_bits(float x) {
  using T = EightBit<E>;
  const unsigned sign = bits_of(x) >> 24 & 0x80u;
  unsigned bits = bits_of(x) & 0x7fffffffu;
  if (bits > 0x7f800000u) return T::kNan == 0x80u ? T::kNan : sign | T::kNan;
  bits = bits > bits_of(T::kLargest) ? bits_of(T::kLargest) : bits;
  // Below the smallest normal number all codes are one distance apart: added to a number whose last place is that
  // distance, the magnitude is rounded by the addition itself.
  const float anchor = power_of_two(23 - 2 - T::kBias);
  const unsigned denormal = bits_of(float_of(bits) + anchor) - bits_of(anchor);
  const unsigned rounded = bits + 0x7ffffu + (bits >> 20 & 1u);  // 20 bits go
  const unsigned normal = (rounded >> 20) - ((127u - T::kBias) << 3);
  const unsigned magnitude = bits < (static_cast<unsigned>(128 - T::kBias) << 23) ? denormal : normal;
  return magnitude == 0u ? sign & T::kSignOfZero : sign | magnitude;
}

// ---- with the machine's own instructions where it has them
// -------------------------------------------------------------

#if defined(GDN_ON_CUDA) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
#define GDN_HAS_E4M3FN 1
GDN_DEVICE unsigned e4m3fn_pair(float low, float high) {
  unsigned short codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
}
GDN_DEVICE float float_of_e4m3fn(unsigned code) {
  unsigned halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<unsigned short>(code)));
  return half_to_float(static_cast<unsigned short>(halves & 0xffffu));
}
#elif defined(GDN_ON_AMD) && (defined(__gfx950__) || defined(__gfx1200__) || defined(__gfx1201__))
#define GDN_HAS_E4M3FN 1
#elif defined(GDN_ON_AMD) && defined(__gfx942__)
#define GDN_HAS_E4M3FNUZ 1
#endif

#if defined(GDN_ON_AMD) && (defined(GDN_HAS_E4M3FN) || defined(GDN_HAS_E4M3FNUZ))
// The instruction does not saturate by itself. The comparisons let a NaN through.
template <class E>
GDN_DEVICE unsigned amd_pair(float low, float high) {
  constexpr float kLargest = EightBit<E>::kLargest;
  low = low > kLargest ? kLargest : low < -kLargest ? -kLargest : low;
  high = high > kLargest ? kLargest : high < -kLargest ? -kLargest : high;
  return static_cast<unsigned>(__builtin_amdgcn_cvt_pk_fp8_f32(low, high, 0, false)) & 0xffffu;
}
#endif

// Two codes, `low` in the lowest byte.
template <class E>
GDN_DEVICE unsigned code_pair(float low, float high) {
  return code_by_bits<E>(low) | code_by_bits<E>(high) << 8;
}
template <class E>
GDN_DEVICE float float_of_code(unsigned code) {
  return float_by_bits<E>(code);
}

#if defined(GDN_HAS_E4M3FN)
template <>
GDN_DEVICE unsigned code_pair<E4m3fn>(float low, float high) {
#if defined(GDN_ON_CUDA)
  return e4m3fn_pair(low, high);
#else
  return amd_pair<E4m3fn>(low, high);
#endif
}
template <>
GDN_DEVICE float float_of_code<E4m3fn>(unsigned code) {
#if defined(GDN_ON_CUDA)
  return float_of_e4m3fn(code);
#else
  return __builtin_amdgcn_cvt_f32_fp8(static_cast<int>(code), 0);
#endif
}
#elif defined(GDN_HAS_E4M3FNUZ)
template <>
GDN_DEVICE unsigned code_pair<E4m3fnuz>(float low, float high) {
  return amd_pair<E4m3fnuz>(low, high);
}
template <>
GDN_DEVICE float float_of_code<E4m3fnuz>(unsigned code) {
  return __builtin_amdgcn_cvt_f32_fp8(static_cast<int>(code), 0);
}
#endif

}  // namespace gdn
