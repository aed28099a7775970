#include "oracle/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

namespace gdn::oracle {
namespace {

constexpr int kDoubleMantissa = 52;
constexpr int kDoubleBias = 1023;

// Rounds a double to a binary format with `exponent_bits` and `mantissa_bits` (without the hidden one).
template <int exponent_bits, int mantissa_bits>
std::uint32_t encode(double value) {
  constexpr int kBias = (1 << (exponent_bits - 1)) - 1;
  constexpr int kDropped = kDoubleMantissa - mantissa_bits;
  constexpr std::uint32_t kInfinity = ((1u << exponent_bits) - 1u) << mantissa_bits;

  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t sign = static_cast<std::uint32_t>(bits >> 63) << (exponent_bits + mantissa_bits);
  const int exponent = static_cast<int>((bits >> kDoubleMantissa) & 0x7ff);
  const std::uint64_t mantissa = bits & ((std::uint64_t{1} << kDoubleMantissa) - 1);

  if (exponent == 0x7ff) {
    if (mantissa == 0) return sign | kInfinity;
    const std::uint32_t payload = static_cast<std::uint32_t>(mantissa >> kDropped);
    return sign | kInfinity | payload | (1u << (mantissa_bits - 1));
  }

  const int biased = exponent - kDoubleBias + kBias;
  if (biased >= 1) {
    // A carry out of the mantissa moves into the exponent, and from the largest exponent into infinity.
    if (biased >= (1 << exponent_bits)) return sign | kInfinity;
    std::uint64_t joined = (static_cast<std::uint64_t>(biased) << kDoubleMantissa) | mantissa;
    joined += ((std::uint64_t{1} << (kDropped - 1)) - 1) + ((joined >> kDropped) & 1);
    const std::uint32_t rounded = static_cast<std::uint32_t>(joined >> kDropped);
    return sign | (rounded > kInfinity ? kInfinity : rounded);
  }

  // Denormal in the target: the hidden one becomes explicit and moves right.
  const int shift = kDropped + 1 - biased;
  if (exponent == 0 || shift > kDoubleMantissa + 1) return sign;
  const std::uint64_t full = mantissa | (std::uint64_t{1} << kDoubleMantissa);
  const std::uint64_t kept = full >> shift;
  const std::uint64_t rest = full & ((std::uint64_t{1} << shift) - 1);
  const std::uint64_t half = std::uint64_t{1} << (shift - 1);
  return sign | static_cast<std::uint32_t>(kept + (rest > half || (rest == half && (kept & 1)) ? 1 : 0));
}

template <int exponent_bits, int mantissa_bits>
double tie_distance(double value) {
  constexpr int kLowest = 2 - (1 << (exponent_bits - 1));
  if (value == 0 || !std::isfinite(value)) return 0.5;
  const int exponent = std::max(std::ilogb(value), kLowest);
  const double in_last_place = std::ldexp(std::fabs(value), mantissa_bits - exponent);
  return std::fabs(in_last_place - std::floor(in_last_place) - 0.5);
}

[[noreturn]] void refuse(core::DType dtype) {
  throw std::invalid_argument("the oracle does not convert " + std::string(core::to_string(dtype)));
}

bool is_e4m3(core::DType dtype) { return dtype == core::DType::kE4m3fn || dtype == core::DType::kE4m3fnuz; }

// Codes without a sign are numbers from 0 up to this one, in ascending order; what follows in e4m3fn is NaN.
int last_code(core::DType dtype) { return dtype == core::DType::kE4m3fn ? 0x7e : 0x7f; }

double magnitude_of(core::DType dtype, int code) {
  const int bias = dtype == core::DType::kE4m3fn ? 7 : 8;
  const int exponent = code >> 3, mantissa = code & 7;
  return exponent == 0 ? std::ldexp(mantissa, -2 - bias) : std::ldexp(8 + mantissa, exponent - bias - 3);
}

template <class Bits>
Bits bits_at(const std::byte* from) {
  Bits bits{};
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

template <class Bits>
void put(std::byte* to, Bits bits) {
  std::memcpy(to, &bits, sizeof bits);
}

}  // namespace

std::uint32_t to_fp32_bits(double value) { return encode<8, 23>(value); }
std::uint16_t to_bf16_bits(double value) { return static_cast<std::uint16_t>(encode<8, 7>(value)); }
std::uint16_t to_fp16_bits(double value) { return static_cast<std::uint16_t>(encode<5, 10>(value)); }

std::uint8_t to_e4m3_bits(core::DType dtype, double value) {
  if (!is_e4m3(dtype)) refuse(dtype);
  const bool fn = dtype == core::DType::kE4m3fn;
  const std::uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return fn ? static_cast<std::uint8_t>(sign | 0x7f) : 0x80;
  // The first code that is not below the value, and which of it and its neighbour is nearer.
  const double size = std::fabs(value);
  int code = 0;
  while (code < last_code(dtype) && magnitude_of(dtype, code) < size) ++code;
  if (code > 0 && magnitude_of(dtype, code) > size) {
    const double above = magnitude_of(dtype, code) - size, below = size - magnitude_of(dtype, code - 1);
    if (below < above || (below == above && code % 2 == 1)) --code;
  }
  if (code == 0 && !fn) return 0;
  return static_cast<std::uint8_t>(sign | code);
}

double from_e4m3_bits(core::DType dtype, std::uint8_t code) {
  if (!is_e4m3(dtype)) refuse(dtype);
  const int size = code & 0x7f;
  if (size > last_code(dtype) || (dtype == core::DType::kE4m3fnuz && code == 0x80)) return std::nan("");
  return std::copysign(magnitude_of(dtype, size), (code & 0x80) ? -1.0 : 1.0);
}

double from_fp32_bits(std::uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return static_cast<double>(value);
}

double from_bf16_bits(std::uint16_t bits) { return from_fp32_bits(static_cast<std::uint32_t>(bits) << 16); }

double from_fp16_bits(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int mantissa = bits & 0x3ff;
  double magnitude = 0;
  if (exponent == 0x1f) {
    magnitude = mantissa == 0 ? HUGE_VAL : std::nan("");
  } else if (exponent == 0) {
    magnitude = std::ldexp(mantissa, -24);
  } else {
    magnitude = std::ldexp(mantissa + 1024, exponent - 25);
  }
  return std::copysign(magnitude, (bits & 0x8000) ? -1.0 : 1.0);
}

double round_to(core::DType dtype, double value) {
  switch (dtype) {
    case core::DType::kFp32:
      return from_fp32_bits(to_fp32_bits(value));
    case core::DType::kBf16:
      return from_bf16_bits(to_bf16_bits(value));
    case core::DType::kFp16:
      return from_fp16_bits(to_fp16_bits(value));
    case core::DType::kE4m3fn:
    case core::DType::kE4m3fnuz:
      return from_e4m3_bits(dtype, to_e4m3_bits(dtype, value));
    default:
      refuse(dtype);
  }
}

double distance_from_tie(core::DType dtype, double value) {
  switch (dtype) {
    case core::DType::kFp32:
      return tie_distance<8, 23>(value);
    case core::DType::kBf16:
      return tie_distance<8, 7>(value);
    case core::DType::kFp16:
      return tie_distance<5, 10>(value);
    default:
      refuse(dtype);
  }
}

double load(core::DType dtype, const std::byte* from) {
  switch (dtype) {
    case core::DType::kFp32:
      return from_fp32_bits(bits_at<std::uint32_t>(from));
    case core::DType::kBf16:
      return from_bf16_bits(bits_at<std::uint16_t>(from));
    case core::DType::kFp16:
      return from_fp16_bits(bits_at<std::uint16_t>(from));
    case core::DType::kInt32:
      return bits_at<std::int32_t>(from);
    case core::DType::kInt64:
      return static_cast<double>(bits_at<std::int64_t>(from));
    case core::DType::kUint8:
      return bits_at<std::uint8_t>(from);
    case core::DType::kE4m3fn:
    case core::DType::kE4m3fnuz:
      return from_e4m3_bits(dtype, bits_at<std::uint8_t>(from));
    default:
      refuse(dtype);
  }
}

void store(core::DType dtype, std::byte* to, double value) {
  switch (dtype) {
    case core::DType::kFp32:
      return put(to, to_fp32_bits(value));
    case core::DType::kBf16:
      return put(to, to_bf16_bits(value));
    case core::DType::kFp16:
      return put(to, to_fp16_bits(value));
    case core::DType::kInt32:
      return put(to, static_cast<std::int32_t>(value));
    case core::DType::kInt64:
      return put(to, static_cast<std::int64_t>(value));
    case core::DType::kUint8:
      return put(to, static_cast<std::uint8_t>(value));
    case core::DType::kE4m3fn:
    case core::DType::kE4m3fnuz:
      return put(to, to_e4m3_bits(dtype, value));
    default:
      refuse(dtype);
  }
}

}  // namespace gdn::oracle
