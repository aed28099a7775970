// The two norms of the layer: q and k over the key channels, o over the value channels of a head.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// Normalises the [key_dim] vector at `frame_offset` where the facts want it, multiplies by `scale` and rounds.
void emit_qk_norm(Context& c, int frame_offset, double scale);

// The same of the vectors in zmm0 and the registers behind it. Changes zmm16 to zmm18 and what memory.h may.
void emit_qk_norm_vectors(Context& c, double scale);

// The gated norm of value head reg::group into facts.out: o from the frame, z and the weight from their operands.
//   norm before gate: x = o / sqrt(mean(o^2) + eps), rounded; out = x w' act(z)
//   gate before norm: y = o act(z); out = y / sqrt(mean(y^2) + eps), rounded, times w'
void emit_gated_norm(Context& c);

// The same of o in zmm0 and the registers behind it, with r8 at z, r9 at the output and r10 at the weight. Changes
// zmm16 to zmm22 and what memory.h may.
void emit_gated_norm_vectors(Context& c);

}  // namespace gdn::cpu
