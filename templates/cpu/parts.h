// decode in parts: an item's value heads, and the columns of a head, shared between threads.
//
// A launch of few rows has fewer items than there are threads. Each part convolves and normalises q and k for itself,
// which is cheap, and has value channels of its own: rows of a (V, K) state, columns of a (K, V) one. Two things
// concern all parts: the gated norm, which needs o of a whole head, and the windows of q and k, which every part reads
// before anybody may move them on. Both are done by whoever comes to them last: a part leaves its o in the exchange
// memory and counts itself, and the one that completes a count goes on. Nobody waits, so the parts may run in any
// order, on any threads, side by side or not. Without a norm each part stores its own o.
#pragma once

#include "cpu/context.h"
#include "cpu/kernel.h"

namespace gdn::cpu {

// How an item of these facts is cut, and what its parts exchange.
ItemParts parts_of(const core::Facts& facts);

// The whole function: context.column_parts and a frame with parts are set.
void emit_decode_parts(Context& c);

}  // namespace gdn::cpu
