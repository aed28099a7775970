// A value head's state between a pool and fp32 in scratch memory, and what a record does to it.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// One head's state in fp32 without gaps, its rows along the dimension along which the pool's run.
core::Map state_in_scratch(const core::Facts& facts);

// Bytes of it.
std::int64_t scratch_state_bytes(const core::Facts& facts);

// Every element from the address in r8 to the address in r9. Goes row by row as `from` lies. Changes r8, r9, rcx.
void emit_state_copy(Context& c, const core::Map& from, const core::Map& to);

// The pool's state at the address in r8, of slot reg::slot and value head reg::group, into the fp32 state `to` at the
// address in r9; and from the fp32 state `from` at r8 to the pool's at r9, rounded as the pool is (state_store.h).
// Change r8 to r11, rcx and rax.
void emit_load_state(Context& c, const core::Map& to);
void emit_store_state(Context& c, const core::Map& from);

// A head's scales of an 8-bit state from the address in r8 to that in r9.
void emit_move_scales(Context& c);

// S <- diag(d) S + k u^T on the state in scratch memory at the address in r8: k and u (in place of v) from the frame, d
// as frame.decays (kda) or frame.decay of reg::group. The same operations in the same order as those of emit_delta().
void emit_state_update(Context& c);

}  // namespace gdn::cpu
