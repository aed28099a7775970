// Numbers to and from the bits of an element type, in plain integer arithmetic.
//
// Rounding is to nearest even and happens once: a double goes to bf16 or fp16 directly, not by way of a float. NaN
// stays NaN (quiet, sign kept), infinities and denormals are kept, overflow becomes infinity (IEEE 754-2019, 4.3.1 and
// 7.4; bf16 is the upper half of binary32).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace gdn::oracle {

std::uint32_t to_fp32_bits(double value);
std::uint16_t to_bf16_bits(double value);
std::uint16_t to_fp16_bits(double value);

// The code nearest to the value, ties to the even code; beyond the largest number (448, 240) the largest. NaN stays NaN
// (0x7f with its sign; 0x80 in e4m3fnuz, which has no negative zero). OCP 8-bit Floating Point Specification 1.0; Noune
// et al., arXiv 2206.02915. Throws std::invalid_argument for another type.
std::uint8_t to_e4m3_bits(core::DType dtype, double value);
double from_e4m3_bits(core::DType dtype, std::uint8_t code);

double from_fp32_bits(std::uint32_t bits);
double from_bf16_bits(std::uint16_t bits);
double from_fp16_bits(std::uint16_t bits);

// The nearest value that `dtype` (fp32, bf16, fp16 or an e4m3) holds.
double round_to(core::DType dtype, double value);

// How far `value` lies from the nearest point where round_to changes its result, in units of the last place there:
// 0 on a tie, at most 0.5. A computation whose own error is below this rounds to the same number.
double distance_from_tie(core::DType dtype, double value);

// One element at `from` (no alignment needed); of an e4m3 the code's own value, without its scale. Throws
// std::invalid_argument for another type.
double load(core::DType dtype, const std::byte* from);

// Rounds and writes one element. Integers are written exactly as given.
void store(core::DType dtype, std::byte* to, double value);

}  // namespace gdn::oracle
