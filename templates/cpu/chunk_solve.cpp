// The triangular matrices of a chunk: A and B from the products of tokens, and the inverse of I + A.
#include "cpu/chunk.h"
#include "cpu/chunk_rows.h"
#include "cpu/math.h"

namespace gdn::cpu {
namespace {

constexpr int kWideRow = 4 * kChunk;    // of kk, qk, a and inverse
constexpr int kNarrowRow = 2 * kChunk;  // of b, t_high and t_low

// Leaves for `done` where the chunk ends before token `first`.
void unless_reached(ChunkContext& cc, int first, const Mark& done) {
  if (first < kBlock) return;
  cc.c.e.cmp(cc.c.e.at_bits(32, reg::work, cc.at.blocks), first / kBlock);
  cc.c.e.jle(done);
}

// Rows of A and B, 16 at a time. r8: work + the row's offset in kk, qk and a; r9: in b; r10: in arrays of tokens;
// r11: the row's mask of a block on the diagonal.
class Masked {
 public:
  explicit Masked(ChunkContext& cc) : cc_(cc), e_(cc.c.e) {}

  void emit() const {
    e_.comment("A and B");
    Mark& done = e_.mark("masked");
    for (int block = 0; block < kChunk / kSub; ++block) {
      if (block * kSub % kBlock == 0) unless_reached(cc_, block * kSub, done);
      rows(block);
    }
    e_.bind(done);
  }

 private:
  static constexpr int kD = 0, kT1 = 1, kT2 = 2, kBeta = 3, kB = 4, kZero = 8;  // kB: a register per block of 16

  void rows(int block) const {
    const core::Facts& f = cc_.c.facts;
    const Buffers& at = cc_.at;
    Mark& again = e_.mark("masked_row");
    e_.lea(reg::r8, e_.at(reg::work, block * kSub * kWideRow));
    e_.lea(reg::r9, e_.at(reg::work, block * kSub * kNarrowRow));
    e_.lea(reg::r10, e_.at(reg::work, block * kSub * 4));
    e_.lea(reg::r11, e_.at(reg::work, at.lower_up_to(0)));
    e_.mov(reg::ecx, kSub);
    e_.bind(again);
    e_.vpxord(zmm(kZero), zmm(kZero), zmm(kZero));
    e_.vbroadcastss(zmm(kBeta), e_.at(reg::r10, at.beta));
    if (f.k_scale != 1) {
      e_.vmulps(zmm(kBeta), zmm(kBeta), e_.constant(static_cast<float>(f.k_scale * f.k_scale)));
    }
    for (int column = 0; column <= block; ++column) {
      const int offset = 4 * kSub * column;
      const bool diagonal = column == block;
      if (diagonal) {
        e_.vbroadcastss(zmm(kT1), e_.at(reg::r10, at.g));
        e_.vsubps(zmm(kD), zmm(kT1), e_.at(reg::work, at.g + offset));
        // Above the diagonal, where it is masked, the exponent would be too large for a number.
        e_.vminps(zmm(kD), zmm(kZero), zmm(kD));
        emit_exp2(cc_.c, kD, kT1, kT2);
      } else {
        e_.vbroadcastss(zmm(kD), e_.at(reg::r10, at.from_block_end + 4 * kChunk * column));
        e_.vmulps(zmm(kD), zmm(kD), e_.at(reg::work, at.to_block_end + offset));
      }
      e_.vmulps(zmm(kB + column), zmm(kD), e_.at(reg::r8, at.qk + offset));
      if (diagonal) e_.vpandd(zmm(kB + column), zmm(kB + column), e_.at(reg::r11));
      if (f.q_scale * f.k_scale != 1) {
        e_.vmulps(zmm(kB + column), zmm(kB + column), e_.constant(static_cast<float>(f.q_scale * f.k_scale)));
      }
      e_.vmulps(zmm(kD), zmm(kD), e_.at(reg::r8, at.kk + offset));
      if (diagonal) e_.vpandd(zmm(kD), zmm(kD), e_.at(reg::r11, 4));  // less the diagonal itself
      e_.vmulps(zmm(kD), zmm(kD), zmm(kBeta));
      e_.vmovups(e_.at(reg::r8, at.a + offset), zmm(kD));
    }
    emit_leave_b(cc_, block, kB, kZero, kD, kT1);
    e_.add(reg::r8, kWideRow);
    e_.add(reg::r9, kNarrowRow);
    e_.add(reg::r10, 4);
    e_.sub(reg::r11, 4);
    e_.dec(reg::ecx);
    e_.jnz(again);
  }

