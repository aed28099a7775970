#include "cpu/conv.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"
#include "cpu/taps.h"

namespace gdn::cpu {
namespace {

using core::Map;

// Vector registers of one step of 16 channels.
constexpr int kSum = 0, kRaw = 1, kTap = 2, kWeight = 3, kWeightBlock = 4, kWindowBlock = 6, kInputRaw = 8;

// General registers: input, window, weight and bias of the step's channels, and where its result goes.
const Reg64 kInput = reg::r8, kWindow = reg::r9, kWeights = reg::r10, kBias = reg::r11, kResult = reg::rdx;

Vector16 vector_at(const Reg64& base, const Map& map, std::int64_t tap) {
  return {base, tap * map.tap_stride * static_cast<std::int64_t>(core::size_of(map.dtype)), map.dtype,
          map.inner_stride};
}

// The taps of 16 channels.
class Taps {
 public:
  Taps(Context& c, const ConvPart& part) : c_(c), map_(part.weight), block_(c, part.weight, kWeightBlock) {}

  bool block() const { return TapBlock::fits(c_, map_, c_.facts.conv_width); }
  void prepare() const { block_.prepare(); }
  void load() const {
    if (block()) block_.load(kWeights);
  }

  // sum += weight * kTap; `age` counts from the oldest input, conv_width - 1 is the current token.
  void add(int age) const {
    const int tap = c_.facts.taps_oldest_first ? age : c_.facts.conv_width - 1 - age;
    const Vector16 weight = vector_at(kWeights, map_, tap);
    if (weight.dtype == core::DType::kFp32 && weight.stride == 1) {
      c_.e.vfmadd231ps(zmm(kSum), zmm(kTap), c_.e.at(weight.base, weight.displacement));
      return;
    }
    if (block()) {
      block_.tap(kWeight, tap);
    } else {
      gdn::cpu::load(c_, kWeight, weight);
    }
    c_.e.vfmadd231ps(zmm(kSum), zmm(kTap), zmm(kWeight));
  }

 private:
  Context& c_;
  const Map& map_;
  TapBlock block_;
};

// kSum <- the bias, or zeros
void begin_sum(Context& c, const ConvPart& part) {
  if (part.bias.present()) {
    load(c, kSum, vector_at(kBias, part.bias, 0));
  } else {
    c.e.vpxord(zmm(kSum), zmm(kSum), zmm(kSum));
  }
}

// To the next 16 channels of what a pointer walks along.
void next_channels(Context& c, const Reg64& pointer, const Map& map) {
  if (map.present()) emit_advance(c, pointer, static_cast<std::int64_t>(kLanes) * stride_bytes(map, map.inner_stride));
}

// The pointers at a part's first channels of the item.
void begin_part(Context& c, const ConvPart& part) {
  emit_pointer(c, kInput, part.input, Row::kToken);
  if (part.window.present()) emit_pointer(c, kWindow, part.window, Row::kSlot);
  emit_pointer(c, kWeights, part.weight, Row::kNone);
  if (part.bias.present()) emit_pointer(c, kBias, part.bias, Row::kNone);
}

// `body` for every 16 channels, the pointers on their way.
void for_channels(Context& c, const ConvPart& part, int channels, const std::function<void()>& body) {
  emit_repeat(c, channels / kLanes, "conv", [&] {
    body();
    next_channels(c, kInput, part.input);
    next_channels(c, kWindow, part.window);
    next_channels(c, kWeights, part.weight);
    next_channels(c, kBias, part.bias);
    c.e.add(kResult, 4 * kLanes);
  });
}

// 16 channels of a part.
class Step {
 public:
  Step(Context& c, const ConvPart& part, WindowMoves moves)
      : c_(c),
        part_(part),
        moves_(moves == WindowMoves::kNow),
        inputs_(c.facts.conv_width - 1),
        moved_(c.facts.anchor == core::Anchor::kFirst ? inputs_ : c.facts.window),
        first_(c.facts.anchor == core::Anchor::kFirst ? 0 : c.facts.window - inputs_),
        weights_(c, part),
        window_(c, part.window, kWindowBlock) {}

  void prepare() const {
    if (weights_.block() || window_block()) weights_.prepare();
    if (moves_ && window_block()) window_.prepare_shift(moved_ - 1);
  }

  void prepare_shift() const {
    if (window_block()) window_.prepare_shift(moved_ - 1);
  }

  // The window alone, by the same input.
  void shift() const {
    load_raw(c_, kInputRaw, vector_at(kInput, part_.input, 0));
    if (part_.input.dtype != part_.window.dtype) {
      widen(c_, kTap, kInputRaw, part_.input.dtype);
      narrow(c_, kInputRaw, kTap, part_.window.dtype);
    }
    if (window_block()) {
      window_.load(kWindow);
      window_.shift(kWindow, moved_ - 1, kInputRaw);
      return;
    }
    for (int row = 1; row < moved_; ++row) {
      load_raw(c_, kRaw, vector_at(kWindow, part_.window, row));
      store_raw(c_, vector_at(kWindow, part_.window, row - 1), kRaw);
    }
    store_raw(c_, vector_at(kWindow, part_.window, moved_ - 1), kInputRaw);
  }

