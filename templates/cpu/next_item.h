// What the next item reads, asked for while this one computes.
//
// The rows of a projection, the windows and the weights of one item are a few hundred bytes each, thousands of bytes
// apart: too short for a hardware prefetcher to see, and an item would wait for memory several times before its states
// begin to stream. Asked for one item ahead, they arrive behind the states.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// frame.next_state <- address of the first state that the next item touches; this item's own first state where there
// is no next item or where that is padding. And prefetches, into L2, the next item's inputs, windows and conv weights
// that lie in one piece or in pieces per tap. Once an item, before its states.
void emit_next_item(Context& c);

}  // namespace gdn::cpu
