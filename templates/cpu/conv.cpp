#include "cpu/conv.h"

#include <string>

#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"

namespace gdn::cpu {
namespace {

using core::Map;

// Vector registers of one step of 16 channels.
constexpr int kSum = 0, kRaw = 1, kTap = 2, kWeight = 3;

Vector16 vector_at(const Reg64& base, const Map& map, std::int64_t tap) {
  return {base, tap * map.tap_stride * static_cast<std::int64_t>(core::size_of(map.dtype)), map.dtype, map.inner_stride};
}

class Step {
 public:
  Step(Context& c, const ConvPart& part) : c_(c), part_(part) {}

  void emit(int frame_offset) {
    begin_sum();
    const core::Facts& f = c_.facts;
    const int inputs = f.conv_width - 1;  // that the window holds
    const bool first = f.anchor == core::Anchor::kFirst;
    const int used = first ? 0 : f.window - inputs;  // row of the oldest input that the conv reads
    const int moved = first ? inputs : f.window;     // rows that shift
    for (int row = 0; row < moved; ++row) {
      if (row == 0 && row < used) continue;  // falls out of the window unread
      load_raw(c_, kRaw, vector_at(reg::r9, part_.window, row));
      if (row > 0) store_raw(c_, vector_at(reg::r9, part_.window, row - 1), kRaw);
      if (row < used) continue;
      widen(c_, kTap, kRaw, part_.window.dtype);
      add_tap(row - used);
    }
    load_raw(c_, kRaw, vector_at(reg::r8, part_.input, 0));
    widen(c_, kTap, kRaw, part_.input.dtype);
    if (moved > 0) {
      const Vector16 last = vector_at(reg::r9, part_.window, moved - 1);
      if (part_.input.dtype == part_.window.dtype) {
        store_raw(c_, last, kRaw);
      } else {
        store(c_, last, kTap);
      }
    }
    add_tap(inputs);
    emit_activation(c_, f.conv_activation, kSum, kRaw, kTap, kWeight);
    round_to(c_, kSum, f.round_conv);
    c_.e.vmovaps(c_.e.at(reg::rdx, frame_offset), zmm(kSum));
  }

 private:
  void begin_sum() {
    if (part_.bias.present()) {
      load(c_, kSum, vector_at(reg::r11, part_.bias, 0));
    } else {
      c_.e.vpxord(zmm(kSum), zmm(kSum), zmm(kSum));
    }
  }

  // `age` counts from the oldest input, conv_width - 1 is the current token.
  void add_tap(int age) {
    const int tap = c_.facts.taps_oldest_first ? age : c_.facts.conv_width - 1 - age;
    const Vector16 weight = vector_at(reg::r10, part_.weight, tap);
    if (weight.dtype == core::DType::kFp32 && weight.stride == 1) {
      c_.e.vfmadd231ps(zmm(kSum), zmm(kTap), c_.e.at(weight.base, weight.displacement));
      return;
    }
    load(c_, kWeight, weight);
    c_.e.vfmadd231ps(zmm(kSum), zmm(kTap), zmm(kWeight));
  }

  Context& c_;
  const ConvPart& part_;
};

}  // namespace

ConvPart conv_q(const core::Facts& f) { return {"q", f.in_q, f.weight_q, f.bias_q, f.window_q}; }
ConvPart conv_k(const core::Facts& f) { return {"k", f.in_k, f.weight_k, f.bias_k, f.window_k}; }
ConvPart conv_v(const core::Facts& f) { return {"v", f.in_v, f.weight_v, f.bias_v, f.window_v}; }

void emit_conv(Context& c, const ConvPart& part, int frame_offset) {
  c.e.comment(std::string("conv and window of ") + part.name);
  emit_pointer(c, reg::r8, part.input, Row::kToken);
  if (part.window.present()) emit_pointer(c, reg::r9, part.window, Row::kSlot);
  emit_pointer(c, reg::r10, part.weight, Row::kNone);
  if (part.bias.present()) emit_pointer(c, reg::r11, part.bias, Row::kNone);
  c.e.mov(reg::rdx, reg::frame);
  const int vectors = static_cast<int>(part.input.run) / kLanes;
  emit_repeat(c, vectors, "conv", [&] {
    Step(c, part).emit(frame_offset);
    const auto advance = [&](const Reg64& pointer, const Map& map) {
      if (map.present()) emit_advance(c, pointer, kLanes * stride_bytes(map, map.inner_stride));
    };
    advance(reg::r8, part.input);
    advance(reg::r9, part.window);
    advance(reg::r10, part.weight);
    advance(reg::r11, part.bias);
    c.e.add(reg::rdx, 4 * kLanes);
  });
}

}  // namespace gdn::cpu
