#include "cpu/chunk_rows.h"

#include "cpu/item.h"
#include "cpu/memory.h"

namespace gdn::cpu {
namespace {

// `row` once for each token that the chunk lacks, with r9 at its row of `bytes` bytes at `buffer`. Changes rcx, rax.
void for_missing_rows(ChunkContext& cc, int buffer, int bytes, const std::function<void()>& row) {
  Emitter& e = cc.c.e;
  Mark& none = e.mark("no_missing_rows");
  Mark& again = e.mark("missing_row");
  e.mov(reg::ecx, kChunk);
  e.sub(reg::rcx, reg::tokens);
  e.jz(none);
  e.imul(reg::r9, reg::tokens, bytes);
  e.lea(reg::r9, e.indexed(reg::work, reg::r9, 1, buffer));
  e.bind(again);
  row();
  e.add(reg::r9, bytes);
  e.dec(reg::ecx);
  e.jnz(again);
  e.bind(none);
}

}  // namespace

void emit_zero_missing_rows(ChunkContext& cc, int buffer, int width) {
  constexpr int kZero = 20;
  Emitter& e = cc.c.e;
  for_missing_rows(cc, buffer, 2 * width, [&] {
    e.vpxord(zmm(kZero), zmm(kZero), zmm(kZero));
    for (int byte = 0; byte < 2 * width; byte += 64) e.vmovups(e.at(reg::r9, byte), zmm(kZero));
  });
}

void emit_pack_rows(ChunkContext& cc, const core::Map& map, int buffer, int width,
                    const std::function<void()>& change) {
  emit_pack_rows(cc, RowPlace(map), static_cast<int>(map.run), buffer, width, change);
}

void emit_pack_rows(ChunkContext& cc, const RowPlace& from, int elements, int buffer, int width,
                    const std::function<void()>& change) {
  constexpr int kZero = 20, kPacked = 21;
  Context& c = cc.c;
  Emitter& e = c.e;
  const int vectors = elements / kLanes;
  const std::int64_t step = kLanes * from.stride() * static_cast<std::int64_t>(core::size_of(from.dtype));
  Mark& again = e.mark("row");
  emit_point_at_rows(c, reg::r8, reg::r10, from);
  e.lea(reg::r9, e.at(reg::work, buffer));
  e.mov(reg::rcx, reg::tokens);
  e.bind(again);
  for (int i = 0; i < vectors; ++i) load(c, i, {reg::r8, i * step, from.dtype, from.stride()});
  change();
  if (vectors % 2 != 0) e.vpxord(zmm(kZero), zmm(kZero), zmm(kZero));
  for (int i = 0; i < vectors; i += 2) {
    e.vcvtne2ps2bf16(zmm(kPacked), zmm(i + 1 < vectors ? i + 1 : kZero), zmm(i));
    e.vmovups(e.at(reg::r9, 32 * i), zmm(kPacked));
  }
  e.add(reg::r8, reg::r10);
  e.add(reg::r9, 2 * width);
  e.dec(reg::ecx);
  e.jnz(again);
  emit_zero_missing_rows(cc, buffer, width);
}

void emit_fill_missing(ChunkContext& cc, int buffer, float value) {
  Emitter& e = cc.c.e;
  for_missing_rows(cc, buffer, 4, [&] {
    e.mov(reg::eax, e.scalar(value));
    e.mov(e.at(reg::r9), reg::eax);
  });
}

void emit_pack_column(ChunkContext& cc, const core::Map& map, int buffer, float behind) {
  constexpr int kValue = 0;
  Context& c = cc.c;
  Emitter& e = c.e;
  Mark& again = e.mark("column");
  emit_pointer(c, reg::r8, map, Row::kToken);
  emit_row_step(c, reg::r10, map);
  e.lea(reg::r9, e.at(reg::work, buffer));
  e.mov(reg::rcx, reg::tokens);
  e.bind(again);
  if (map.dtype == core::DType::kFp32) {
    e.mov(reg::eax, e.at(reg::r8));
  } else {
    e.movzx(reg::eax, e.at_bits(16, reg::r8));
  }
  if (map.dtype == core::DType::kBf16) e.shl(reg::eax, 16);
  if (map.dtype == core::DType::kFp16) {
    e.vmovd(xmm(kValue), reg::eax);
    e.vcvtph2ps(xmm(kValue), xmm(kValue));
    e.vmovss(e.at(reg::r9), xmm(kValue));
  } else {
    e.mov(e.at(reg::r9), reg::eax);
  }
  e.add(reg::r8, reg::r10);
  e.add(reg::r9, 4);
  e.dec(reg::ecx);
  e.jnz(again);
  emit_fill_missing(cc, buffer, behind);
}

void emit_interleave(Emitter& e) {
  if (e.is_narrow()) return;
  std::array<std::uint16_t, 32> index{};
  for (std::size_t i = 0; i < index.size(); ++i) index[i] = static_cast<std::uint16_t>(i / 2 + i % 2 * kLanes);
  e.vmovups(zmm(kInterleave), e.vector(index));
}

// Three rounds of shuffles: neighbours, pairs, then the 128-bit lanes in two steps.
void emit_transpose(Emitter& e, const std::function<void(int)>& load, const std::function<void(int)>& store) {
  constexpr int kEven = 0x88, kOdd = 0xdd;
  const auto r = [](int i) { return zmm(i); };
  const auto t = [](int i) { return zmm(16 + i); };
  for (int i = 0; i < 16; ++i) load(i);
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
  for (int j = 0; j < 4; ++j) {
    e.vshufi32x4(t(j), r(j), r(4 + j), imm8(kEven));
    e.vshufi32x4(t(4 + j), r(j), r(4 + j), imm8(kOdd));
    e.vshufi32x4(t(8 + j), r(8 + j), r(12 + j), imm8(kEven));
    e.vshufi32x4(t(12 + j), r(8 + j), r(12 + j), imm8(kOdd));
  }
  for (int j = 0; j < 4; ++j) {
    for (int half = 0; half < 2; ++half) {
      e.vshufi32x4(r(0), t(4 * half + j), t(8 + 4 * half + j), imm8(kEven));
      store(4 * half + j);
      e.vshufi32x4(r(0), t(4 * half + j), t(8 + 4 * half + j), imm8(kOdd));
      store(8 + 4 * half + j);
    }
  }
}

void emit_interleave_words(Emitter& e, int target) {
  if (e.is_narrow()) {
    e.interleave_words(zmm(target));
  } else {
    e.vpermw(zmm(target), zmm(kInterleave), zmm(target));
  }
}

void emit_round_off(Emitter& e, int high, int first, int second, int part) {
  e.vcvtne2ps2bf16(zmm(high), zmm(second), zmm(first));
  const auto subtract = [&](int from) {
    e.vpslld(zmm(part), zmm(part), imm8(16));
    e.vsubps(zmm(from), zmm(from), zmm(part));
  };
  e.vpmovzxwd(zmm(part), ymm(high));
  subtract(first);
  e.vextractf64x4(ymm(part), zmm(high), imm8(1));
  e.vpmovzxwd(zmm(part), ymm(part));
  subtract(second);
}

void emit_pair_up(Emitter& e, int target, int even, int odd) {
  e.vcvtne2ps2bf16(zmm(target), zmm(odd), zmm(even));
  emit_interleave_words(e, target);
}

}  // namespace gdn::cpu
