#include "cpu/product.h"

#include "cpu/item.h"

namespace gdn::cpu {
namespace {

constexpr int kStepBytes = 64;  // of a left row
constexpr int kPairRows = 16;   // of the right operand in a step
constexpr int kTileBytes = 64;  // a row of a tile, 16 columns of a right row
const Reg64 kLeftStride = reg::r10, kRightStride = reg::r11;

// The first part last: the right operand's second one meets it alone.
std::vector<int> lefts(const SecondParts& second) {
  return second.left == 0 ? std::vector<int>{0} : std::vector<int>{second.left, 0};
}

// 2 x 2 result tiles 0 to 3, left tiles 4 and 5, right tiles 6 and 7. A chain of products on one result tile runs at
// full rate: the four are there for the reuse of operands.
void by_tiles(ChunkContext& cc, const ProductStrides& strides, const SecondParts& second) {
  Emitter& e = cc.c.e;
  Tiles& tiles = *cc.tiles;
  e.mov(kLeftStride, strides.left);
  e.mov(kRightStride, strides.right);
  for (int tile = 0; tile < 4; ++tile) tiles.zero(tile);
  Mark& step = e.mark("product_step");
  e.bind(step);
  tiles.load(6, reg::right, kRightStride);
  tiles.load(7, reg::right, kRightStride, kTileBytes);
  for (const int left : lefts(second)) {
    tiles.load(4, reg::left, kLeftStride, left);
    tiles.multiply(0, 4, 6);
    tiles.multiply(1, 4, 7);
    tiles.load(5, reg::left, kLeftStride, left + kSub * strides.left);
    tiles.multiply(2, 5, 6);
    tiles.multiply(3, 5, 7);
  }
  if (second.right != 0) {
    tiles.load(6, reg::right, kRightStride, second.right);
    tiles.load(7, reg::right, kRightStride, second.right + kTileBytes);
    for (int tile = 0; tile < 4; ++tile) tiles.multiply(tile, 4 + tile / 2, 6 + tile % 2);
  }
  e.add(reg::left, kStepBytes);
  e.add(reg::right, kPairRows * strides.right);
  e.dec(reg::ecx);
  e.jnz(step);
}

// 8 rows at a time: 16 sums in zmm0-15, two right vectors, eight broadcast pairs of the left rows.
void by_pairs(ChunkContext& cc, const ProductStrides& strides, const SecondParts& second) {
  constexpr int kRows = 8, kPairs = 4;  // pairs of a turn of the loop
  constexpr int kRight = 16, kPair = 18, kSecondRight = 26;
  Emitter& e = cc.c.e;
  const Reg64 left = reg::r10, right = reg::r11;
  Mark& rows = e.mark("product_rows");
  Mark& pairs = e.mark("product_pairs");
  e.imul(reg::rcx, reg::rcx, kPairRows / kPairs);
  e.mov(reg::eax, kBlock / kRows);
  e.push(reg::result);
  e.bind(rows);
  e.mov(left, reg::left);
  e.mov(right, reg::right);
  for (int i = 0; i < 2 * kRows; ++i) e.vpxord(zmm(i), zmm(i), zmm(i));
  e.push(reg::rcx);
  e.bind(pairs);
  for (int pair = 0; pair < kPairs; ++pair) {
    for (int column = 0; column < 2; ++column) {
      e.vmovups(zmm(kRight + column), e.at(right, pair * strides.right + column * kTileBytes));
    }
    for (const int which : lefts(second)) {
      for (int row = 0; row < kRows; ++row) {
        e.vbroadcastss(zmm(kPair + row), e.at(left, which + row * strides.left + 4 * pair));
        for (int column = 0; column < 2; ++column) {
          e.vdpbf16ps(zmm(2 * row + column), zmm(kRight + column), zmm(kPair + row));
        }
      }
    }
    if (second.right == 0) continue;
    for (int column = 0; column < 2; ++column) {
      e.vmovups(zmm(kSecondRight + column), e.at(right, second.right + pair * strides.right + column * kTileBytes));
    }
    for (int i = 0; i < 2 * kRows; ++i) e.vdpbf16ps(zmm(i), zmm(kSecondRight + i % 2), zmm(kPair + i / 2));
  }
  e.add(left, 4 * kPairs);
  e.add(right, kPairs * strides.right);
  e.dec(reg::ecx);
  e.jnz(pairs);
  e.pop(reg::rcx);
  for (int i = 0; i < 2 * kRows; ++i) {
    e.vmovups(e.at(reg::result, i / 2 * strides.result + i % 2 * kTileBytes), zmm(i));
  }
  e.add(reg::left, kRows * strides.left);
  e.add(reg::result, kRows * strides.result);
  e.dec(reg::eax);
  e.jnz(rows);
  e.pop(reg::result);
}

// The same for halves: 4 rows of 16 columns at a time, whose 8 sums and what they are made of fit 16 registers. The
// even and the odd number of a pair are fp32 numbers of their own: their bits above zeros.
void by_halves(ChunkContext& cc, const ProductStrides& strides, const SecondParts& second) {
  constexpr int kRows = 4, kColumns = 2, kPairs = 4;  // vectors of 8 columns; pairs of a turn of the loop
  constexpr int kEven = 8, kOdd = 10, kLeftEven = 12, kLeftOdd = 13;
  constexpr int kVectorBytes = 32;
  Emitter& e = cc.c.e;
  const Reg64 left = reg::r10, right = reg::r11;
  std::array<std::uint32_t, 16> upper{};
  upper.fill(0xffff0000u);
  const Address odd_bits = e.vector(upper);
  const auto take_apart = [&](int even, int odd) {
    e.vpslld(ymm(even), ymm(odd), imm8(16));
    e.vpandd(ymm(odd), ymm(odd), odd_bits);
  };
  const auto add = [&](int pair, int column, int second_right, const std::vector<int>& parts) {
    for (int i = 0; i < kColumns; ++i) {
      const int offset = second_right + pair * strides.right + (kColumns * column + i) * kVectorBytes;
      e.vmovups(ymm(kOdd + i), e.at(right, offset));
      take_apart(kEven + i, kOdd + i);
    }
    for (const int part : parts) {
      for (int row = 0; row < kRows; ++row) {
        e.vbroadcastss(ymm(kLeftOdd), e.at(left, part + row * strides.left + 4 * pair));
        take_apart(kLeftEven, kLeftOdd);
        for (int i = 0; i < kColumns; ++i) {
          e.vfmadd231ps(ymm(kColumns * row + i), ymm(kLeftEven), ymm(kEven + i));
          e.vfmadd231ps(ymm(kColumns * row + i), ymm(kLeftOdd), ymm(kOdd + i));
        }
      }
    }
  };
  Mark& rows = e.mark("product_rows");
  e.imul(reg::rcx, reg::rcx, kPairRows / kPairs);
  e.mov(reg::eax, kBlock / kRows);
  e.push(reg::result);
  e.bind(rows);
  for (int column = 0; column < kTileBytes * 2 / (kColumns * kVectorBytes); ++column) {
    Mark& pairs = e.mark("product_pairs");
    e.mov(left, reg::left);
    e.mov(right, reg::right);
    for (int i = 0; i < kRows * kColumns; ++i) e.vpxord(ymm(i), ymm(i), ymm(i));
    e.push(reg::rcx);
    e.bind(pairs);
    for (int pair = 0; pair < kPairs; ++pair) {
      add(pair, column, 0, lefts(second));
      if (second.right != 0) add(pair, column, second.right, {0});
    }
    e.add(left, 4 * kPairs);
    e.add(right, kPairs * strides.right);
    e.dec(reg::ecx);
    e.jnz(pairs);
    e.pop(reg::rcx);
    for (int i = 0; i < kRows * kColumns; ++i) {
      const int offset = (kColumns * column + i % kColumns) * kVectorBytes;
      e.vmovups(e.at(reg::result, i / kColumns * strides.result + offset), ymm(i));
    }
  }
  e.add(reg::left, kRows * strides.left);
  e.add(reg::result, kRows * strides.result);
  e.dec(reg::eax);
  e.jnz(rows);
  e.pop(reg::result);
}

}  // namespace

void emit_product_sums(ChunkContext& cc, const ProductStrides& strides, const SecondParts& second) {
  if (cc.tiles != nullptr) {
    by_tiles(cc, strides, second);
  } else if (cc.c.e.is_narrow()) {
    by_halves(cc, strides, second);
  } else {
    by_pairs(cc, strides, second);
  }
}

void emit_product_store(ChunkContext& cc, const ProductStrides& strides) {
  if (cc.tiles == nullptr) return;
  cc.c.e.mov(kLeftStride, strides.result);
  for (int tile = 0; tile < 4; ++tile) {
    const int offset = tile / 2 * kSub * strides.result + tile % 2 * kTileBytes;
    cc.tiles->store(reg::result, kLeftStride, offset, tile);
  }
}

void emit_product(ChunkContext& cc, const ProductStrides& strides, const SecondParts& second) {
  emit_product_sums(cc, strides, second);
  emit_product_store(cc, strides);
}

}  // namespace gdn::cpu
