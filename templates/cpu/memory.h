// Sixteen elements between memory and a vector register, whatever their type and however far apart they lie.
//
// Neighbours move as one vector. 16-bit elements 2 to 4 apart (a DS window, conv weights with the taps innermost) move
// through word permutes, 32-bit elements through gather and scatter, and other 16-bit elements (and without AVX-512 all
// that have strides) one at a time through the frame: right for every stride, fast for the ones that engines use.
// Nothing outside the sixteen elements is written, and nothing before the first or behind the last is read.
//
// A raw vector holds 8-bit elements in the lowest quarter (xmm), 16-bit elements in the low half (ymm), 32-bit elements
// in the whole register. bf16 is rounded by vcvtneps2bf16: to nearest even, with results below 2^-126 in magnitude
// flushed to zero. The 8-bit types are those of gdn/eight_bit.h, code for code.
#pragma once

#include <cstdint>

#include "cpu/context.h"

namespace gdn::cpu {

// zmm29 to zmm31, k1 and rax are the scratch registers of everything below; no other register may change.
constexpr int kScratch = 29;

struct Vector16 {
  Reg64 base;                     // address of the first element is base + displacement
  std::int64_t displacement = 0;  // bytes
  core::DType dtype = core::DType::kFp32;
  std::int64_t stride = 1;  // elements
};

// Memory to a raw vector and back. `source` and `target` are not scratch registers.
void load_raw(Context& c, int target, const Vector16& from);
void store_raw(Context& c, const Vector16& to, int source);

// Between a raw vector and fp32; in place is allowed.
void widen(Context& c, int target, int source, core::DType dtype);
void narrow(Context& c, int target, int source, core::DType dtype);

// Memory to fp32 and back; store leaves the source as it is.
void load(Context& c, int target, const Vector16& from);
void store(Context& c, const Vector16& to, int source);

// The largest number of an 8-bit type.
float largest_of(core::DType dtype);

// Rounds fp32 values to `dtype` and back to fp32; nothing for kFp32.
void round_to(Context& c, int target, core::DType dtype);

// One element between memory and the frame, where it is fp32. Uses rax and zmm31.
void load_scalar(Context& c, int frame_offset, const Reg64& index, const Reg64& base, core::DType dtype);
void store_scalar(Context& c, const Reg64& base, core::DType dtype, int frame_offset, const Reg64& index);

}  // namespace gdn::cpu
