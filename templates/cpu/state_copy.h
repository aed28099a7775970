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

// S <- diag(d) S + k u^T on the state in scratch memory at the address in r8: k and u (in place of v) from the frame, d
// as frame.decays (kda) or frame.decay of reg::group. The same operations in the same order as those of emit_delta().
void emit_state_update(Context& c);

}  // namespace gdn::cpu
