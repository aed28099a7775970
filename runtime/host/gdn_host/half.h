// fp16 by arithmetic, so that every compiler has it. Denormals included; round to nearest, ties to even.
#pragma once

#include <cstring>

#pragma GCC visibility push(hidden)
namespace gdn_host {

template <class To, class From>
To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

inline float half_to_float(unsigned short half) {
  const unsigned sign = (half & 0x8000u) << 16;
  const unsigned exponent = (half >> 10) & 0x1fu;
  const unsigned mantissa = half & 0x3ffu;
  if (exponent == 0x1f) return bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return bit_cast<float>(sign | bit_cast<unsigned>(magnitude));
  }
  return bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

inline unsigned short float_to_half(float x) {
  const unsigned bits = bit_cast<unsigned>(x);
  const unsigned sign = (bits >> 16) & 0x8000u;
  const unsigned magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<unsigned short>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<unsigned short>(sign | 0x7c00u);  // 65520 and above
  if (magnitude < 0x38800000u) {
    // Below 2^-14: a multiple of 2^-24. Adding 1/2 leaves just those bits of the sum, rounded by the hardware.
    const unsigned sum = bit_cast<unsigned>(bit_cast<float>(magnitude) + 0.5f);
    return static_cast<unsigned short>(sign | (sum - 0x3f000000u));
  }
  const unsigned rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<unsigned short>(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace gdn_host
#pragma GCC visibility pop
