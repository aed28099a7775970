// Whole parts of an item between an operand and the frame, or from operand to operand.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// [run] elements of the item's head between a token's row and fp32 at `frame_offset`.
void emit_load_part(Context& c, int frame_offset, const core::Map& from);
void emit_store_part(Context& c, const core::Map& to, int frame_offset);

// From one token row to another, bit for bit where the types agree.
void emit_copy_part(Context& c, const core::Map& to, const core::Map& from);

// The taps of the item's head from one order to another.
void emit_copy_taps(Context& c, const core::Map& to, const core::Map& from);

}  // namespace gdn::cpu
