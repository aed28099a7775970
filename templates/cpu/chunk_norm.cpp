// The end of a whole layer's chunk: the gated norm of a value head's output.
#include "cpu/chunk.h"
#include "cpu/item.h"
#include "cpu/memory.h"
#include "cpu/norm.h"

namespace gdn::cpu {

void emit_norm_output(ChunkContext& cc) {
  Context& c = cc.c;
  Emitter& e = c.e;
  const core::Facts& f = c.facts;
  const Reg64 z_step = reg::rsi, out_step = reg::rdx, o = reg::r11;
  const bool gated = f.norm_gate != core::Activation::kNone;
  e.comment("the chunk's output through the gated norm");
  Mark& again = e.mark("norm_row");
  if (gated) emit_point_at_rows(c, reg::r8, z_step, f.in_z);
  emit_point_at_rows(c, reg::r9, out_step, f.out);
  emit_pointer(c, reg::r10, f.norm_w, Row::kNone);
  e.lea(o, e.at(reg::work, cc.at.o));
  e.mov(reg::rcx, reg::tokens);
  e.bind(again);
  for (int i = 0; i < c.value_vectors(); ++i) {
    e.vmovups(zmm(i), e.at(o, strip_offset(i, kChunk)));
    round_to(c, i, f.round_o);
  }
  emit_gated_norm_vectors(c);
  if (gated) e.add(reg::r8, z_step);
  e.add(reg::r9, out_step);
  e.add(o, 4 * kBlock);
  e.dec(reg::ecx);
  e.jnz(again);
}

}  // namespace gdn::cpu
