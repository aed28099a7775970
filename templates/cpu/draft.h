// The sequences of a launch of speculative decoding: which rows and slots are whose, and where a state begins. The
// meaning of the schemes, and what becomes of padding and of mistakes, is that of templates/gdn/draft.h.
#pragma once

#include <functional>

#include "cpu/context.h"

namespace gdn::cpu {

// The whole function over items (a key head of a sequence each): `body` with reg::slot (of the window), reg::row (the
// sequence's first row; in state_commit the sequence itself), and first, tokens, accepted, window_offset and state_slot
// in the frame; `nothing` leaves the item. Sequences without tokens, of padding, and mistaken ones (a slot, offset or
// count out of range, records that are not there) don't come to the body: where the operation has an output their rows
// get zeros or nothing (padding, as the facts say) or NaN (mistakes).
void emit_drafts(Context& c, const std::function<void(const Mark& nothing)>& body);

// reg::slot <- slot of the token in frame.token (of scheme `slots`), or of the state that the sequence starts from.
void emit_token_slot(Context& c);
void emit_state_slot(Context& c);

// The slot of the sequence's window.
void emit_window_slot(Context& c);

// target += frame.`variable` steps of the map's taps, plus `more`. Changes rax.
void emit_step_to(Context& c, const Reg64& target, const core::Map& map, int variable, int more = 0);

}  // namespace gdn::cpu
