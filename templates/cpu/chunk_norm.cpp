// The end of a whole layer's chunk: the gated norm of a value head's output.
#include "cpu/chunk.h"
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

}  // namespace gdn::cpu
