#include "cpu/quantise.h"

#include <array>
#include <cstddef>
#include <functional>
#include <limits>

#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"
#include "gdn/args.h"

namespace gdn::cpu {
namespace {

const Reg64 kValues = reg::rax, kCodes = reg::r9, kScales = reg::rdx, kCount = reg::rsi;
constexpr int kX = 0, kMost = 1, kScale = 2, kFactor = 3, kT = 4, kT2 = 5;
constexpr int kUnrolled = 16;  // vectors of a group

Address stride_of_scales(Context& c) {
  return c.e.at(reg::args,
                static_cast<std::int64_t>(offsetof(Args, stride)) + std::int64_t{8} * c.facts.out_scale.operand);
}

void advance_scales(Context& c) {
  if (!c.facts.scale_group_first) {
    c.e.add(kScales, 4);
    return;
  }
  c.e.mov(kCount, stride_of_scales(c));
  c.e.lea(kScales, c.e.indexed(kScales, kCount, 4));
}

// `body` for each of `count` vectors of values, `index` of them behind the two pointers.
void for_vectors(Context& c, int count, const char* name, const std::function<void(int index)>& body) {
  if (count <= kUnrolled) {
    for (int i = 0; i < count; ++i) body(i);
    return;
  }
  Mark& again = c.e.mark(name);
  c.e.mov(kCount, count);
  c.e.bind(again);
  body(0);
  c.e.add(kValues, 64);
  c.e.add(kCodes, kLanes);
  c.e.dec(kCount);
  c.e.jnz(again);
  c.e.sub(kValues, 64 * count);
  c.e.sub(kCodes, kLanes * count);
}

void take_magnitude(Context& c, int target, const Address& from, const Address& mask) {
  c.e.vmovups(zmm(target), from);
  c.e.vpandd(zmm(target), zmm(target), mask);
  // The largest so far is the second source, which stays where the other one is NaN.
  c.e.vmaxps(zmm(kMost), zmm(target), zmm(kMost));
}

// zmm(kScale), every lane: of a group whose largest magnitude is in all lanes of zmm(kMost).
void make_scale(Context& c) {
  const core::Facts& f = c.facts;
  const auto floor = static_cast<float>(f.quant_floor);
  const auto at_least = [&](int x) {
    c.e.vbroadcastss(zmm(kT), c.e.scalar(floor));
    c.e.vmaxps(zmm(x), zmm(x), zmm(kT));
  };
  if (f.quant_floor_at == core::FloorAt::kAmax) at_least(kMost);
  c.e.vbroadcastss(zmm(kT), c.e.scalar(static_cast<float>(f.quant_max)));
  c.e.vdivps(zmm(kScale), zmm(kMost), zmm(kT));
  if (f.quant_floor_at == core::FloorAt::kScale) at_least(kScale);
  if (f.quant_floor_at == core::FloorAt::kReplace) {
    c.e.vbroadcastss(zmm(kT), c.e.scalar(floor));
    c.e.replace_where_greater(zmm(kT), zmm(kMost), c.e.constant(floor), zmm(kScale));
    c.e.vmovaps(zmm(kScale), zmm(kT));
  }
  // Subnormal numbers are zero already, by the modes.
  if (!f.quant_power_of_two) return;
  c.e.vpaddd(zmm(kScale), zmm(kScale), c.e.constant_bits(0x7fffffu));
  c.e.vpandd(zmm(kScale), zmm(kScale), c.e.constant_bits(0x7f800000u));
}

// zmm(kFactor), every lane: what values are divided by, or multiplied with; of scale 0, what makes zeros of them.
void make_factor(Context& c) {
  c.e.vbroadcastss(zmm(kFactor), c.e.scalar(std::numeric_limits<float>::infinity()));
  c.e.replace_where_greater(zmm(kFactor), zmm(kScale), c.e.constant(0.0f), zmm(kScale));
  if (c.facts.quant_divides) return;
  c.e.vbroadcastss(zmm(kT), c.e.scalar(1.0f));
  c.e.vdivps(zmm(kFactor), zmm(kT), zmm(kFactor));
}

// zmm(kX) <- what becomes a code, within +-max where the type reaches further.
void scale_down(Context& c) {
  if (c.facts.quant_divides) {
    c.e.vdivps(zmm(kX), zmm(kX), zmm(kFactor));
  } else {
    c.e.vmulps(zmm(kX), zmm(kX), zmm(kFactor));
  }
  const auto max = static_cast<float>(c.facts.quant_max);
  if (max >= largest_of(c.facts.out.dtype)) return;
  // The bounds stand in the first source, so that a NaN passes.
  c.e.vbroadcastss(zmm(kT), c.e.scalar(max));
  c.e.vminps(zmm(kX), zmm(kT), zmm(kX));
  c.e.vbroadcastss(zmm(kT), c.e.scalar(-max));
  c.e.vmaxps(zmm(kX), zmm(kT), zmm(kX));
}

// The first `count` of sixteen codes, and not a byte more.
void leave_rest(Context& c, int index, int count) {
  narrow(c, kT2, kX, c.facts.out.dtype);
  c.e.vmovups(c.e.at(reg::frame, c.frame.staged), xmm(kT2));
  for (int i = 0; i < count; ++i) {
    c.e.movzx(reg::ecx, c.e.at_bits(8, reg::frame, c.frame.staged + i));
    c.e.mov(c.e.at_bits(8, kCodes, kLanes * index + i), Xbyak::Reg8(1));
  }
}

}  // namespace

bool quantises(const core::Facts& facts) { return facts.quant_group > 0 && facts.out_scale.present(); }

bool groups_straddle(const core::Facts& facts) { return quantises(facts) && facts.value_dim % facts.quant_group != 0; }

void emit_scale_pointer(Context& c, const Reg64& target) {
  const core::Facts& f = c.facts;
  core::Map scales = f.out_scale;
  scales.offset = f.out.offset / f.quant_group;
  if (!groups_straddle(f)) {
    scales.heads = core::HeadKind::kValue;
    scales.key_head_stride = f.out.key_head_stride / f.quant_group;
    scales.group_stride = f.out.group_stride / f.quant_group;
  }
  if (!f.scale_group_first) {
    emit_pointer(c, target, scales, Row::kToken);
    return;
  }
  // Bytes behind the operand's start, were groups neighbours: by their distance instead.
  emit_pointer(c, target, scales, Row::kNone);
  const Address start =
      c.e.at(reg::args, static_cast<std::int64_t>(offsetof(Args, operand)) + std::int64_t{8} * f.out_scale.operand);
  c.e.sub(target, start);
  c.e.imul(target, stride_of_scales(c));
  c.e.add(target, start);
  c.e.lea(target, c.e.indexed(target, reg::row, 4));
}

void emit_quantised(Context& c, int channels) {
  const int group = c.facts.quant_group, count = channels / group;
  const int whole = group / kLanes, rest = group % kLanes;
  std::array<std::uint32_t, 16> inside{};
  for (int i = 0; i < rest; ++i) inside[static_cast<std::size_t>(i)] = 0x7fffffffu;
  Mark& again = c.e.mark("quantised_group");
  c.e.comment("codes and scales");
  if (count > 1) {
    c.e.mov(reg::rcx, count);
    c.e.bind(again);
  }
  c.e.vpxord(zmm(kMost), zmm(kMost), zmm(kMost));
  for_vectors(c, whole, "largest",
              [&](int i) { take_magnitude(c, kX, c.e.at(kValues, 64 * i), c.e.constant_bits(0x7fffffffu)); });
  if (rest > 0) take_magnitude(c, kX, c.e.at(kValues, 64 * whole), c.e.vector(inside));
  emit_max_lanes(c, kMost, kT);
  make_scale(c);
  c.e.vmovss(c.e.at(kScales), xmm(kScale));
  make_factor(c);
  for_vectors(c, whole, "codes", [&](int i) {
    c.e.vmovups(zmm(kX), c.e.at(kValues, 64 * i));
    scale_down(c);
    store(c, {kCodes, kLanes * i, c.facts.out.dtype, 1}, kX);
  });
  if (rest > 0) {
    if (count > 1) c.e.mov(c.e.at(reg::frame, c.frame.groups_left), reg::rcx);
    c.e.vmovups(zmm(kX), c.e.at(kValues, 64 * whole));
    scale_down(c);
    leave_rest(c, whole, rest);
    if (count > 1) c.e.mov(reg::rcx, c.e.at(reg::frame, c.frame.groups_left));
  }
  if (count == 1) return;
  c.e.add(kValues, 4 * group);
  c.e.add(kCodes, group);
  advance_scales(c);
  c.e.dec(reg::rcx);
  c.e.jnz(again);
  c.e.sub(kCodes, channels);
}

void emit_fill_scales(Context& c, std::uint32_t bits) {
  emit_scale_pointer(c, kScales);
  emit_repeat(c, c.facts.value_dim / c.facts.quant_group, "fill_scale", [&] {
    c.e.mov(c.e.at_bits(32, kScales), bits);
    advance_scales(c);
  });
}

}  // namespace gdn::cpu
