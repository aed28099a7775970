// The convolution of q, k and v over whole sequences: what is kept between chunks, the windows at both ends, and the
// operation that does nothing else.
#pragma once

#include "cpu/conv_rows.h"

namespace gdn::cpu {

// The histories of an item: of its key head's q and k, and of v for each value head.
struct Histories {
  // In scratch memory from `first` on, a multiple of 64.
  Histories(const core::Facts& facts, int first);

  HeadPlace q, k, v;
  int end = 0;  // a multiple of 64
};

void emit_begin_histories(Context& c, const SequenceWalk& walk, const Histories& at);

// See emit_leave_window(). In parts, which all read the windows of q and k: of the sequence's own slot only those of v,
// of a `snapshot` those of q and k by the first part; emit_last_windows() does the rest.
void emit_leave_windows(Context& c, const SequenceWalk& walk, bool snapshot);

// The whole function that leaves the windows of q and k of whole items, once all their parts are done.
void emit_last_windows(Context& c);

// conv_prefill, the whole function: an item owns the channels of its key head and of the value heads that read it; z,
// where it is handed over, comes along as it is.
struct ConvPlaces {
  explicit ConvPlaces(const core::Facts& facts) : histories(facts, SequencePlaces::kBytes) {}

  SequencePlaces walk = SequencePlaces::from(0);
  Histories histories;
  int size() const { return histories.end; }
};
void emit_conv_prefill(Context& c, const ConvPlaces& at);

}  // namespace gdn::cpu
