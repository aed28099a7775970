// The two norms of the layer: q and k over the key channels, o over the value channels of a head.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// Normalises the [key_dim] vector at `frame_offset` where the facts want it, multiplies by `scale` and rounds.
void emit_qk_norm(Context& c, int frame_offset, double scale);

// The same of the vectors in zmm0 and the registers behind it. Changes zmm16 to zmm18 and what memory.h may.
void emit_qk_norm_vectors(Context& c, double scale);

// The gated norm of value head reg::group into facts.out: o from the frame, z, weight and bias from their operands.
//   norm before gate: x = o / sqrt(mean(o^2) + eps), rounded; out = (x w' + bias) act(z)
//   gate before norm: y = o act(z); out = y / sqrt(mean(y^2) + eps), rounded, times w' + bias
// A quantised output is rounded as output_quant.from says, and becomes codes and scales (quantise.h).
void emit_gated_norm(Context& c);

// o of value head reg::group from the frame to facts.out: through the gated norm, or, where the layer has none, as it
// is, rounded already.
void emit_output(Context& c);

// The same, without a norm, of the columns that a part of a value head has: frame.column_part, of c.column_parts.
// Changes rax, rdx, r9, zmm0 and what memory.h may.
void emit_output_columns(Context& c);

// Where the norm finds its operands: r8 <- z, r10 <- weight, rsi <- bias, as far as the layer has them. Changes rax.
void emit_point_at_norm(Context& c);

// The norm of o in zmm0 and the registers behind it, in place, with what emit_point_at_norm() leaves. Changes zmm16 to
// zmm22 and what memory.h may.
void emit_gated_norm_vectors(Context& c);

// Its result to the output at r9, quantised with the scales at rdx. Changes rax, rcx, rdx, rsi, zmm0 to zmm5 and what
// memory.h may.
void emit_leave_normed(Context& c);

}  // namespace gdn::cpu
