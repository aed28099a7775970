// v of a chunk, and the factors that the decay gives its tokens.
#include "cpu/chunk.h"
#include "cpu/chunk_source.h"
#include "cpu/math.h"

namespace gdn::cpu {
namespace {

constexpr int kX = 0, kT1 = 1, kT2 = 2, kG = 4, kLast = 5, kBeta = 6;

Address vector_at(ChunkContext& cc, int buffer, int token) { return cc.c.e.at(reg::work, buffer + 4 * token); }

// zmm(kX) <- 2^(value at `token` - zmm(kG)), or the other way round.
void exponent_of(ChunkContext& cc, int last_token, bool forward) {
  Emitter& e = cc.c.e;
  e.vbroadcastss(zmm(kX), vector_at(cc, cc.at.g, last_token));
  if (forward) {
    e.vsubps(zmm(kX), zmm(kG), zmm(kX));
  } else {
    e.vsubps(zmm(kX), zmm(kX), zmm(kG));
  }
  emit_exp2(cc.c, kX, kT1, kT2);
}

void multiply(Emitter& e, int x, double factor) {
  if (factor != 1) e.vmulps(zmm(x), zmm(x), e.constant(static_cast<float>(factor)));
}

// In the order of the tokens, as the recurrence multiplies.
void sum_up(ChunkContext& cc) {
  constexpr int kUnrolled = 4;
  Emitter& e = cc.c.e;
  Mark& again = e.mark("running_sum");
  e.vpxord(zmm(kX), zmm(kX), zmm(kX));
  e.lea(reg::r8, e.at(reg::work, cc.at.g));
  e.mov(reg::ecx, kChunk / kUnrolled);
  e.bind(again);
  for (int i = 0; i < kUnrolled; ++i) {
    e.vaddss(xmm(kX), xmm(kX), e.at(reg::r8, 4 * i));
    e.vmovss(e.at(reg::r8, 4 * i), xmm(kX));
  }
  e.add(reg::r8, 4 * kUnrolled);
  e.dec(reg::ecx);
  e.jnz(again);
}

void make_factors(ChunkContext& cc) {
  Emitter& e = cc.c.e;
  const core::Facts& f = cc.c.facts;
  const Buffers& at = cc.at;
  for (int token = 0; token < kChunk; token += kLanes) {
    e.vmovaps(zmm(kG), vector_at(cc, at.g, token));
    e.vmovaps(zmm(kX), zmm(kG));
    emit_exp2(cc.c, kX, kT1, kT2);
    e.vmovaps(zmm(kBeta), vector_at(cc, at.beta, token));
    e.vmulps(zmm(kBeta), zmm(kBeta), zmm(kX));
    multiply(e, kBeta, f.k_scale);
    e.vmovaps(vector_at(cc, at.beta_from_start, token), zmm(kBeta));
    if (token + kLanes == kChunk) {
      // The last token's, before it gets q's scale.
      e.vextractf64x4(ymm(kLast), zmm(kX), imm8(1));
      e.vmovups(e.at(reg::frame, cc.c.frame.staged), ymm(kLast));
      e.mov(reg::eax, e.at(reg::frame, cc.c.frame.staged + 28));
      e.mov(e.at(reg::work, at.decay), reg::eax);
    }
    multiply(e, kX, f.q_scale);
    e.vmovaps(vector_at(cc, at.from_start, token), zmm(kX));
    exponent_of(cc, kChunk - 1, /*forward=*/false);
    multiply(e, kX, f.k_scale);
    e.vmovaps(vector_at(cc, at.to_end, token), zmm(kX));
    exponent_of(cc, token + kSub - 1, /*forward=*/false);
    e.vmovaps(vector_at(cc, at.to_block_end, token), zmm(kX));
    for (int block = 0; block < token / kSub; ++block) {
      exponent_of(cc, block * kSub + kSub - 1, /*forward=*/true);
      e.vmovaps(vector_at(cc, at.from_block_end + 4 * kChunk * block, token), zmm(kX));
    }
  }
}

}  // namespace

void emit_to_log2(Context& c, int x, int t1, int t2, int t3) {
  constexpr float kLog2E = 1.44269504f, kLeast = -256.0f;
  if (c.facts.g_handover == Domain::kExp) {
    emit_log2(c, x, t1, t2, t3);
    return;
  }
  if (c.facts.g_handover == Domain::kLn) c.e.vmulps(zmm(x), zmm(x), c.e.constant(kLog2E));
  // The bound is the first source, so that a NaN passes.
  c.e.vbroadcastss(zmm(t1), c.e.scalar(kLeast));
  c.e.vmaxps(zmm(x), zmm(t1), zmm(x));
}

void emit_values(ChunkContext& cc) {
  cc.c.e.comment("v and the gates of the chunk");
  emit_value_rows(cc);
  emit_log2_decays(cc);
  emit_betas(cc);
  sum_up(cc);
  make_factors(cc);
}

}  // namespace gdn::cpu
