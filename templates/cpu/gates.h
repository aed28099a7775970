// Decay and beta of the value heads that read one key head, sixteen heads (or, for kda, key channels of one) at a time.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// Moves one element per value head of the key head between an operand (a token's row, or a parameter) and [group] fp32
// at `frame_offset`.
void emit_gather_heads(Context& c, int frame_offset, const core::Map& map, bool per_token);
void emit_scatter_heads(Context& c, const core::Map& map, int frame_offset);

// Copies one element per value head between two operands of a token, bit for bit where the types agree.
void emit_copy_heads(Context& c, const core::Map& to, const core::Map& from);

// frame.beta <- factor * sigmoid(b), rounded; frame.decay <- g in `domain` (kExp: the factor exp(g) itself, which the
// delta rule takes), g = -exp(A_log) * softplus(a + dt_bias) or bound * sigmoid(exp(A_log) * (a + dt_bias)). From the
// projections of the item.
void emit_gates(Context& c, core::Domain domain);

// The same for vectors of tokens of one head. zmm0 <- beta of the b there; zmm(kGateRate) <- the decay's factor of the
// A_log there, exp(A_log) with the sign that makes it one (of anything where there is no A_log); zmm0 <- g in `domain`
// of a + dt_bias there and zmm(kGateRate). Change zmm1 to zmm4 and k1.
constexpr int kGateRate = 5;
void emit_beta_vector(Context& c);
void emit_rate_vector(Context& c);
void emit_decay_vector(Context& c, core::Domain domain);

// frame.beta and frame.decay (as exp(g)) from the operands that hand beta and g over.
void emit_gates_handed_over(Context& c);

// kda, where the two functions above leave frame.decay alone: g of value head reg::group's key channels in `domain`
// into frame.decays, from its projections (a and dt_bias by channel, A_log of the head or 1 for exp(A_log)), or as
// exp(g) from the operand that hands g over. Needs emit_gates() of the item before it.
void emit_channel_gates(Context& c, core::Domain domain);
void emit_channel_gates_handed_over(Context& c);

}  // namespace gdn::cpu
