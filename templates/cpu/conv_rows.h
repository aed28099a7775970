// The causal depthwise convolution over the tokens of a chunk, and the window that a sequence leaves.
//
// What a token needs of the tokens before it stays in registers along the rows, and from chunk to chunk in a history:
// the last width - 1 inputs of the sequence, oldest first, rounded as a window keeps them, as [input][channel] fp32 in
// scratch memory. A sequence comes out the same however it is cut into chunks and launches.
//
//   y = activation(bias + sum over ages of weight * input), rounded as the facts say
#pragma once

#include "cpu/conv.h"
#include "cpu/sequence.h"

namespace gdn::cpu {

// Bytes of the history of one head of a part.
int history_bytes(const core::Facts& facts, const core::Map& input);

// A place in scratch memory that depends on the value head at hand: `buffer` + reg::group * bytes where that is not 0.
struct HeadPlace {
  int buffer = 0;
  int group_bytes = 0;
};

// The inputs before a sequence's first token into the history: from its window, or zeros where it starts from nothing.
void emit_begin_history(Context& c, const SequenceWalk& walk, const ConvPart& part, const HeadPlace& history);

// Convolves reg::tokens tokens from reg::row on, of the head at hand, and moves the history on. Changes all registers
// without a role.
void emit_conv_rows(Context& c, const ConvPart& part, const HeadPlace& history, const RowPlace& to);

// The window after the sequence's tokens in front of reg::row, into the slot in reg::slot: the sequence's own or a
// snapshot's. What lies before the first token comes from the sequence's own. Nothing without windows.
void emit_leave_window(Context& c, const SequenceWalk& walk, const ConvPart& part);

}  // namespace gdn::cpu
