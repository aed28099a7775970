#include "cpu/state_copy.h"

#include "cpu/chance.h"
#include "cpu/delta.h"
#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"
#include "cpu/state_store.h"

namespace gdn::cpu {
namespace {

using core::Map;

const Reg64 kFrom = reg::r8, kTo = reg::r9, kChannel = reg::rdx;
const Reg64 kScales = reg::r10;  // of an 8-bit state
const Reg64 kBlock = reg::r11;   // number of the row's first block of random bits

// A map by its rows: neighbours in a row, and rows.
struct Rows {
  Rows(const core::Facts& facts, const Map& map, bool along_values)
      : size(static_cast<std::int64_t>(core::size_of(map.dtype))),
        dtype(map.dtype),
        in_row(along_values ? map.outer_stride : map.inner_stride),
        step(along_values ? map.inner_stride : map.outer_stride),
        vectors((along_values ? facts.value_dim : facts.key_dim) / kLanes),
        count(along_values ? facts.key_dim : facts.value_dim) {}

  Vector16 vector(const Reg64& base, int index) const {
    return {base, static_cast<std::int64_t>(index) * kLanes * in_row * size, dtype, in_row};
  }

  std::int64_t size;
  core::DType dtype;
  std::int64_t in_row, step;
  int vectors, count;
};

void next_row(Context& c, const Rows& source, const Rows& target) {
  emit_advance(c, kFrom, source.step * source.size);
  emit_advance(c, kTo, target.step * target.size);
}

// The scales of 16 value channels that are neighbours in a row.
Vector16 scales_at(Context& c, int index) {
  return {kScales, scale_step(c) * kLanes * index, core::DType::kFp32, c.facts.state_scale.inner_stride};
}

// Codes times scales.
void load_scaled(Context& c, const Map& to) {
  constexpr int kScale = 8;  // one of a row of key channels, or those of a row of value channels
  const bool along_values = state_runs_along_values(c.facts.state);
  const Rows source(c.facts, c.facts.state, along_values), target(c.facts, to, along_values);
  emit_point_at_scales(c, kScales);
  for (int i = 0; i < source.vectors && along_values; ++i) load(c, kScale + i, scales_at(c, i));
  emit_repeat(c, source.count, "state_numbers", [&] {
    if (!along_values) {
      c.e.vbroadcastss(zmm(kScale), c.e.at(kScales));
      emit_advance(c, kScales, scale_step(c));
    }
    for (int i = 0; i < source.vectors; ++i) {
      load(c, 0, source.vector(kFrom, i));
      c.e.vmulps(zmm(0), zmm(0), zmm(along_values ? kScale + i : kScale));
      store(c, target.vector(kTo, i), 0);
    }
    next_row(c, source, target);
  });
}

// Rows of key channels have a scale each.
void store_scaled_keys(Context& c, const Rows& source, const Rows& target) {
  constexpr int kLargest = 16, kOther = 17;
  emit_repeat(c, source.count, "state_codes", [&] {
    c.e.vpxord(zmm(kLargest), zmm(kLargest), zmm(kLargest));
    for (int i = 0; i < source.vectors; ++i) {
      load(c, i, source.vector(kFrom, i));
      emit_take_magnitude(c, kLargest, i);
    }
    emit_max_lanes(c, kLargest, kOther);
    emit_new_scale(c, target.dtype, kOther, kLargest);
    c.e.vmovss(c.e.at(kScales), xmm(kOther));
    emit_advance(c, kScales, scale_step(c));
    for (int i = 0; i < source.vectors; ++i) {
      c.e.vmulps(zmm(i), zmm(i), zmm(kLargest));
      store(c, target.vector(kTo, i), i);
    }
    next_row(c, source, target);
  });
}

// Columns are value channels: a sweep for the largest magnitudes, and one for the codes.
void store_scaled_values(Context& c, const Rows& source, const Rows& target) {
  constexpr int kNumber = 16;
  for (int i = 0; i < source.vectors; ++i) c.e.vpxord(zmm(i), zmm(i), zmm(i));
  emit_repeat(c, source.count, "state_magnitudes", [&] {
    for (int i = 0; i < source.vectors; ++i) {
      load(c, kNumber, source.vector(kFrom, i));
      emit_take_magnitude(c, i, kNumber);
    }
    emit_advance(c, kFrom, source.step * source.size);
  });
  emit_advance(c, kFrom, -source.step * source.size * source.count);
  for (int i = 0; i < source.vectors; ++i) {
    emit_new_scale(c, target.dtype, kNumber, i);
    store(c, scales_at(c, i), kNumber);
  }
  emit_repeat(c, source.count, "state_codes", [&] {
    for (int i = 0; i < source.vectors; ++i) {
      load(c, kNumber, source.vector(kFrom, i));
      c.e.vmulps(zmm(kNumber), zmm(kNumber), zmm(i));
      store(c, target.vector(kTo, i), kNumber);
    }
    next_row(c, source, target);
  });
}

void store_by_chance(Context& c, const Rows& source, const Rows& target) {
  constexpr int kFirst = 16;  // of what random bits are made with
  emit_block_number(c, kBlock, kTo);
  emit_repeat(c, source.count, "state_chances", [&] {
    emit_chances(c, kBlock, 0, kLanes * source.vectors, kFirst);
    for (int i = 0; i < source.vectors; ++i) {
      load(c, 0, source.vector(kFrom, i));
      emit_round_by_chance(c, 0, target.dtype, i);
      store(c, target.vector(kTo, i), 0);
    }
    emit_advance(c, kBlock, target.step / 8);
    next_row(c, source, target);
  });
}

}  // namespace

Map state_in_scratch(const core::Facts& facts) {
  Map map;
  map.operand = facts.state.operand;  // it stands for the state; its address is not looked up there
  map.run = facts.key_dim;
  const bool along_values = state_runs_along_values(facts.state);
  map.inner_stride = along_values ? facts.value_dim : 1;
  map.outer_stride = along_values ? 1 : facts.key_dim;
  return map;
}

std::int64_t scratch_state_bytes(const core::Facts& facts) { return std::int64_t{4} * facts.key_dim * facts.value_dim; }

void emit_state_copy(Context& c, const Map& from, const Map& to) {
  c.e.comment("state");
  const bool along_values = state_runs_along_values(from);
  const Rows source(c.facts, from, along_values), target(c.facts, to, along_values);
  emit_repeat(c, source.count, "state_copy", [&] {
    for (int i = 0; i < source.vectors; ++i) {
      load(c, 0, source.vector(kFrom, i));
      store(c, target.vector(kTo, i), 0);
    }
    next_row(c, source, target);
  });
}

void emit_load_state(Context& c, const Map& to) {
  if (!is_scaled(c.facts.state)) {
    emit_state_copy(c, c.facts.state, to);
    return;
  }
  c.e.comment("state");
  load_scaled(c, to);
}

void emit_store_state(Context& c, const Map& from) {
  const Map& state = c.facts.state;
  if (!is_scaled(state) && !is_by_chance(c, state)) {
    emit_state_copy(c, from, state);
    return;
  }
  c.e.comment("state");
  const bool along_values = state_runs_along_values(state);
  const Rows source(c.facts, from, along_values), target(c.facts, state, along_values);
  if (!is_scaled(state)) {
    store_by_chance(c, source, target);
    return;
  }
  emit_point_at_scales(c, kScales);
  if (along_values) {
    store_scaled_values(c, source, target);
  } else {
    store_scaled_keys(c, source, target);
  }
}

void emit_move_scales(Context& c) {
  const Map& scale = c.facts.state_scale;
  for (int i = 0; i < c.value_vectors(); ++i) {
    const std::int64_t place = scale_step(c) * kLanes * i;
    load(c, 0, {kFrom, place, scale.dtype, scale.inner_stride});
    store(c, {kTo, place, scale.dtype, scale.inner_stride}, 0);
  }
}

void emit_state_update(Context& c) {
  c.e.comment("a record");
  const Map state = state_in_scratch(c.facts);
  const bool along_values = state_runs_along_values(c.facts.state);
  const Rows rows(c.facts, state, along_values);
  constexpr int kRow = 16, kDecay = 17, kFactor = 18;
  const int held = along_values ? c.frame.v : c.frame.k;  // along a row: u, or k
  const int other = along_values ? c.frame.k : c.frame.v;
  for (int i = 0; i < rows.vectors; ++i) c.e.vmovaps(zmm(i), c.e.at(reg::frame, held + 64 * i));
  if (!c.by_channel()) c.e.vbroadcastss(zmm(kDecay), c.e.indexed(reg::frame, reg::group, 4, c.frame.decay));
  c.e.mov(kChannel, reg::frame);
  emit_repeat(c, rows.count, "record_row", [&] {
    c.e.vbroadcastss(zmm(kFactor), c.e.at(kChannel, other));
    if (c.by_channel() && along_values) c.e.vbroadcastss(zmm(kDecay), c.e.at(kChannel, c.frame.decays));
    for (int i = 0; i < rows.vectors; ++i) {
      const Vector16 place = rows.vector(kFrom, i);
      load(c, kRow, place);
      if (c.by_channel() && !along_values) {
        c.e.vmulps(zmm(kRow), zmm(kRow), c.e.at(reg::frame, c.frame.decays + 64 * i));
      } else {
        c.e.vmulps(zmm(kRow), zmm(kRow), zmm(kDecay));
      }
      c.e.vfmadd231ps(zmm(kRow), zmm(i), zmm(kFactor));
      store(c, place, kRow);
    }
    emit_advance(c, kFrom, rows.step * rows.size);
    c.e.add(kChannel, 4);
  });
}

}  // namespace gdn::cpu
