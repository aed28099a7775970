// The causal depthwise convolution of one token and the shift of its window.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// One of q, k, v: where its rows, taps, bias and window lie. `bias` is absent where the conv has none.
struct ConvPart {
  const char* name;
  const core::Map& input;
  const core::Map& weight;
  const core::Map& bias;
  const core::Map& window;
};

ConvPart conv_q(const core::Facts& facts);
ConvPart conv_k(const core::Facts& facts);
ConvPart conv_v(const core::Facts& facts);

// When a window moves on by its input: while it is read, or later, by emit_window_shift().
enum class WindowMoves : std::uint8_t { kNow, kLater };

// Convolves the item's channels of a part (of value head reg::group for v) into [channels] fp32 at `frame_offset`,
// activated and rounded, and moves the window on by the raw input. Every window element is read once and written once.
void emit_conv(Context& c, const ConvPart& part, int frame_offset, WindowMoves moves = WindowMoves::kNow);

// The same of the columns of a value head that are frame.column_part's.
void emit_conv_columns(Context& c, const ConvPart& part, int frame_offset);

// Moves the item's window of a part on by the raw input, after the last who reads it.
void emit_window_shift(Context& c, const ConvPart& part);

// The same of all tokens of a drafted sequence (draft.h), from reg::row on: [token][channels] fp32 to the scratch
// memory from `offset` on (of value head reg::group for v: behind those of the heads before), `token_bytes` apart. The
// window keeps the inputs that the state belongs to at its front and those of the tokens behind them; where each token
// has a slot of its own the oldest of the former is dropped.
void emit_conv_tokens(Context& c, const ConvPart& part, std::int64_t offset, std::int64_t token_bytes);

}  // namespace gdn::cpu
