#include "cpu/copy.h"

#include "cpu/item.h"
#include "cpu/memory.h"

namespace gdn::cpu {
namespace {

using core::Map;

constexpr int kValue = 0;

std::int64_t step(const Map& map) { return static_cast<std::int64_t>(kLanes) * stride_bytes(map, map.inner_stride); }

Vector16 vector_at(const Reg64& base, const Map& map) { return {base, 0, map.dtype, map.inner_stride}; }

int vectors(const Map& map) { return static_cast<int>(map.run) / kLanes; }

}  // namespace

void emit_load_part(Context& c, int frame_offset, const Map& from) {
  emit_pointer(c, reg::r8, from, Row::kToken);
  c.e.mov(reg::rdx, reg::frame);
  emit_repeat(c, vectors(from), "load", [&] {
    load(c, kValue, vector_at(reg::r8, from));
    c.e.vmovaps(c.e.at(reg::rdx, frame_offset), zmm(kValue));
    emit_advance(c, reg::r8, step(from));
    c.e.add(reg::rdx, 4 * kLanes);
  });
}

void emit_store_part(Context& c, const Map& to, int frame_offset) {
  emit_pointer(c, reg::r8, to, Row::kToken);
  c.e.mov(reg::rdx, reg::frame);
  emit_repeat(c, vectors(to), "store", [&] {
    c.e.vmovaps(zmm(kValue), c.e.at(reg::rdx, frame_offset));
    store(c, vector_at(reg::r8, to), kValue);
    emit_advance(c, reg::r8, step(to));
    c.e.add(reg::rdx, 4 * kLanes);
  });
}

void emit_copy_part(Context& c, const Map& to, const Map& from) {
  emit_pointer(c, reg::r8, from, Row::kToken);
  emit_pointer(c, reg::r9, to, Row::kToken);
  emit_repeat(c, vectors(from), "copy", [&] {
    if (to.dtype == from.dtype) {
      load_raw(c, kValue, vector_at(reg::r8, from));
      store_raw(c, vector_at(reg::r9, to), kValue);
    } else {
      load(c, kValue, vector_at(reg::r8, from));
      store(c, vector_at(reg::r9, to), kValue);
    }
    emit_advance(c, reg::r8, step(from));
    emit_advance(c, reg::r9, step(to));
  });
}

void emit_copy_taps(Context& c, const Map& to, const Map& from) {
  const auto tap_bytes = [](const Map& map, int tap) {
    return tap * map.tap_stride * static_cast<std::int64_t>(core::size_of(map.dtype));
  };
  for (int tap = 0; tap < c.facts.conv_width; ++tap) {
    emit_pointer(c, reg::r8, from, Row::kNone);
    emit_pointer(c, reg::r9, to, Row::kNone);
    emit_advance(c, reg::r8, tap_bytes(from, tap));
    emit_advance(c, reg::r9, tap_bytes(to, tap));
    emit_repeat(c, vectors(from), "taps", [&] {
      load(c, kValue, vector_at(reg::r8, from));
      store(c, vector_at(reg::r9, to), kValue);
      emit_advance(c, reg::r8, step(from));
      emit_advance(c, reg::r9, step(to));
    });
  }
}

}  // namespace gdn::cpu
