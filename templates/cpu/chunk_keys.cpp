// q and k of a chunk: normalised and rounded, k's forms for the products, and the products of tokens with tokens.
#include "cpu/chunk.h"
#include "cpu/chunk_rows.h"
#include "cpu/chunk_source.h"
#include "cpu/product.h"

namespace gdn::cpu {
namespace {

constexpr int kTokenBytes = 4 * kChunk;  // a row of k_pairs, kk and qk

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
  emit_transpose(
      e, [&](int i) { e.vmovups(zmm(i), e.at(reg::r8, i * row)); },
      [&](int i) { e.vmovups(e.at(reg::r9, i * kTokenBytes), zmm(0)); });
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
  cc.c.e.comment("q and k of the chunk");
  emit_query_and_key_rows(cc);
  if (cc.c.by_channel()) return;  // the rest is another one for each value head
  emit_key_rows(cc, cc.at.k, cc.at.k_rows);
  multiply_tokens(cc);
}

}  // namespace gdn::cpu
