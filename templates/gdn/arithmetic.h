// The seam's arithmetic (see config.h).
//
// exp2, log2, square_root, inverse_root and quotient are good to about 2 ulp of fp32 on every target; `fused` rounds
// once. exp2_fast and reciprocal_fast are as good, but may give 0 for what lies below 2^-126; log2_fast errs by 2^-22,
// which is much of a logarithm near 0; tanh_fast errs by 2^-11 of its value, where it is one instruction.
#pragma once

#include "gdn/qualifiers.h"

namespace gdn {

#if defined(GDN_ON_CUDA)

GDN_DEVICE unsigned bits_of(float x) { return __float_as_uint(x); }
GDN_DEVICE float float_of(unsigned bits) { return __uint_as_float(bits); }
GDN_DEVICE float exp2(float x) { return exp2f(x); }
GDN_DEVICE float log2(float x) { return log2f(x); }
GDN_DEVICE float square_root(float x) { return sqrtf(x); }
GDN_DEVICE float inverse_root(float x) { return rsqrtf(x); }
GDN_DEVICE float quotient(float x, float y) { return __fdividef(x, y); }
GDN_DEVICE float fused(float x, float y, float z) { return fmaf(x, y, z); }
GDN_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
GDN_DEVICE float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
[[maybe_unused]] constexpr bool kHasFastTanh = true;
GDN_DEVICE float tanh_fast(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
GDN_DEVICE float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

GDN_DEVICE float half_to_float(unsigned short bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
GDN_DEVICE unsigned short float_to_half(float x) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
GDN_DEVICE unsigned short float_to_bf16(float x) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
// Two numbers in one word, `low` in the low half.
GDN_DEVICE unsigned float_to_bf16_pair(float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
GDN_DEVICE unsigned float_to_half_pair(float low, float high) {
  unsigned bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

#else

// bf16 is the upper half of fp32: round to nearest, ties to even, by adding just under half of the last place kept. A
// NaN must not be rounded: the carry could turn it into infinity.
GDN_DEVICE unsigned short bf16_by_bits(unsigned bits) {
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<unsigned short>((bits >> 16) | 0x40u);
  return static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#if defined(GDN_ON_AMD)

GDN_DEVICE unsigned bits_of(float x) { return __builtin_bit_cast(unsigned, x); }
GDN_DEVICE float float_of(unsigned bits) { return __builtin_bit_cast(float, bits); }
GDN_DEVICE float exp2(float x) { return __builtin_exp2f(x); }
GDN_DEVICE float log2(float x) { return __builtin_log2f(x); }
GDN_DEVICE float square_root(float x) { return __builtin_sqrtf(x); }
GDN_DEVICE float inverse_root(float x) { return __builtin_amdgcn_rsqf(x); }
GDN_DEVICE float quotient(float x, float y) { return x * __builtin_amdgcn_rcpf(y); }
GDN_DEVICE float fused(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
#if __has_builtin(__builtin_amdgcn_exp2f)
GDN_DEVICE float exp2_fast(float x) { return __builtin_amdgcn_exp2f(x); }
GDN_DEVICE float log2_fast(float x) { return __builtin_amdgcn_logf(x); }
#else  // before clang 18
GDN_DEVICE float exp2_fast(float x) { return __builtin_exp2f(x); }
GDN_DEVICE float log2_fast(float x) { return __builtin_log2f(x); }
#endif
GDN_DEVICE float reciprocal_fast(float x) { return __builtin_amdgcn_rcpf(x); }
[[maybe_unused]] constexpr bool kHasFastTanh = false;
GDN_DEVICE float tanh_fast(float x) { return 1.0f - 2.0f * reciprocal_fast(1.0f + exp2_fast(x * 2.885390082f)); }

GDN_DEVICE float half_to_float(unsigned short bits) { return static_cast<float>(__builtin_bit_cast(_Float16, bits)); }
GDN_DEVICE unsigned short float_to_half(float x) {
  return __builtin_bit_cast(unsigned short, static_cast<_Float16>(x));
}
GDN_DEVICE unsigned short float_to_bf16(float x) {
#if defined(__gfx950__)
  return __builtin_bit_cast(unsigned short, static_cast<__bf16>(x));  // one v_cvt_pk_bf16_f32
#else
  return bf16_by_bits(bits_of(x));
#endif
}

#else

GDN_DEVICE unsigned bits_of(float x) { return gdn_host::bit_cast<unsigned>(x); }
GDN_DEVICE float float_of(unsigned bits) { return gdn_host::bit_cast<float>(bits); }
GDN_DEVICE float exp2(float x) { return __builtin_exp2f(x); }
GDN_DEVICE float log2(float x) { return __builtin_log2f(x); }
GDN_DEVICE float square_root(float x) { return __builtin_sqrtf(x); }
GDN_DEVICE float inverse_root(float x) { return 1.0f / __builtin_sqrtf(x); }
GDN_DEVICE float quotient(float x, float y) { return x / y; }
GDN_DEVICE float fused(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
GDN_DEVICE float exp2_fast(float x) { return x < -126.0f ? 0.0f : exp2(x); }
GDN_DEVICE float log2_fast(float x) { return log2(x); }
GDN_DEVICE float reciprocal_fast(float x) { return 1.0f / x; }
[[maybe_unused]] constexpr bool kHasFastTanh = true;
GDN_DEVICE float tanh_fast(float x) {  // as far off as the instruction may be, away from 0
  return float_of((bits_of(__builtin_tanhf(x)) + 0xfffu) & ~0x1fffu);
}

GDN_DEVICE float half_to_float(unsigned short bits) { return gdn_host::half_to_float(bits); }
GDN_DEVICE unsigned short float_to_half(float x) { return gdn_host::float_to_half(x); }
GDN_DEVICE unsigned short float_to_bf16(float x) { return bf16_by_bits(bits_of(x)); }

#endif

// Two numbers in one word, `low` in the low half.
GDN_DEVICE unsigned float_to_bf16_pair(float low, float high) {
  return float_to_bf16(low) | static_cast<unsigned>(float_to_bf16(high)) << 16;
}
GDN_DEVICE unsigned float_to_half_pair(float low, float high) {
  return float_to_half(low) | static_cast<unsigned>(float_to_half(high)) << 16;
}

#endif

}  // namespace gdn
