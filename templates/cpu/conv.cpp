#include "cpu/conv.h"

#include <string>

#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"
#include "cpu/taps.h"

namespace gdn::cpu {
namespace {

using core::Map;

// Vector registers of one step of 16 channels.
constexpr int kSum = 0, kRaw = 1, kTap = 2, kWeight = 3, kWeightBlock = 4, kWindowBlock = 6;

// General registers: input, window, weight and bias of the step's channels, and where its result goes.
const Reg64 kInput = reg::r8, kWindow = reg::r9, kWeights = reg::r10, kBias = reg::r11, kResult = reg::rdx;

Vector16 vector_at(const Reg64& base, const Map& map, std::int64_t tap) {
  return {base, tap * map.tap_stride * static_cast<std::int64_t>(core::size_of(map.dtype)), map.dtype,
          map.inner_stride};
}

// 16 channels of a part.
class Step {
 public:
  Step(Context& c, const ConvPart& part)
      : c_(c),
        part_(part),
        inputs_(c.facts.conv_width - 1),
        moved_(c.facts.anchor == core::Anchor::kFirst ? inputs_ : c.facts.window),
        first_(c.facts.anchor == core::Anchor::kFirst ? 0 : c.facts.window - inputs_),
        weights_(c, part.weight, kWeightBlock),
        window_(c, part.window, kWindowBlock) {}

  void prepare() const {
    if (weight_block() || window_block()) weights_.prepare();
    if (window_block()) window_.prepare_shift(moved_ - 1);
  }

  void emit(int frame_offset) const {
    const core::Facts& f = c_.facts;
    if (part_.bias.present()) {
      load(c_, kSum, vector_at(kBias, part_.bias, 0));
    } else {
      c_.e.vpxord(zmm(kSum), zmm(kSum), zmm(kSum));
    }
    if (weight_block()) weights_.load(kWeights);
    if (window_block()) {
      add_window_block();
    } else {
      add_window_rows();
    }
    load_raw(c_, kRaw, vector_at(kInput, part_.input, 0));
    widen(c_, kTap, kRaw, part_.input.dtype);
    add_tap(inputs_);
    if (moved_ > 0) store_input();
    emit_activation(c_, f.conv_activation, kSum, kRaw, kTap, kWeight);
    round_to(c_, kSum, f.round_conv);
    c_.e.vmovaps(c_.e.at(kResult, frame_offset), zmm(kSum));
  }

 private:
  bool weight_block() const { return TapBlock::fits(part_.weight, c_.facts.conv_width); }
  bool window_block() const { return moved_ > 0 && TapBlock::fits(part_.window, c_.facts.window); }

  void add_window_block() const {
    window_.load(kWindow);
    for (int age = 0; age < inputs_; ++age) {
      window_.tap(kTap, first_ + age);
      add_tap(age);
    }
  }

  // Rows shift on their way: each is stored one row up before the next one is read.
  void add_window_rows() const {
    for (int row = 0; row < moved_; ++row) {
      if (row == 0 && row < first_) continue;  // falls out of the window unread
      load_raw(c_, kRaw, vector_at(kWindow, part_.window, row));
      if (row > 0) store_raw(c_, vector_at(kWindow, part_.window, row - 1), kRaw);
      if (row < first_) continue;
      widen(c_, kTap, kRaw, part_.window.dtype);
      add_tap(row - first_);
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

  // sum += weight * kTap; `age` counts from the oldest input, conv_width - 1 is the current token.
  void add_tap(int age) const {
    const int tap = c_.facts.taps_oldest_first ? age : c_.facts.conv_width - 1 - age;
    const Vector16 weight = vector_at(kWeights, part_.weight, tap);
    if (weight.dtype == core::DType::kFp32 && weight.stride == 1) {
      c_.e.vfmadd231ps(zmm(kSum), zmm(kTap), c_.e.at(weight.base, weight.displacement));
      return;
    }
    if (weight_block()) {
      weights_.tap(kWeight, tap);
    } else {
      load(c_, kWeight, weight);
    }
    c_.e.vfmadd231ps(zmm(kSum), zmm(kTap), zmm(kWeight));
  }

  Context& c_;
  const ConvPart& part_;
  int inputs_;  // that the conv takes from the window
  int moved_;   // rows of the window that shift
  int first_;   // row of the oldest input that the conv takes
  TapBlock weights_, window_;
};

}  // namespace

ConvPart conv_q(const core::Facts& f) { return {"q", f.in_q, f.weight_q, f.bias_q, f.window_q}; }
ConvPart conv_k(const core::Facts& f) { return {"k", f.in_k, f.weight_k, f.bias_k, f.window_k}; }
ConvPart conv_v(const core::Facts& f) { return {"v", f.in_v, f.weight_v, f.bias_v, f.window_v}; }

void emit_conv(Context& c, const ConvPart& part, int frame_offset) {
  c.e.comment(std::string("conv and window of ") + part.name);
  emit_pointer(c, kInput, part.input, Row::kToken);
  if (part.window.present()) emit_pointer(c, kWindow, part.window, Row::kSlot);
  emit_pointer(c, kWeights, part.weight, Row::kNone);
  if (part.bias.present()) emit_pointer(c, kBias, part.bias, Row::kNone);
  c.e.mov(kResult, reg::frame);
  const Step step(c, part);
  step.prepare();
  emit_repeat(c, static_cast<int>(part.input.run) / kLanes, "conv", [&] {
    step.emit(frame_offset);
    const auto advance = [&](const Reg64& pointer, const Map& map) {
      if (map.present())
        emit_advance(c, pointer, static_cast<std::int64_t>(kLanes) * stride_bytes(map, map.inner_stride));
    };
    advance(kInput, part.input);
    advance(kWindow, part.window);
    advance(kWeights, part.weight);
    advance(kBias, part.bias);
    c.e.add(kResult, 4 * kLanes);
  });
}

}  // namespace gdn::cpu
