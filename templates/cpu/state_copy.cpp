#include "cpu/state_copy.h"

#include "cpu/delta.h"
#include "cpu/item.h"
#include "cpu/memory.h"

namespace gdn::cpu {
namespace {

using core::Map;

const Reg64 kFrom = reg::r8, kTo = reg::r9, kChannel = reg::rdx;

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
    emit_advance(c, kFrom, source.step * source.size);
    emit_advance(c, kTo, target.step * target.size);
  });
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
