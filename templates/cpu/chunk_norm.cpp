// The end of a whole layer's chunk: the gated norm of a value head's output.
#include "cpu/chunk.h"
#include "cpu/conv.h"
#include "cpu/conv_rows.h"
#include "cpu/item.h"
#include "cpu/memory.h"
#include "cpu/norm.h"
#include "cpu/quantise.h"

namespace gdn::cpu {

void emit_norm_output(ChunkContext& cc) {
  Context& c = cc.c;
  Emitter& e = c.e;
  const core::Facts& f = c.facts;
  const Reg64 step = reg::rcx, o = reg::r11;
  const bool gated = f.norm_gate != core::Activation::kNone, quantised = quantises(f);
  // The quantiser takes all other registers.
  const auto variable = [&](int i) { return e.at(reg::work, cc.at.use + 8 * i); };
  const Address z_step = variable(0), out_step = variable(1), scales = variable(2), rows_left = variable(3);
  e.comment("the chunk's output through the gated norm");
  Mark& again = e.mark("norm_row");
  if (gated) {
    emit_point_at_rows(c, reg::r8, step, f.in_z);
    e.mov(z_step, step);
  }
  emit_point_at_rows(c, reg::r9, step, f.out);
  e.mov(out_step, step);
  if (quantised) {
    emit_scale_pointer(c, reg::rdx);
    e.mov(scales, reg::rdx);
  }
  emit_pointer(c, reg::r10, f.norm_w, Row::kNone);
  e.lea(o, e.at(reg::work, cc.at.o));
  e.mov(rows_left, reg::tokens);
  e.bind(again);
  if (f.norm_b.present()) emit_pointer(c, reg::rsi, f.norm_b, Row::kNone);
  for (int i = 0; i < c.value_vectors(); ++i) {
    e.vmovups(zmm(i), e.at(o, strip_offset(i, kChunk)));
    round_to(c, i, f.round_o);
  }
  emit_gated_norm_vectors(c);
  if (quantised) e.mov(reg::rdx, scales);
  emit_leave_normed(c);
  if (quantised) {
    if (f.scale_group_first) {
      e.mov(step, 4);
    } else {
      emit_row_step(c, step, f.out_scale);
    }
    e.add(step, scales);
    e.mov(scales, step);
  }
  if (gated) e.add(reg::r8, z_step);
  e.add(reg::r9, out_step);
  e.add(o, 4 * kBlock);
  e.mov(step, rows_left);
  e.dec(step);
  e.mov(rows_left, step);
  e.jnz(again);
}

namespace {

// Rows from reg::row on, reg::tokens of them, of value head reg::group: o becomes the layer's output where it lies.
void norm_in_place(Context& c) {
  Emitter& e = c.e;
  const core::Facts& f = c.facts;
  const Reg64 z_step = reg::r11, step = reg::rdx, left = reg::rcx;
  const bool gated = f.norm_gate != core::Activation::kNone;
  Mark& again = e.mark("norm_row");
  emit_point_at_norm(c);
  if (gated) emit_row_step(c, z_step, f.in_z);
  emit_point_at_rows(c, reg::r9, step, f.out);
  e.mov(left, reg::tokens);
  e.bind(again);
  for (int i = 0; i < c.value_vectors(); ++i) {
    load(c, i,
         {reg::r9, i * static_cast<std::int64_t>(kLanes) * stride_bytes(f.out, f.out.inner_stride), f.out.dtype,
          f.out.inner_stride});
  }
  emit_gated_norm_vectors(c);
  emit_leave_normed(c);
  if (gated) e.add(reg::r8, z_step);
  e.add(reg::r9, step);
  e.dec(left);
  e.jnz(again);
}

}  // namespace

void emit_after_columns(Context& c, int parts) {
  Emitter& e = c.e;
  const core::Facts& f = c.facts;
  const int part = SequencePlaces::kBytes;
  const SequenceWalk walk(c, SequencePlaces::from(0), {&f.state, &f.window_q, &f.window_k, &f.window_v}, parts, part);
  const Address left = walk.variable(walk.places().left);
  const auto sequence = [&] {
    if (f.final_states) {
      Mark& others = e.mark("windows_left");
      walk.unless_first_part(others);
      e.add(reg::row, left);
      emit_leave_window(c, walk, conv_q(f));
      emit_leave_window(c, walk, conv_k(f));
      e.sub(reg::row, left);
      e.bind(others);
    }
    if (!f.norm_w.present()) return;
    // Rows left * part / parts to before left * (part + 1) / parts.
    Mark& none = e.mark("no_rows");
    const auto bound = [&](const Reg64& target) {
      e.imul(reg::rax, left);
      e.xor_(reg::rdx, reg::rdx);
      e.mov(reg::ecx, parts);
      e.div(reg::rcx);
      e.mov(target, reg::rax);
    };
    e.mov(reg::rax, walk.variable(part));
    bound(reg::r8);
    e.mov(reg::rax, walk.variable(part));
    e.inc(reg::rax);
    bound(reg::tokens);
    e.sub(reg::tokens, reg::r8);
    e.jz(none);
    e.add(reg::row, reg::r8);
    emit_for_heads(c, [&] { norm_in_place(c); });
    e.bind(none);
  };
  walk.emit({}, [] {}, sequence, [] {});
}

}  // namespace gdn::cpu