  void emit(int frame_offset) const {
    const core::Facts& f = c_.facts;
    begin_sum(c_, part_);
    weights_.load();
    if (window_block()) {
      add_window_block();
    } else {
      add_window_rows();
    }
    load_raw(c_, kRaw, vector_at(kInput, part_.input, 0));
    widen(c_, kTap, kRaw, part_.input.dtype);
    weights_.add(inputs_);
    if (moves_ && moved_ > 0) store_input();
    emit_activation(c_, f.conv_activation, kSum, kRaw, kTap, kWeight);
    round_to(c_, kSum, f.round_conv);
    c_.e.vmovaps(c_.e.at(kResult, frame_offset), zmm(kSum));
  }

 private:
  bool window_block() const { return moved_ > 0 && TapBlock::fits(c_, part_.window, c_.facts.window); }

  void add_window_block() const {
    window_.load(kWindow);
    for (int age = 0; age < inputs_; ++age) {
      window_.tap(kTap, first_ + age);
      weights_.add(age);
    }
  }

  // Rows shift on their way: each is stored one row up before the next one is read.
  void add_window_rows() const {
    for (int row = 0; row < moved_; ++row) {
      if (row < first_ && (row == 0 || !moves_)) continue;  // falls out of the window unread, or stays
      load_raw(c_, kRaw, vector_at(kWindow, part_.window, row));
      if (row > 0 && moves_) store_raw(c_, vector_at(kWindow, part_.window, row - 1), kRaw);
      if (row < first_) continue;
      widen(c_, kTap, kRaw, part_.window.dtype);
      weights_.add(row - first_);
    }
  }

  // The raw input, in kRaw and as fp32 in kTap, becomes the newest row of the window.
  void store_input() const {
    if (part_.input.dtype != part_.window.dtype) narrow(c_, kRaw, kTap, part_.window.dtype);
    if (window_block()) {
      window_.shift(kWindow, moved_ - 1, kRaw);
    } else {
      store_raw(c_, vector_at(kWindow, part_.window, moved_ - 1), kRaw);
    }
  }

  Context& c_;
  const ConvPart& part_;
  bool moves_;  // the window, while it is read
  int inputs_;  // that the conv takes from the window
  int moved_;   // rows of the window that shift
  int first_;   // row of the oldest input that the conv takes
  Taps weights_;
  TapBlock window_;
};

// 16 channels of a part, all tokens of a sequence. Older inputs stay in registers as the window keeps them.
class TokensStep {
 public:
  TokensStep(Context& c, const ConvPart& part, std::int64_t token_bytes)
      : c_(c),
        part_(part),
        weights_(c, part),
        token_bytes_(token_bytes),
        inputs_(c.facts.conv_width - 1),
        dropped_(c.facts.rollback == core::Rollback::kSlots ? 1 : 0),
        tap_bytes_(part.window.tap_stride * static_cast<std::int64_t>(core::size_of(part.window.dtype))) {
    if (inputs_ > kMostInputs) throw std::runtime_error("a convolution over more inputs than there are registers");
  }

  void prepare() const {
    if (weights_.block()) weights_.prepare();
  }

  void emit() const {
    Emitter& e = c_.e;
    e.mov(e.at(reg::frame, c_.frame.input), kInput);
    e.mov(e.at(reg::frame, c_.frame.result), kResult);
    weights_.load();
    take_history();
    e.lea(kRow, e.at(kWindow, kept() * tap_bytes_));
    e.mov(reg::rax, e.at(reg::frame, c_.frame.tokens));
    e.mov(e.at(reg::frame, c_.frame.left), reg::rax);
    Mark& again = e.mark("conv_token");
    e.bind(again);
    token();
    e.dec(e.at_bits(64, reg::frame, c_.frame.left));
    e.jnz(again);
    e.mov(kInput, e.at(reg::frame, c_.frame.input));
    e.mov(kResult, e.at(reg::frame, c_.frame.result));
  }

 private:
  static constexpr int kHistory = 8, kMostInputs = 16;
  const Reg64 kRow = reg::rsi;  // of the window, where an input is found or goes

  // Rows in front of the tokens that stay.
  int kept() const { return std::max(inputs_ - dropped_, 0); }

  // The older inputs, and the rows of them that stay to the front.
  void take_history() const {
    Emitter& e = c_.e;
    e.mov(kRow, e.at(reg::frame, c_.frame.window_offset));
    e.imul(kRow, kRow, displacement(tap_bytes_));
    e.add(kRow, kWindow);
    for (int i = 0; i < inputs_; ++i) load_raw(c_, kHistory + i, vector_at(kRow, part_.window, i));
    for (int i = 0; i < kept(); ++i) store_raw(c_, vector_at(kWindow, part_.window, i), kHistory + i + dropped_);
  }

