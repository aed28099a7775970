#include "cpu/chunk_source.h"

#include "cpu/chunk_rows.h"
#include "cpu/gates.h"
#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"
#include "cpu/norm.h"

namespace gdn::cpu {
namespace {

using core::Domain;
using core::Map;

constexpr int kX = 0, kBias = 6;
constexpr float kLeastLog2 = -256.0f;  // 2^-256 is 0 in fp32; bounded, sums of a chunk stay finite

// `change` of zmm(kX) over [token] fp32 at `buffer`.
void for_token_vectors(ChunkContext& cc, int buffer, const std::function<void()>& change) {
  Emitter& e = cc.c.e;
  for (int token = 0; token < kChunk; token += kLanes) {
    e.vmovaps(zmm(kX), e.at(reg::work, buffer + 4 * token));
    change();
    e.vmovaps(e.at(reg::work, buffer + 4 * token), zmm(kX));
  }
}

void bound_log2(Emitter& e) {
  // The bound is the first source, so that a NaN passes.
  e.vbroadcastss(zmm(1), e.scalar(kLeastLog2));
  e.vmaxps(zmm(kX), zmm(1), zmm(kX));
}

// zmm(target), every lane <- the head's number in an operand that has one a head.
void broadcast_head(Context& c, int target, const Map& map) {
  c.e.xor_(reg::rdx, reg::rdx);
  emit_pointer(c, reg::r8, map, Row::kNone);
  load_scalar(c, c.frame.staged, reg::rdx, reg::r8, map.dtype);
  c.e.vbroadcastss(zmm(target), c.e.at(reg::frame, c.frame.staged));
}

void decays_handed_over(ChunkContext& cc) {
  // Places of no token decay by nothing.
  emit_pack_column(cc, cc.c.facts.in_g, cc.at.g, cc.c.facts.g_handover == Domain::kExp ? 1.0f : 0.0f);
  for_token_vectors(cc, cc.at.g, [&] { emit_to_log2(cc.c, kX, 1, 2, 3); });
}

// What emit_decay_vector takes of the head at hand: zmm(kGateRate).
void load_head_rate(Context& c) {
  if (c.facts.a_log.present()) broadcast_head(c, kGateRate, c.facts.a_log);
  emit_rate_vector(c);
}

}  // namespace

void emit_query_and_key_rows(ChunkContext& cc) {
  Context& c = cc.c;
  const core::Facts& f = c.facts;
  const auto norm = [&] { emit_qk_norm_vectors(c, 1); };
  const auto pack = [&](const ConvPart& part, const HeadPlace* history, int buffer) {
    if (cc.projected == nullptr) {
      emit_pack_rows(cc, part.input, buffer, cc.at.key_dim, norm);
      return;
    }
    emit_conv_rows(c, part, *history, cc.projected->convolved);
    emit_pack_rows(cc, cc.projected->convolved, f.key_dim, buffer, cc.at.key_dim, norm);
  };
  const Histories* const histories = cc.projected == nullptr ? nullptr : &cc.projected->histories;
  pack(conv_q(f), histories == nullptr ? nullptr : &histories->q, cc.at.q);
  pack(conv_k(f), histories == nullptr ? nullptr : &histories->k, cc.at.k);
}

void emit_value_rows(ChunkContext& cc) {
  Context& c = cc.c;
  const core::Facts& f = c.facts;
  if (cc.projected == nullptr) {
    emit_pack_rows(cc, f.in_v, cc.at.v, cc.at.value_dim, [] {});
    return;
  }
  const bool whole = cc.at.value_dim == f.value_dim;
  // Straight to where products take them, if no row has a place behind the head's channels.
  const RowPlace to = whole ? RowPlace(cc.at.v, cc.at.value_dim, core::DType::kBf16) : cc.projected->convolved;
  emit_conv_rows(c, conv_v(f), cc.projected->histories.v, to);
  if (whole) {
    emit_zero_missing_rows(cc, cc.at.v, cc.at.value_dim);
  } else {
    emit_pack_rows(cc, to, f.value_dim, cc.at.v, cc.at.value_dim, [] {});
  }
}

void emit_betas(ChunkContext& cc) {
  Context& c = cc.c;
  if (cc.projected == nullptr) {
    emit_pack_column(cc, c.facts.in_beta, cc.at.beta, 0.0f);
    return;
  }
  emit_pack_column(cc, c.facts.in_b, cc.at.beta, 0.0f);
  for_token_vectors(cc, cc.at.beta, [&] { emit_beta_vector(c); });
  emit_fill_missing(cc, cc.at.beta, 0.0f);
}

void emit_log2_decays(ChunkContext& cc) {
  Context& c = cc.c;
  const core::Facts& f = c.facts;
  if (cc.projected == nullptr) {
    decays_handed_over(cc);
    return;
  }
  emit_pack_column(cc, f.in_a, cc.at.g, 0.0f);
  load_head_rate(c);
  broadcast_head(c, kBias, f.dt_bias);
  for_token_vectors(cc, cc.at.g, [&] {
    c.e.vaddps(zmm(kX), zmm(kX), zmm(kBias));
    emit_decay_vector(c, Domain::kLog2);
    bound_log2(c.e);
  });
  emit_fill_missing(cc, cc.at.g, 0.0f);
}

// Channel by channel, so that what they add to `a` stays in a register along the rows.
void emit_channel_decays(ChunkContext& cc) {
  Context& c = cc.c;
  Emitter& e = c.e;
  const Map &a = c.facts.in_a, &bias = c.facts.dt_bias;
  const int row_bytes = 4 * cc.at.key_dim;
  e.comment("gates of the key channels");
  load_head_rate(c);
  emit_point_at_rows(c, reg::r8, reg::r10, a);
  emit_pointer(c, reg::r11, bias, Row::kNone);
  e.lea(reg::r9, e.at(reg::work, cc.at.gates));
  e.mov(reg::rdx, c.key_vectors());
  Mark& vector = e.mark("gates_channels");
  Mark& row = e.mark("gates_token");
  e.bind(vector);
  load(c, kBias, {reg::r11, 0, bias.dtype, bias.inner_stride});
  e.mov(reg::rcx, reg::tokens);
  e.bind(row);
  load(c, kX, {reg::r8, 0, a.dtype, a.inner_stride});
  e.vaddps(zmm(kX), zmm(kX), zmm(kBias));
  emit_decay_vector(c, Domain::kLog2);
  bound_log2(e);
  e.vmovups(e.at(reg::r9), zmm(kX));
  e.add(reg::r8, reg::r10);
  e.add(reg::r9, row_bytes);
  e.dec(reg::ecx);
  e.jnz(row);
  e.imul(reg::rax, reg::tokens, row_bytes);
  e.sub(reg::r9, reg::rax);
  e.add(reg::r9, 64);
  e.mov(reg::rax, reg::r10);
  e.imul(reg::rax, reg::tokens);
  e.sub(reg::r8, reg::rax);
  emit_advance(c, reg::r8, static_cast<std::int64_t>(kLanes) * stride_bytes(a, a.inner_stride));
  emit_advance(c, reg::r11, static_cast<std::int64_t>(kLanes) * stride_bytes(bias, bias.inner_stride));
  e.dec(reg::rdx);
  e.jnz(vector);
}

}  // namespace gdn::cpu
