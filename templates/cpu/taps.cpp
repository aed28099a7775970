#include "cpu/taps.h"

#include <array>

namespace gdn::cpu {
namespace {

constexpr int kWords = 32;  // of a register
constexpr int kIndex = 31, kMoved = 30;
const Opmask kOdd(2);

Opmask newest_mask(int half) { return Opmask(3 + half); }

}  // namespace

bool TapBlock::fits(const Context& c, const core::Map& map, int taps) {
  return !c.e.is_narrow() && core::size_of(map.dtype) == 2 && map.tap_stride == 1 && map.inner_stride == taps &&
         taps >= 2 && taps <= 4;
}

TapBlock::TapBlock(Context& c, const core::Map& map, int low)
    : c_(c), dtype_(map.dtype), taps_(static_cast<int>(map.inner_stride)), low_(low) {}

void TapBlock::prepare() const {
  c_.e.mov(reg::eax, 0xaaaaaaaau);
  c_.e.kmovd(kOdd, reg::eax);
}

void TapBlock::prepare_shift(int newest) const {
  for (int half = 0; half < 2; ++half) {
    std::uint32_t mask = 0;
    for (int i = 0; i < kWords; ++i) {
      const int word = kWords * half + i;
      if (word < words() && word % taps_ == newest) mask |= 1u << i;
    }
    c_.e.mov(reg::eax, mask);
    c_.e.kmovd(newest_mask(half), reg::eax);
  }
}

void TapBlock::load(const Reg64& base) const {
  c_.e.vmovups(zmm(low_), c_.e.at(base));
  if (taps_ == 4) c_.e.vmovups(zmm(low_ + 1), c_.e.at(base, 2 * kWords));
  if (taps_ == 3) c_.e.vmovups(ymm(low_ + 1), c_.e.at(base, 2 * kWords));
}

void TapBlock::tap(int target, int index) const {
  // bf16 is the upper half of fp32: the words go straight to where they belong, zeros below them.
  const bool bf16 = dtype_ == core::DType::kBf16;
  std::array<std::uint16_t, kWords> from{};
  for (int lane = 0; lane < kLanes; ++lane) {
    from[static_cast<std::size_t>(bf16 ? 2 * lane + 1 : lane)] = static_cast<std::uint16_t>(taps_ * lane + index);
  }
  c_.e.vmovups(zmm(target), c_.e.vector(from));
  const Zmm to = bf16 ? zmm(target) | kOdd | Xbyak::util::T_z : zmm(target);
  if (taps_ == 2) {
    c_.e.vpermw(to, zmm(target), zmm(low_));
  } else {
    c_.e.vpermi2w(to, zmm(low_), zmm(low_ + 1));
  }
  if (!bf16) c_.e.vcvtph2ps(zmm(target), ymm(target));
}

void TapBlock::shift(const Reg64& base, int newest, int input) const {
  const int halves = taps_ == 2 ? 1 : 2;
  for (int half = 0; half < halves; ++half) {
    std::array<std::uint16_t, kWords> from{}, fresh{};
    for (int i = 0; i < kWords; ++i) {
      const int word = kWords * half + i;
      if (word >= words()) break;
      from[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(word % taps_ < newest ? word + 1 : word);
      fresh[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(word / taps_);
    }
    c_.e.vmovups(zmm(kMoved), c_.e.vector(from));
    if (taps_ == 2) {
      c_.e.vpermw(zmm(kMoved), zmm(kMoved), zmm(low_));
    } else {
      c_.e.vpermi2w(zmm(kMoved), zmm(low_), zmm(low_ + 1));
    }
    c_.e.vmovups(zmm(kIndex), c_.e.vector(fresh));
    c_.e.vpermw(zmm(kMoved) | newest_mask(half), zmm(kIndex), zmm(input));
    if (taps_ == 3 && half == 1) {
      c_.e.vmovups(c_.e.at(base, 2 * kWords), ymm(kMoved));
    } else {
      c_.e.vmovups(c_.e.at(base, 2 * kWords * half), zmm(kMoved));
    }
  }
}

}  // namespace gdn::cpu