  void token() const {
    Emitter& e = c_.e;
    begin_sum(c_, part_);
    for (int age = 0; age < inputs_; ++age) {
      widen(c_, kTap, kHistory + age, part_.window.dtype);
      weights_.add(age);
    }
    load_raw(c_, kRaw, vector_at(kInput, part_.input, 0));
    widen(c_, kTap, kRaw, part_.input.dtype);
    weights_.add(inputs_);
    if (inputs_ > 0 || part_.window.present()) {
      if (part_.input.dtype != part_.window.dtype) narrow(c_, kRaw, kTap, part_.window.dtype);
      store_raw(c_, vector_at(kRow, part_.window, 0), kRaw);
      for (int i = 0; i + 1 < inputs_; ++i) e.vmovaps(zmm(kHistory + i), zmm(kHistory + i + 1));
      if (inputs_ > 0) e.vmovaps(zmm(kHistory + inputs_ - 1), zmm(kRaw));
      emit_advance(c_, kRow, tap_bytes_);
    }
    emit_activation(c_, c_.facts.conv_activation, kSum, kRaw, kTap, kWeight);
    round_to(c_, kSum, c_.facts.round_conv);
    e.vmovaps(e.at(kResult), zmm(kSum));
    emit_advance(c_, kResult, token_bytes_);
    emit_row_step(c_, reg::rax, part_.input);
    e.add(kInput, reg::rax);
  }

  static int displacement(std::int64_t bytes) {
    if (bytes > std::numeric_limits<std::int32_t>::max()) throw std::runtime_error("rows of a window too far apart");
    return static_cast<int>(bytes);
  }

  Context& c_;
  const ConvPart& part_;
  Taps weights_;
  std::int64_t token_bytes_;
  int inputs_;   // that the conv takes from the window
  int dropped_;  // of them, with the first token
  std::int64_t tap_bytes_;
};

}  // namespace

ConvPart conv_q(const core::Facts& f) { return {"q", f.in_q, f.weight_q, f.bias_q, f.window_q}; }
ConvPart conv_k(const core::Facts& f) { return {"k", f.in_k, f.weight_k, f.bias_k, f.window_k}; }
ConvPart conv_v(const core::Facts& f) { return {"v", f.in_v, f.weight_v, f.bias_v, f.window_v}; }

void emit_conv(Context& c, const ConvPart& part, int frame_offset, WindowMoves moves) {
  c.e.comment(std::string("conv and window of ") + part.name);
  begin_part(c, part);
  c.e.mov(kResult, reg::frame);
  const Step step(c, part, moves);
  step.prepare();
  for_channels(c, part, static_cast<int>(part.input.run), [&] { step.emit(frame_offset); });
}

void emit_conv_columns(Context& c, const ConvPart& part, int frame_offset) {
  c.e.comment(std::string("conv and window of some columns of ") + part.name);
  begin_part(c, part);
  const int columns = static_cast<int>(part.input.run) / c.column_parts;
  const auto to_columns = [&](const Reg64& pointer, const Map& map) {
    if (!map.present()) return;
    c.e.imul(reg::rax, c.e.at(reg::frame, c.frame.column_part), columns * stride_bytes(map, map.inner_stride));
    c.e.add(pointer, reg::rax);
  };
  to_columns(kInput, part.input);
  to_columns(kWindow, part.window);
  to_columns(kWeights, part.weight);
  to_columns(kBias, part.bias);
  c.e.imul(kResult, c.e.at(reg::frame, c.frame.column_part), 4 * columns);
  c.e.add(kResult, reg::frame);
  const Step step(c, part, WindowMoves::kNow);
  step.prepare();
  for_channels(c, part, columns, [&] { step.emit(frame_offset); });
}

void emit_window_shift(Context& c, const ConvPart& part) {
  if (!part.window.present() || c.facts.conv_width < 2) return;
  c.e.comment(std::string("window of ") + part.name);
  begin_part(c, part);
  c.e.mov(kResult, reg::frame);
  const Step step(c, part, WindowMoves::kNow);
  step.prepare_shift();
  for_channels(c, part, static_cast<int>(part.input.run), [&] { step.shift(); });
}

void emit_conv_tokens(Context& c, const ConvPart& part, std::int64_t offset, std::int64_t token_bytes) {
  c.e.comment(std::string("conv and window of all tokens' ") + part.name);
  begin_part(c, part);
  c.e.mov(kResult, c.e.at(reg::frame, c.frame.scratch));
  emit_advance(c, kResult, offset);
  if (part.input.heads == core::HeadKind::kValue) {
    c.e.imul(reg::rax, reg::group, 4 * c.facts.value_dim);
    c.e.add(kResult, reg::rax);
  }
  const TokensStep step(c, part, token_bytes);
  step.prepare();
  for_channels(c, part, static_cast<int>(part.input.run), [&] { step.emit(); });
}

}  // namespace gdn::cpu
