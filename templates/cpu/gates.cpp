#include "cpu/gates.h"

#include "cpu/copy.h"
#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"

namespace gdn::cpu {
namespace {

using core::Domain;
using core::Map;

constexpr float kLog2E = 1.44269504f;
constexpr float kLn2 = 0.693147181f;

std::int64_t group_bytes(const Map& map) {
  return map.group_stride * static_cast<std::int64_t>(core::size_of(map.dtype));
}

void for_each_head(Context& c, const char* name, const std::function<void()>& body) {
  c.e.xor_(reg::rdx, reg::rdx);
  emit_repeat(c, c.facts.group, name, [&] {
    body();
    c.e.inc(reg::rdx);
  });
}

void for_each_vector_of_heads(Context& c, const std::function<void(int offset)>& body) {
  for (int first = 0; first < c.facts.group; first += kLanes) body(4 * first);
}

// zmm(kGateRate) <- the rates of 16 heads, whose A_log (where there is one) lies in frame.decay.
void load_rate(Context& c, int offset) {
  if (c.facts.a_stored != core::AStored::kAbsent) {
    c.e.vmovaps(zmm(kGateRate), c.e.at(reg::frame, c.frame.decay + offset));
  }
  emit_rate_vector(c);
}

// A vector of the frame from ln or log2 to the factor itself.
void to_factor(Context& c, int frame_offset) {
  c.e.vmovaps(zmm(0), c.e.at(reg::frame, frame_offset));
  if (c.facts.g_handover == Domain::kLog2) c.e.vmulps(zmm(0), zmm(0), c.e.constant(kLn2));
  emit_exp(c, 0, 1, 2);
  c.e.vmovaps(c.e.at(reg::frame, frame_offset), zmm(0));
}

const Position kFirstHead{reg::row, reg::slot, reg::key_head, true};

}  // namespace

void emit_beta_vector(Context& c) {
  const core::Facts& f = c.facts;
  emit_sigmoid(c, 0, 1, 2);
  if (f.beta_factor != 1) c.e.vmulps(zmm(0), zmm(0), c.e.constant(static_cast<float>(f.beta_factor)));
  round_to(c, 0, f.round_beta);
}

void emit_rate_vector(Context& c) {
  const core::Facts& f = c.facts;
  const bool bounded = f.decay_form == core::DecayForm::kBounded;
  if (f.a_stored == core::AStored::kAbsent) {
    c.e.vbroadcastss(zmm(kGateRate), c.e.scalar(bounded ? 1.0f : -1.0f));
    return;
  }
  const bool log = f.a_stored == core::AStored::kLog;
  if (log) emit_exp(c, kGateRate, 1, 2);
  if (log != bounded) c.e.vpxord(zmm(kGateRate), zmm(kGateRate), c.e.constant_bits(0x80000000u));
}

void emit_decay_vector(Context& c, Domain domain) {
  const core::Facts& f = c.facts;
  if (f.decay_form == core::DecayForm::kBounded) {
    c.e.vmulps(zmm(0), zmm(0), zmm(kGateRate));
    emit_sigmoid(c, 0, 1, 2);
    c.e.vmulps(zmm(0), zmm(0), c.e.constant(static_cast<float>(f.decay_bound)));
  } else {
    emit_softplus(c, f.softplus_threshold, 0, 1, 2, 3, 4);
    c.e.vmulps(zmm(0), zmm(0), zmm(kGateRate));
  }
  if (domain == Domain::kExp) emit_exp(c, 0, 1, 2);
  if (domain == Domain::kLog2) c.e.vmulps(zmm(0), zmm(0), c.e.constant(kLog2E));
}

void emit_gather_heads(Context& c, int frame_offset, const Map& map, bool per_token) {
  emit_pointer(c, reg::r8, map, per_token ? Row::kToken : Row::kNone, kFirstHead);
  for_each_head(c, "gather", [&] {
    load_scalar(c, frame_offset, reg::rdx, reg::r8, map.dtype);
    emit_advance(c, reg::r8, group_bytes(map));
  });
}

void emit_scatter_heads(Context& c, const Map& map, int frame_offset) {
  emit_pointer(c, reg::r8, map, Row::kToken, kFirstHead);
  for_each_head(c, "scatter", [&] {
    store_scalar(c, reg::r8, map.dtype, frame_offset, reg::rdx);
    emit_advance(c, reg::r8, group_bytes(map));
  });
}

void emit_copy_heads(Context& c, const Map& to, const Map& from) {
  if (to.dtype != from.dtype) {
    emit_gather_heads(c, c.frame.a, from, true);
    emit_scatter_heads(c, to, c.frame.a);
    return;
  }
  emit_pointer(c, reg::r8, from, Row::kToken, kFirstHead);
  emit_pointer(c, reg::r9, to, Row::kToken, kFirstHead);
  for_each_head(c, "copy", [&] {
    if (core::size_of(from.dtype) == 4) {
      c.e.mov(reg::eax, c.e.at(reg::r8));
      c.e.mov(c.e.at(reg::r9), reg::eax);
    } else {
      c.e.movzx(reg::eax, c.e.at_bits(16, reg::r8));
      c.e.mov(c.e.at_bits(16, reg::r9), Xbyak::Reg16(0));
    }
    emit_advance(c, reg::r8, group_bytes(from));
    emit_advance(c, reg::r9, group_bytes(to));
  });
}

void emit_gates(Context& c, Domain domain) {
  c.e.comment("gates");
  const core::Facts& f = c.facts;
  emit_gather_heads(c, c.frame.beta, f.in_b, true);
  if (f.a_log.present()) emit_gather_heads(c, c.frame.decay, f.a_log, false);
  if (!c.by_channel()) {
    emit_gather_heads(c, c.frame.a, f.in_a, true);
    emit_gather_heads(c, c.frame.dt_bias, f.dt_bias, false);
  }
  for_each_vector_of_heads(c, [&](int offset) {
    c.e.vmovaps(zmm(0), c.e.at(reg::frame, c.frame.beta + offset));
    emit_beta_vector(c);
    c.e.vmovaps(c.e.at(reg::frame, c.frame.beta + offset), zmm(0));
    load_rate(c, offset);
    if (c.by_channel()) {
      // For emit_channel_gates().
      c.e.vmovaps(c.e.at(reg::frame, c.frame.decay + offset), zmm(kGateRate));
      return;
    }
    c.e.vmovaps(zmm(0), c.e.at(reg::frame, c.frame.a + offset));
    c.e.vaddps(zmm(0), zmm(0), c.e.at(reg::frame, c.frame.dt_bias + offset));
    emit_decay_vector(c, domain);
    c.e.vmovaps(c.e.at(reg::frame, c.frame.decay + offset), zmm(0));
  });
}

void emit_gates_handed_over(Context& c) {
  c.e.comment("gates handed over");
  emit_gather_heads(c, c.frame.beta, c.facts.in_beta, true);
  if (c.by_channel()) return;
  emit_gather_heads(c, c.frame.decay, c.facts.in_g, true);
  if (c.facts.g_handover == Domain::kExp) return;
  for_each_vector_of_heads(c, [&](int offset) { to_factor(c, c.frame.decay + offset); });
}

void emit_channel_gates(Context& c, Domain domain) {
  c.e.comment("gates of the key channels");
  const core::Facts& f = c.facts;
  emit_pointer(c, reg::r8, f.in_a, Row::kToken);
  emit_pointer(c, reg::r9, f.dt_bias, Row::kNone);
  c.e.vbroadcastss(zmm(kGateRate), c.e.indexed(reg::frame, reg::group, 4, c.frame.decay));
  c.e.mov(reg::rdx, reg::frame);
  emit_repeat(c, c.key_vectors(), "channel_gates", [&] {
    load(c, 0, {reg::r8, 0, f.in_a.dtype, f.in_a.inner_stride});
    load(c, 1, {reg::r9, 0, f.dt_bias.dtype, f.dt_bias.inner_stride});
    c.e.vaddps(zmm(0), zmm(0), zmm(1));
    emit_decay_vector(c, domain);
    c.e.vmovaps(c.e.at(reg::rdx, c.frame.decays), zmm(0));
    emit_advance(c, reg::r8, kLanes * stride_bytes(f.in_a, f.in_a.inner_stride));
    emit_advance(c, reg::r9, kLanes * stride_bytes(f.dt_bias, f.dt_bias.inner_stride));
    c.e.add(reg::rdx, 4 * kLanes);
  });
}

void emit_channel_gates_handed_over(Context& c) {
  emit_load_part(c, c.frame.decays, c.facts.in_g);
  if (c.facts.g_handover == Domain::kExp) return;
  for (int i = 0; i < c.key_vectors(); ++i) to_factor(c, c.frame.decays + 64 * i);
}

}  // namespace gdn::cpu
