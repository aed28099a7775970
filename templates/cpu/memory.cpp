#include "cpu/memory.h"

#include <fmt/format.h>

#include <limits>
#include <stdexcept>

namespace gdn::cpu {
namespace {

using core::DType;

constexpr int kIndex = 31;  // of gathers, scatters and permutes
constexpr int kHigh = 30;   // second half of a permuted pair
constexpr int kValue = 29;  // a narrowed copy on its way to memory
const Opmask kMask(1);

bool wide(DType dtype) { return core::size_of(dtype) == 4; }
bool eight_bit(DType dtype) { return core::size_of(dtype) == 1; }

bool permutable(Context& c, const Vector16& place) {
  return !c.e.is_narrow() && core::size_of(place.dtype) == 2 && place.stride >= 2 && place.stride <= 4;
}

// A raw vector between its register and memory.
void load_register(Context& c, DType dtype, int target, const Address& from) {
  if (wide(dtype)) {
    c.e.vmovups(zmm(target), from);
  } else if (eight_bit(dtype)) {
    c.e.vmovups(xmm(target), from);
  } else {
    c.e.vmovups(ymm(target), from);
  }
}

void store_register(Context& c, DType dtype, const Address& to, int source) {
  if (wide(dtype)) {
    c.e.vmovups(to, zmm(source));
  } else if (eight_bit(dtype)) {
    c.e.vmovups(to, xmm(source));
  } else {
    c.e.vmovups(to, ymm(source));
  }
}

std::array<std::uint32_t, 16> lane_offsets(std::int64_t stride) {
  std::array<std::uint32_t, 16> lanes{};
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    const std::int64_t offset = static_cast<std::int64_t>(i) * stride;
    if (offset < std::numeric_limits<std::int32_t>::min() || offset > std::numeric_limits<std::int32_t>::max()) {
      throw std::runtime_error(fmt::format("elements {} apart are beyond what a gather can address", stride));
    }
    lanes[i] = static_cast<std::uint32_t>(offset);
  }
  return lanes;
}

void set_mask(Context& c, std::uint32_t bits) {
  c.e.mov(reg::eax, bits);
  c.e.kmovd(kMask, reg::eax);
}

// The words of 16 elements `stride` apart lie in at most two registers; the masked load stops at the last element.
void load_permuted(Context& c, int target, const Vector16& from) {
  const int words = 15 * static_cast<int>(from.stride) + 1;
  const int rest = words > 32 ? words - 32 : words;
  std::array<std::uint16_t, 32> index{};
  for (std::size_t i = 0; i < 16; ++i) index[i] = static_cast<std::uint16_t>(i * static_cast<std::size_t>(from.stride));
  set_mask(c, (1u << rest) - 1);
  const std::int64_t high = from.displacement + (words > 32 ? 64 : 0);
  c.e.vmovdqu16(zmm(kHigh) | kMask | Xbyak::util::T_z, c.e.at(from.base, high));
  if (words <= 32) {
    c.e.vmovups(zmm(kIndex), c.e.vector(index));
    c.e.vpermw(zmm(target), zmm(kIndex), zmm(kHigh));
    return;
  }
  c.e.vmovups(zmm(kIndex), c.e.at(from.base, from.displacement));
  c.e.vmovups(zmm(target), c.e.vector(index));
  c.e.vpermi2w(zmm(target), zmm(kIndex), zmm(kHigh));
}

void store_permuted(Context& c, const Vector16& to, int source) {
  const int stride = static_cast<int>(to.stride);
  for (int half = 0; half < 2; ++half) {
    std::array<std::uint16_t, 32> index{};
    std::uint32_t mask = 0;
    for (int i = 0; i < 32; ++i) {
      const int word = 32 * half + i;
      if (word % stride != 0 || word / stride >= kLanes) continue;
      index[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(word / stride);
      mask |= 1u << i;
    }
    if (mask == 0) continue;
    set_mask(c, mask);
    c.e.vmovups(zmm(kIndex), c.e.vector(index));
    c.e.vpermw(zmm(kIndex), zmm(kIndex), zmm(source));
    c.e.vmovdqu16(c.e.at(to.base, to.displacement + 64 * half) | kMask, zmm(kIndex));
  }
}

const Xbyak::Reg16 kWord(0);  // ax
const Xbyak::Reg8 kByte(0);   // al

// One element of `size` bytes between two places, by way of rax.
void move_element(Context& c, std::size_t size, const Reg64& to, std::int64_t to_byte, const Reg64& from,
                  std::int64_t from_byte) {
  if (size == 4) {
    c.e.mov(reg::eax, c.e.at(from, from_byte));
    c.e.mov(c.e.at(to, to_byte), reg::eax);
  } else if (size == 2) {
    c.e.movzx(reg::eax, c.e.at_bits(16, from, from_byte));
    c.e.mov(c.e.at_bits(16, to, to_byte), kWord);
  } else {
    c.e.movzx(reg::eax, c.e.at_bits(8, from, from_byte));
    c.e.mov(c.e.at_bits(8, to, to_byte), kByte);
  }
}

// Sixteen elements between where they lie and the frame, where they are neighbours.
void move_staged(Context& c, const Vector16& place, bool to_frame) {
  const std::size_t size = core::size_of(place.dtype);
  for (int i = 0; i < kLanes; ++i) {
    const std::int64_t staged = c.frame.staged + static_cast<std::int64_t>(size) * i;
    const std::int64_t strided = place.displacement + static_cast<std::int64_t>(size) * i * place.stride;
    if (to_frame) {
      move_element(c, size, reg::frame, staged, place.base, strided);
    } else {
      move_element(c, size, place.base, strided, reg::frame, staged);
    }
  }
}

// An 8-bit type as its exponents are counted and its NaN is written. Tables: OCP 8-bit Floating Point Specification 1.0
// (e4m3fn); Noune et al., arXiv 2206.02915 (e4m3fnuz).
struct EightBit {
  explicit EightBit(DType dtype) : fnuz(dtype == DType::kE4m3fnuz), bias(fnuz ? 8 : 7) {}
  bool fnuz;
  std::uint32_t bias;
  std::uint32_t nan() const { return fnuz ? 0x80u : 0x7fu; }
};

// xmm(target) <- codes of the fp32 values in zmm(source): to nearest even, at most the largest number. Changes all
// three scratch registers, of which `target` may be the first.
//
// A magnitude of 2^E (1 + m) has a code every 2^(E-3), and below the smallest normal number as if E were its: added to
// 2^(E+20), whose last place that is, it is rounded by the addition, and the sum's last bits count the codes.
void codes_of(Context& c, int target, int source, DType dtype) {
  const EightBit type(dtype);
  const Zmm x(kValue), exponent(kHigh), anchor(kIndex);
  const std::uint32_t least = (128u - type.bias) << 23;
  constexpr std::uint32_t kExponent = 0x7f800000u, kTwentyUp = 20u << 23;
  c.e.vpandd(x, zmm(source), c.e.constant_bits(0x7fffffffu));
  c.e.vbroadcastss(anchor, c.e.scalar(largest_of(dtype)));
  c.e.vminps(x, anchor, x);  // a NaN passes
  c.e.vpandd(exponent, x, c.e.constant_bits(kExponent));
  c.e.vpmaxud(exponent, exponent, c.e.constant_bits(least));
  c.e.vpaddd(anchor, exponent, c.e.constant_bits(kTwentyUp));
  c.e.vaddps(x, x, anchor);
  c.e.vpsubd(x, x, anchor);
  c.e.vpsubd(exponent, exponent, c.e.constant_bits(least));
  c.e.vpsrld(exponent, exponent, imm8(20));
  c.e.vpaddd(x, x, exponent);
  c.e.vpminud(x, x, c.e.constant_bits(type.nan()));  // what a NaN gives is larger
  c.e.vpandd(exponent, zmm(source), c.e.constant_bits(0x80000000u));
  if (type.fnuz) {  // its zero has no sign: of 0 - x only a zero's top bit is clear
    c.e.vpxord(anchor, anchor, anchor);
    c.e.vpsubd(anchor, anchor, x);
    c.e.vpandd(exponent, exponent, anchor);
  }
  c.e.vpsrld(exponent, exponent, imm8(24));
  c.e.vpord(x, x, exponent);
  c.e.vpmovdb(xmm(target), x);
}

// zmm(target) <- the numbers of codes that lie in ymm(target) as words, by way of fp16: a bit more of exponent, whose
// numbers are 2^8 (2^7) times smaller. Changes zmm30 and zmm31.
void numbers_of_words(Context& c, int target, DType dtype) {
  const EightBit type(dtype);
  const Zmm x(target), bits(kHigh), nan(kIndex);
  c.e.vpsllw(ymm(target), ymm(target), imm8(8));
  c.e.vpsraw(ymm(target), ymm(target), imm8(1));
  c.e.vpandd(ymm(target), ymm(target), c.e.constant_bits(0xbfffbfffu));
  c.e.vcvtph2ps(x, ymm(target));
  c.e.vbroadcastss(nan, c.e.scalar_bits(0x7fc00000u));
  if (type.fnuz) {
    c.e.replace_where_equal(x, x, c.e.constant_bits(0x80000000u), nan);
  } else {
    c.e.vpandd(bits, x, c.e.constant_bits(0x7fffffffu));
    c.e.replace_where_equal(x, bits, c.e.constant(1.875f), nan);
  }
  c.e.vmulps(x, x, c.e.constant(type.fnuz ? 128.0f : 256.0f));
}

}  // namespace

float largest_of(DType dtype) { return dtype == DType::kE4m3fn ? 448.0f : 240.0f; }

void load_raw(Context& c, int target, const Vector16& from) {
  if (from.stride == 1) {
    load_register(c, from.dtype, target, c.e.at(from.base, from.displacement));
  } else if (wide(from.dtype) && !c.e.is_narrow()) {
    c.e.vmovups(zmm(kIndex), c.e.vector(lane_offsets(from.stride)));
    c.e.kxnorw(kMask, kMask, kMask);
    c.e.vgatherdps(zmm(target) | kMask, c.e.gathered(from.base, zmm(kIndex), 4, from.displacement));
  } else if (permutable(c, from)) {
    load_permuted(c, target, from);
  } else {
    move_staged(c, from, /*to_frame=*/true);
    load_register(c, from.dtype, target, c.e.at(reg::frame, c.frame.staged));
  }
}

void store_raw(Context& c, const Vector16& to, int source) {
  if (to.stride == 1) {
    store_register(c, to.dtype, c.e.at(to.base, to.displacement), source);
  } else if (wide(to.dtype) && !c.e.is_narrow()) {
    c.e.vmovups(zmm(kIndex), c.e.vector(lane_offsets(to.stride)));
    c.e.kxnorw(kMask, kMask, kMask);
    c.e.vscatterdps(c.e.gathered(to.base, zmm(kIndex), 4, to.displacement) | kMask, zmm(source));
  } else if (permutable(c, to)) {
    store_permuted(c, to, source);
  } else {
    store_register(c, to.dtype, c.e.at(reg::frame, c.frame.staged), source);
    move_staged(c, to, /*to_frame=*/false);
  }
}

void widen(Context& c, int target, int source, DType dtype) {
  if (dtype == DType::kBf16) {
    c.e.vpmovzxwd(zmm(target), ymm(source));
    c.e.vpslld(zmm(target), zmm(target), imm8(16));
  } else if (dtype == DType::kFp16) {
    c.e.vcvtph2ps(zmm(target), ymm(source));
  } else if (eight_bit(dtype)) {
    c.e.vpmovzxbw(ymm(target), xmm(source));
    numbers_of_words(c, target, dtype);
  } else if (target != source) {
    c.e.vmovaps(zmm(target), zmm(source));
  }
}

void narrow(Context& c, int target, int source, DType dtype) {
  if (dtype == DType::kBf16) {
    c.e.vcvtneps2bf16(ymm(target), zmm(source));
  } else if (dtype == DType::kFp16) {
    c.e.vcvtps2ph(ymm(target), zmm(source), imm8(0));
  } else if (eight_bit(dtype)) {
    codes_of(c, target, source, dtype);
  } else if (target != source) {
    c.e.vmovaps(zmm(target), zmm(source));
  }
}

void load(Context& c, int target, const Vector16& from) {
  if (from.stride == 1 && from.dtype == DType::kBf16) {
    c.e.vpmovzxwd(zmm(target), c.e.at(from.base, from.displacement));
    c.e.vpslld(zmm(target), zmm(target), imm8(16));
  } else if (from.stride == 1 && from.dtype == DType::kFp16) {
    c.e.vcvtph2ps(zmm(target), c.e.at(from.base, from.displacement));
  } else if (from.stride == 1 && eight_bit(from.dtype)) {
    c.e.vpmovzxbw(ymm(target), c.e.at(from.base, from.displacement));
    numbers_of_words(c, target, from.dtype);
  } else {
    load_raw(c, target, from);
    widen(c, target, target, from.dtype);
  }
}

void store(Context& c, const Vector16& to, int source) {
  if (wide(to.dtype)) {
    store_raw(c, to, source);
    return;
  }
  narrow(c, kValue, source, to.dtype);
  store_raw(c, to, kValue);
}

void round_to(Context& c, int target, DType dtype) {
  if (dtype == DType::kFp32) return;
  narrow(c, target, target, dtype);
  widen(c, target, target, dtype);
}

void load_scalar(Context& c, int frame_offset, const Reg64& index, const Reg64& base, DType dtype) {
  const auto held = c.e.indexed(reg::frame, index, 4, frame_offset);
  if (dtype == DType::kFp32) {
    c.e.mov(reg::eax, c.e.at(base));
  } else {
    c.e.movzx(reg::eax, c.e.at_bits(16, base));
  }
  if (dtype == DType::kBf16) c.e.shl(reg::eax, 16);
  if (dtype != DType::kFp16) {
    c.e.mov(held, reg::eax);
    return;
  }
  c.e.vmovd(xmm(kIndex), reg::eax);
  c.e.vcvtph2ps(xmm(kIndex), xmm(kIndex));
  c.e.vmovss(held, xmm(kIndex));
}

void store_scalar(Context& c, const Reg64& base, DType dtype, int frame_offset, const Reg64& index) {
  const auto held = c.e.indexed(reg::frame, index, 4, frame_offset);
  if (dtype == DType::kFp32) {
    c.e.mov(reg::eax, held);
    c.e.mov(c.e.at(base), reg::eax);
    return;
  }
  c.e.vmovss(xmm(kIndex), held);
  if (dtype == DType::kBf16) {
    c.e.vcvtneps2bf16(xmm(kIndex), xmm(kIndex));
  } else {
    c.e.vcvtps2ph(xmm(kIndex), xmm(kIndex), imm8(0));
  }
  c.e.vmovd(reg::eax, xmm(kIndex));
  c.e.mov(c.e.at_bits(16, base), kWord);
}

}  // namespace gdn::cpu
