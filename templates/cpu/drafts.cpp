#include "cpu/drafts.h"

#include "cpu/conv.h"
#include "cpu/delta.h"
#include "cpu/draft.h"
#include "cpu/gates.h"
#include "cpu/item.h"
#include "cpu/memory.h"
#include "cpu/norm.h"
#include "cpu/state_copy.h"

namespace gdn::cpu {
namespace {

using core::Facts;
using core::Map;
using core::Rollback;

// Bytes of a thread's scratch memory: states of the key head's value heads, then each token's convolved q, k and v.
struct Places {
  explicit Places(const Facts& f)
      : q(f.group * scratch_state_bytes(f)),
        k(q + std::int64_t{4} * f.key_dim),
        v(k + std::int64_t{4} * f.key_dim),
        token_bytes(std::int64_t{4} * (2 * f.key_dim + f.group * f.value_dim)),
        size(q + f.tokens * token_bytes) {}
  std::int64_t q, k, v;
  std::int64_t token_bytes;
  std::int64_t size;
};

Address variable(Context& c, int offset) { return c.e.at(reg::frame, offset); }

// target <- the state of value head reg::group in scratch memory
void state_pointer(Context& c, const Reg64& target) {
  c.e.mov(reg::rax, static_cast<std::uint64_t>(scratch_state_bytes(c.facts)));
  c.e.imul(reg::rax, reg::group);
  c.e.mov(target, variable(c, c.frame.scratch));
  c.e.add(target, reg::rax);
}

// `channels` fp32 numbers at the address in r8, `stride` elements apart, into the frame, and back.
void load_vectors(Context& c, int frame_offset, int channels, std::int64_t stride) {
  for (int i = 0; i < channels / kLanes; ++i) {
    load(c, 0, {reg::r8, std::int64_t{4} * kLanes * i * stride, core::DType::kFp32, stride});
    c.e.vmovaps(c.e.at(reg::frame, frame_offset + 64 * i), zmm(0));
  }
}
void store_vectors(Context& c, int frame_offset, int channels, std::int64_t stride) {
  for (int i = 0; i < channels / kLanes; ++i) {
    c.e.vmovaps(zmm(0), c.e.at(reg::frame, frame_offset + 64 * i));
    store(c, {reg::r8, std::int64_t{4} * kLanes * i * stride, core::DType::kFp32, stride}, 0);
  }
}

// A convolved part of the token at hand from scratch memory into the frame; `head_bytes` from value head to value head.
void take_token(Context& c, const Places& at, std::int64_t place, std::int64_t head_bytes, int frame_offset,
                int channels) {
  c.e.mov(reg::r8, variable(c, c.frame.scratch));
  c.e.imul(reg::rax, variable(c, c.frame.token), static_cast<int>(at.token_bytes));
  c.e.add(reg::r8, reg::rax);
  if (head_bytes > 0) {
    c.e.imul(reg::rax, reg::group, static_cast<int>(head_bytes));
    c.e.add(reg::r8, reg::rax);
  }
  emit_advance(c, reg::r8, place);
  load_vectors(c, frame_offset, channels, 1);
}

// r8 <- the record of the token in frame.token
void record_pointer(Context& c, const Map& map) {
  emit_pointer(c, reg::r8, map, Row::kSlot);
  emit_step_to(c, reg::r8, map, c.frame.token);
}

// The record of a value head's decays between the slot and the frame.
void load_decays(Context& c) {
  const Map& map = c.facts.record_decay;
  record_pointer(c, map);
  if (c.by_channel()) {
    load_vectors(c, c.frame.decays, c.facts.key_dim, map.inner_stride);
  } else {
    load_scalar(c, c.frame.decay, reg::group, reg::r8, map.dtype);
  }
}
void keep_decays(Context& c) {
  const Map& map = c.facts.record_decay;
  record_pointer(c, map);
  if (c.by_channel()) {
    store_vectors(c, c.frame.decays, c.facts.key_dim, map.inner_stride);
  } else {
    store_scalar(c, reg::r8, map.dtype, c.frame.decay, reg::group);
  }
}

// `body` for frame.token from where it stands to below `end`, an operand of cmp; at least once.
template <class End>
void repeat_tokens(Context& c, const char* name, const End& end, const std::function<void()>& body) {
  Mark& again = c.e.mark(name);
  c.e.bind(again);
  body();
  c.e.mov(reg::rax, variable(c, c.frame.token));
  c.e.inc(reg::rax);
  c.e.mov(variable(c, c.frame.token), reg::rax);
  c.e.cmp(reg::rax, end);
  c.e.jb(again);
}

void first_token(Context& c) {
  c.e.xor_(reg::eax, reg::eax);
  c.e.mov(variable(c, c.frame.token), reg::rax);
}

// The state that value head reg::group starts from, in scratch memory; with records, the accepted ones applied to it.
// reg::slot is the window's before and after.
void take_state(Context& c) {
  const Facts& f = c.facts;
  const Map scratch = state_in_scratch(f);
  emit_state_slot(c);
  emit_pointer(c, reg::r8, f.state, Row::kSlot);
  state_pointer(c, reg::r9);
  emit_load_state(c, scratch);
  emit_window_slot(c);
  if (f.rollback != Rollback::kReplay) return;
  Mark& none = c.e.mark("no_records");
  c.e.mov(reg::rax, variable(c, c.frame.accepted));
  c.e.test(reg::rax, reg::rax);
  c.e.jz(none);
  first_token(c);
  repeat_tokens(c, "record", variable(c, c.frame.accepted), [&] {
    record_pointer(c, f.record_k);
    load_vectors(c, c.frame.k, f.key_dim, f.record_k.inner_stride);
    record_pointer(c, f.record_u);
    load_vectors(c, c.frame.v, f.value_dim, f.record_u.inner_stride);
    load_decays(c);
    state_pointer(c, reg::r8);
    emit_state_update(c);
  });
  state_pointer(c, reg::r8);
  emit_pointer(c, reg::r9, f.state, Row::kSlot);
  emit_store_state(c, scratch);
  c.e.bind(none);
}

// r8 <- what the accepted token's slot keeps by a map, r9 <- the same of the sequence's own.
void point_at_move(Context& c, const Map& map) {
  emit_state_slot(c);
  emit_pointer(c, reg::r8, map, Row::kSlot);
  emit_window_slot(c);
  emit_pointer(c, reg::r9, map, Row::kSlot);
}

// The state in scratch memory to where the scheme keeps that of the token at hand.
void keep_state(Context& c) {
  const Facts& f = c.facts;
  const Map scratch = state_in_scratch(f);
  if (f.rollback == Rollback::kReplay) return;
  state_pointer(c, reg::r8);
  if (f.rollback == Rollback::kSlots) {
    emit_token_slot(c);
    emit_pointer(c, reg::r9, f.state, Row::kSlot);
    emit_store_state(c, scratch);
    emit_window_slot(c);
    return;
  }
  c.e.mov(reg::rcx, variable(c, c.frame.sequence));
  emit_pointer(c, reg::r9, f.intermediate, Row::kToken, {reg::rcx, reg::slot, reg::key_head, false});
  emit_step_to(c, reg::r9, f.intermediate, c.frame.token);
  emit_state_copy(c, scratch, f.intermediate);
}

// A token that the launch has not: a decay that no token has.
void forget_records(Context& c) {
  const Map& map = c.facts.record_decay;
  Mark& all = c.e.mark("all_recorded");
  c.e.mov(reg::rax, variable(c, c.frame.tokens));
  c.e.mov(variable(c, c.frame.token), reg::rax);
  c.e.cmp(reg::rax, c.facts.tokens);
  c.e.jge(all);
  repeat_tokens(c, "no_token", c.facts.tokens, [&] {
    emit_for_heads(c, [&] {
      record_pointer(c, map);
      if (!c.by_channel()) {
        c.e.mov(c.e.at_bits(32, reg::r8), 0xbf800000u);  // -1
        return;
      }
      c.e.vbroadcastss(zmm(0), c.e.scalar(-1.0f));
      for (int i = 0; i < c.key_vectors(); ++i) {
        store(c, {reg::r8, std::int64_t{4} * kLanes * i * map.inner_stride, map.dtype, map.inner_stride}, 0);
      }
    });
  });
  c.e.bind(all);
}

// Rows of a window from the offset on to its front: the inputs that the state belongs to.
void commit_window(Context& c, const Map& window) {
  const int inputs = c.facts.conv_width - 1;
  const std::int64_t tap = window.tap_stride * static_cast<std::int64_t>(core::size_of(window.dtype));
  emit_pointer(c, reg::r9, window, Row::kSlot);
  c.e.mov(reg::r8, reg::r9);
  emit_step_to(c, reg::r8, window, c.frame.window_offset);
  emit_repeat(c, static_cast<int>(window.run) / kLanes, "commit_window", [&] {
    // An offset may be shorter than the history: rows go to the front oldest first.
    for (int i = 0; i < inputs; ++i) {
      load_raw(c, 0, {reg::r8, i * tap, window.dtype, window.inner_stride});
      store_raw(c, {reg::r9, i * tap, window.dtype, window.inner_stride}, 0);
    }
    const std::int64_t step = std::int64_t{kLanes} * stride_bytes(window, window.inner_stride);
    emit_advance(c, reg::r8, step);
    emit_advance(c, reg::r9, step);
  });
}

}  // namespace

std::int64_t decode_spec_scratch(const Facts& facts) { return Places(facts).size; }

std::int64_t state_commit_scratch(const Facts& facts) {
  return facts.rollback == Rollback::kReplay ? facts.group * scratch_state_bytes(facts) : 0;
}

void emit_decode_spec(Context& c) {
  const Facts& f = c.facts;
  const Places at(f);
  const bool replays = f.rollback == Rollback::kReplay;
  emit_drafts(c, [&](const Mark&) {
    emit_conv_tokens(c, conv_q(f), at.q, at.token_bytes);
    emit_conv_tokens(c, conv_k(f), at.k, at.token_bytes);
    emit_for_heads(c, [&] {
      emit_conv_tokens(c, conv_v(f), at.v, at.token_bytes);
      take_state(c);
    });
    first_token(c);
    repeat_tokens(c, "token", variable(c, c.frame.tokens), [&] {
      take_token(c, at, at.q, 0, c.frame.q, f.key_dim);
      take_token(c, at, at.k, 0, c.frame.k, f.key_dim);
      emit_qk_norm(c, c.frame.q, f.q_scale);
      emit_qk_norm(c, c.frame.k, f.k_scale);
      emit_key_query(c);
      emit_gates(c, core::Domain::kExp);
      if (replays) {
        record_pointer(c, f.record_k);
        store_vectors(c, c.frame.k, f.key_dim, f.record_k.inner_stride);
      }
      emit_for_heads(c, [&] {
        take_token(c, at, at.v, std::int64_t{4} * f.value_dim, c.frame.v, f.value_dim);
        if (c.by_channel()) emit_channel_gates(c, core::Domain::kExp);
        state_pointer(c, reg::r8);
        emit_delta_in_place(c, state_in_scratch(f));
        if (replays) {
          record_pointer(c, f.record_u);
          store_vectors(c, c.frame.v, f.value_dim, f.record_u.inner_stride);
          keep_decays(c);
        }
        emit_output(c);
        keep_state(c);
      });
      c.e.inc(reg::row);
    });
    if (replays) forget_records(c);
  });
}

void emit_state_commit(Context& c) {
  const Facts& f = c.facts;
  emit_drafts(c, [&](const Mark& nothing) {
    // Nothing to do where the sequence stands as its slot says.
    c.e.mov(reg::rax, variable(c, c.frame.accepted));
    c.e.cmp(reg::rax, f.rollback == Rollback::kSlots ? 1 : 0);
    c.e.jle(nothing);
    commit_window(c, f.window_q);
    commit_window(c, f.window_k);
    emit_for_heads(c, [&] {
      commit_window(c, f.window_v);
      if (f.rollback == Rollback::kReplay) {
        take_state(c);  // which stores it too
        return;
      }
      if (f.rollback == Rollback::kIntermediate) {
        emit_pointer(c, reg::r8, f.intermediate, Row::kToken);
        emit_step_to(c, reg::r8, f.intermediate, c.frame.accepted, -1);
        emit_pointer(c, reg::r9, f.state, Row::kSlot);
        emit_store_state(c, f.intermediate);
        return;
      }
      point_at_move(c, f.state);
      emit_state_copy(c, f.state, f.state);
      if (!f.state_scale.present()) return;
      point_at_move(c, f.state_scale);
      emit_move_scales(c);
    });
  });
}

}  // namespace gdn::cpu
