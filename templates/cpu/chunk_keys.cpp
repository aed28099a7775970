// q and k of a chunk: normalised and rounded, k's forms for the products, and the products of tokens with tokens.
#include "cpu/chunk.h"
#include "cpu/chunk_rows.h"
#include "cpu/norm.h"
#include "cpu/product.h"

namespace gdn::cpu {
namespace {

constexpr int kTokenBytes = 4 * kChunk;  // a row of k_pairs, kk and qk

// 16 rows of 16 dwords, `from` bytes apart at r8, to the transposed rows at r9, kTokenBytes apart. Three rounds of
// shuffles: neighbours, pairs, then the 128-bit lanes in two steps. Changes all vector registers.
void transpose(Emitter& e, int from) {
  const auto r = [](int i) { return zmm(i); };
  const auto t = [](int i) { return zmm(16 + i); };
  for (int i = 0; i < 16; ++i) e.vmovups(r(i), e.at(reg::r8, i * from));
  for (int i = 0; i < 8; ++i) {
    e.vpunpckldq(t(2 * i), r(2 * i), r(2 * i + 1));
    e.vpunpckhdq(t(2 * i + 1), r(2 * i), r(2 * i + 1));
  }
  for (int i = 0; i < 16; i += 4) {
    e.vpunpcklqdq(r(i), t(i), t(i + 2));
    e.vpunpckhqdq(r(i + 1), t(i), t(i + 2));
    e.vpunpcklqdq(r(i + 2), t(i + 1), t(i + 3));
    e.vpunpckhqdq(r(i + 3), t(i + 1), t(i + 3));
  }
  constexpr int kEven = 0x88, kOdd = 0xdd;
  for (int j = 0; j < 4; ++j) {
    e.vshufi32x4(t(j), r(j), r(4 + j), imm8(kEven));
    e.vshufi32x4(t(4 + j), r(j), r(4 + j), imm8(kOdd));
    e.vshufi32x4(t(8 + j), r(8 + j), r(12 + j), imm8(kEven));
    e.vshufi32x4(t(12 + j), r(8 + j), r(12 + j), imm8(kOdd));
  }
  const auto store = [&](int row, const Zmm& value) { e.vmovups(e.at(reg::r9, row * kTokenBytes), value); };
  for (int j = 0; j < 4; ++j) {
    for (int half = 0; half < 2; ++half) {
      e.vshufi32x4(r(0), t(4 * half + j), t(8 + 4 * half + j), imm8(kEven));
      store(4 * half + j, r(0));
      e.vshufi32x4(r(0), t(4 * half + j), t(8 + 4 * half + j), imm8(kOdd));
      store(8 + 4 * half + j, r(0));
    }
  }
}

void multiply_tokens(ChunkContext& cc) {
  Emitter& e = cc.c.e;
  e.comment("k.k and q.k");
  const ProductStrides strides{2 * cc.at.key_dim, kTokenBytes, kTokenBytes};
  Mark& done = e.mark("tokens_done");
  for (int row = 0; row < kChunk; row += kBlock) {
    if (row > 0) {
      e.cmp(e.at_bits(32, reg::work, cc.at.blocks), row / kBlock);
      e.jle(done);
    }
    for (int column = 0; column <= row; column += kBlock) {
      const std::pair<int, int> products[] = {{cc.at.k, cc.at.kk}, {cc.at.q, cc.at.qk}};
      for (const auto& [left, result] : products) {
        e.lea(reg::left, e.at(reg::work, left + row * strides.left));
        e.lea(reg::right, e.at(reg::work, cc.at.k_pairs + 4 * column));
        e.lea(reg::result, e.at(reg::work, result + row * kTokenBytes + 4 * column));
        e.mov(reg::ecx, cc.at.key_dim / kBlock);
        emit_product(cc, strides);
      }
    }
  }
  e.bind(done);
}

}  // namespace

// Pairs of channels are dwords, so that this is a transpose of dwords.
void emit_transpose_rows(ChunkContext& cc, int from, int to) {
  Emitter& e = cc.c.e;
  const int row = 2 * cc.at.key_dim;
  Mark& group = e.mark("transpose_tokens");
  Mark& again = e.mark("transpose");
  e.lea(reg::r8, e.at(reg::work, from));
  e.lea(reg::r9, e.at(reg::work, to));
  e.mov(reg::rdx, reg::rcx);
  e.bind(group);
  e.mov(reg::ecx, cc.at.key_dim / kBlock);
  e.bind(again);
  transpose(e, row);
  e.add(reg::r8, 64);
  e.add(reg::r9, kSub * kTokenBytes);
  e.dec(reg::ecx);
  e.jnz(again);
  e.add(reg::r8, (kSub - 1) * row);
  e.sub(reg::r9, cc.at.key_dim / kBlock * kSub * kTokenBytes - 4 * kSub);
  e.dec(reg::rdx);
  e.jnz(group);
}

// Two channels of 16 tokens a dword vector; the tokens 16 apart become pairs with no shuffle.
void emit_key_rows(ChunkContext& cc, int from, int to) {
  Emitter& e = cc.c.e;
  e.comment("k with channels as rows");
  e.mov(reg::ecx, kChunk / kSub);
  emit_transpose_rows(cc, from, cc.at.k_pairs);
  constexpr int kEven = 0, kOdd = 1, kLow = 2, kHigh = 3, kFirst = 4, kSecond = 5;
  constexpr int kRowBytes = 2 * kChunk;
  e.vbroadcastss(zmm(kLow), e.scalar_bits(0x0000ffffu));
  e.vbroadcastss(zmm(kHigh), e.scalar_bits(0xffff0000u));
  e.lea(reg::r8, e.at(reg::work, cc.at.k_pairs));
  e.lea(reg::r9, e.at(reg::work, to));
  Mark& again = e.mark("k_row");
  e.mov(reg::ecx, cc.at.key_dim / 2);
  e.bind(again);
  for (int token = 0; token < kChunk; token += kBlock) {
    e.vmovups(zmm(kFirst), e.at(reg::r8, 4 * token));
    e.vmovups(zmm(kSecond), e.at(reg::r8, 4 * (token + kSub)));
    e.vpandd(zmm(kEven), zmm(kFirst), zmm(kLow));
    e.vpsrld(zmm(kOdd), zmm(kFirst), imm8(16));
    e.vpslld(zmm(kFirst), zmm(kSecond), imm8(16));
    e.vpandd(zmm(kSecond), zmm(kSecond), zmm(kHigh));
    e.vpord(zmm(kEven), zmm(kEven), zmm(kFirst));
    e.vpord(zmm(kOdd), zmm(kOdd), zmm(kSecond));
    e.vmovups(e.at(reg::r9, 2 * token), zmm(kEven));
    e.vmovups(e.at(reg::r9, kRowBytes + 2 * token), zmm(kOdd));
  }
  e.add(reg::r8, kTokenBytes);
  e.add(reg::r9, 2 * kRowBytes);
  e.dec(reg::ecx);
  e.jnz(again);
}

void emit_keys(ChunkContext& cc) {
  const core::Facts& f = cc.c.facts;
  cc.c.e.comment("q and k of the chunk");
  const auto norm = [&] { emit_qk_norm_vectors(cc.c, 1); };
  emit_pack_rows(cc, f.in_q, cc.at.q, cc.at.key_dim, norm);
  emit_pack_rows(cc, f.in_k, cc.at.k, cc.at.key_dim, norm);
  if (cc.c.by_channel()) return;  // the rest is another one for each value head
  emit_key_rows(cc, cc.at.k, cc.at.k_rows);
  multiply_tokens(cc);
}

}  // namespace gdn::cpu
