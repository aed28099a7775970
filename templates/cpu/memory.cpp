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

bool permutable(Context& c, const Vector16& place) {
  return !c.e.is_narrow() && !wide(place.dtype) && place.stride >= 2 && place.stride <= 4;
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

// One element of `size` bytes between two places, by way of rax.
void move_element(Context& c, std::size_t size, const Reg64& to, std::int64_t to_byte, const Reg64& from,
                  std::int64_t from_byte) {
  if (size == 4) {
    c.e.mov(reg::eax, c.e.at(from, from_byte));
    c.e.mov(c.e.at(to, to_byte), reg::eax);
  } else {
    c.e.movzx(reg::eax, c.e.at_bits(16, from, from_byte));
    c.e.mov(c.e.at_bits(16, to, to_byte), kWord);
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

}  // namespace

void load_raw(Context& c, int target, const Vector16& from) {
  if (from.stride == 1) {
    if (wide(from.dtype)) {
      c.e.vmovups(zmm(target), c.e.at(from.base, from.displacement));
    } else {
      c.e.vmovups(ymm(target), c.e.at(from.base, from.displacement));
    }
  } else if (wide(from.dtype) && !c.e.is_narrow()) {
    c.e.vmovups(zmm(kIndex), c.e.vector(lane_offsets(from.stride)));
    c.e.kxnorw(kMask, kMask, kMask);
    c.e.vgatherdps(zmm(target) | kMask, c.e.gathered(from.base, zmm(kIndex), 4, from.displacement));
  } else if (permutable(c, from)) {
    load_permuted(c, target, from);
  } else {
    move_staged(c, from, /*to_frame=*/true);
    const Address staged = c.e.at(reg::frame, c.frame.staged);
    if (wide(from.dtype)) {
      c.e.vmovups(zmm(target), staged);
    } else {
      c.e.vmovups(ymm(target), staged);
    }
  }
}

void store_raw(Context& c, const Vector16& to, int source) {
  if (to.stride == 1) {
    if (wide(to.dtype)) {
      c.e.vmovups(c.e.at(to.base, to.displacement), zmm(source));
    } else {
      c.e.vmovups(c.e.at(to.base, to.displacement), ymm(source));
    }
  } else if (wide(to.dtype) && !c.e.is_narrow()) {
    c.e.vmovups(zmm(kIndex), c.e.vector(lane_offsets(to.stride)));
    c.e.kxnorw(kMask, kMask, kMask);
    c.e.vscatterdps(c.e.gathered(to.base, zmm(kIndex), 4, to.displacement) | kMask, zmm(source));
  } else if (permutable(c, to)) {
    store_permuted(c, to, source);
  } else {
    const Address staged = c.e.at(reg::frame, c.frame.staged);
    if (wide(to.dtype)) {
      c.e.vmovups(staged, zmm(source));
    } else {
      c.e.vmovups(staged, ymm(source));
    }
    move_staged(c, to, /*to_frame=*/false);
  }
}

void widen(Context& c, int target, int source, DType dtype) {
  if (dtype == DType::kBf16) {
    c.e.vpmovzxwd(zmm(target), ymm(source));
    c.e.vpslld(zmm(target), zmm(target), imm8(16));
  } else if (dtype == DType::kFp16) {
    c.e.vcvtph2ps(zmm(target), ymm(source));
  } else if (target != source) {
    c.e.vmovaps(zmm(target), zmm(source));
  }
}

void narrow(Context& c, int target, int source, DType dtype) {
  if (dtype == DType::kBf16) {
    c.e.vcvtneps2bf16(ymm(target), zmm(source));
  } else if (dtype == DType::kFp16) {
    c.e.vcvtps2ph(ymm(target), zmm(source), imm8(0));
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