  ChunkContext& cc_;
  Emitter& e_;
};

// X = (I + A)^-1 by block rows of 16: X_IJ = (I + A_II)^-1 ([I = J] - sum over P from J to I - 1 of A_IP X_PJ), the 16
// rows of a block in zmm0-15.
void invert(ChunkContext& cc) {
  constexpr int kX = 16;
  Emitter& e = cc.c.e;
  const Reg64 row_a = reg::rsi, row_x = reg::r8, element = reg::r10, earlier = reg::r9;
  const Reg64 block_row = reg::rax, block_column = reg::rdx, column = reg::r11;
  e.comment("the inverse of I + A");
  Mark& next_row = e.mark("inverse_row");
  Mark& next_block = e.mark("inverse_block");
  Mark& off_diagonal = e.mark("inverse_off_diagonal");
  Mark& product = e.mark("inverse_product");
  Mark& substitute = e.mark("inverse_substitute");
  e.lea(row_a, e.at(reg::work, cc.at.a));
  e.lea(row_x, e.at(reg::work, cc.at.inverse));
  e.xor_(block_row, block_row);
  e.bind(next_row);
  e.xor_(block_column, block_column);
  e.xor_(column, column);
  e.bind(next_block);
  e.lea(element, e.indexed(row_a, column, 1));
  e.mov(reg::rcx, block_row);
  e.sub(reg::rcx, block_column);
  e.jnz(off_diagonal);
  for (int i = 0; i < kSub; ++i) {
    std::array<std::uint32_t, 16> one{};
    one[static_cast<std::size_t>(i)] = 0x3f800000u;
    e.vmovups(zmm(i), e.vector(one));
  }
  e.jmp(substitute);
  e.bind(off_diagonal);
  for (int i = 0; i < kSub; ++i) e.vpxord(zmm(i), zmm(i), zmm(i));
  e.imul(earlier, block_column, kSub * kWideRow + 4 * kSub);
  e.lea(earlier, e.indexed(reg::work, earlier, 1, cc.at.inverse));
  e.shl(reg::rcx, 4);
  e.bind(product);
  e.vmovups(zmm(kX), e.at(earlier));
  for (int i = 0; i < kSub; ++i) e.vfnmadd231ps(zmm(i), zmm(kX), e.broadcast(element, i * kWideRow));
  e.add(earlier, kWideRow);
  e.add(element, 4);
  e.dec(reg::ecx);
  e.jnz(product);
  e.bind(substitute);
  for (int j = 0; j < kSub - 1; ++j) {
    for (int i = j + 1; i < kSub; ++i) e.vfnmadd231ps(zmm(i), zmm(j), e.broadcast(element, i * kWideRow + 4 * j));
  }
  e.lea(earlier, e.indexed(row_x, column, 1));
  for (int i = 0; i < kSub; ++i) e.vmovups(e.at(earlier, i * kWideRow), zmm(i));
  e.add(column, 4 * kSub);
  e.inc(block_column);
  e.cmp(block_column, block_row);
  e.jle(next_block);
  e.add(row_a, kSub * kWideRow);
  e.add(row_x, kSub * kWideRow);
  e.inc(block_row);
  e.mov(reg::rcx, e.at(reg::work, cc.at.blocks));
  e.add(reg::rcx, reg::rcx);
  e.cmp(block_row, reg::rcx);
  e.jb(next_row);
}

// The inverse as the sum of two bf16 matrices: as exact as fp16 and better. Of one the first is all there is.
void split(ChunkContext& cc) {
  constexpr int kFirst = 0, kSecond = 1, kHigh = 2, kPart = 3;
  Emitter& e = cc.c.e;
  e.comment("the inverse in bf16");
  Mark& done = e.mark("split");
  for (int row = 0; row < kChunk; row += kBlock) {
    unless_reached(cc, row, done);
    Mark& again = e.mark("split_row");
    e.lea(reg::r8, e.at(reg::work, cc.at.inverse + row * kWideRow));
    e.lea(reg::r9, e.at(reg::work, row * kNarrowRow));
    e.mov(reg::ecx, kBlock);
    e.bind(again);
    for (int column = 0; column <= row; column += kBlock) {
      e.vmovups(zmm(kFirst), e.at(reg::r8, 4 * column));
      e.vmovups(zmm(kSecond), e.at(reg::r8, 4 * column + 64));
      emit_round_off(e, kHigh, kFirst, kSecond, kPart);
      e.vmovups(e.at(reg::r9, cc.at.t_high + 2 * column), zmm(kHigh));
      if (cc.parts.inverse == 1) continue;
      e.vcvtne2ps2bf16(zmm(kHigh), zmm(kSecond), zmm(kFirst));
      e.vmovups(e.at(reg::r9, cc.at.t_low + 2 * column), zmm(kHigh));
    }
    e.add(reg::r8, kWideRow);
    e.add(reg::r9, kNarrowRow);
    e.dec(reg::ecx);
    e.jnz(again);
  }
  e.bind(done);
}

}  // namespace

void emit_leave_b(ChunkContext& cc, int block, int first, int zero, int high, int part) {
  Emitter& e = cc.c.e;
  for (int column = 0; column <= block; column += 2) {
    const int second = column + 1 <= block ? first + column + 1 : zero;
    const int offset = 2 * kSub * column;
    if (cc.parts.output == 1) {
      e.vcvtne2ps2bf16(zmm(high), zmm(second), zmm(first + column));
      e.vmovups(e.at(reg::r9, cc.at.b + offset), zmm(high));
      continue;
    }
    emit_round_off(e, high, first + column, second, part);
    e.vmovups(e.at(reg::r9, cc.at.b + offset), zmm(high));
    e.vcvtne2ps2bf16(zmm(high), zmm(second), zmm(first + column));
    e.vmovups(e.at(reg::r9, cc.at.b_low + offset), zmm(high));
  }
}

void emit_solve(ChunkContext& cc) {
  if (!cc.c.by_channel()) Masked(cc).emit();
  invert(cc);
  split(cc);
}

}  // namespace gdn::cpu
