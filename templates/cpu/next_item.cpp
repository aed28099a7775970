#include "cpu/next_item.h"

#include "cpu/item.h"

namespace gdn::cpu {
namespace {

using core::Map;

constexpr std::int64_t kLine = 64;

const Reg64 kRow = reg::r10, kSlot = reg::r11, kKeyHead = reg::rdx, kPointer = reg::r8;

void prefetch_bytes(Context& c, std::int64_t begin, std::int64_t count) {
  for (std::int64_t byte = begin; byte < begin + count; byte += kLine) c.e.prefetcht1(c.e.at(kPointer, byte));
}

// One head's elements of a part with `taps` rows (1: none).
void prefetch_part(Context& c, const Map& map, Row row, int taps, const Position& at) {
  if (!map.present()) return;
  const auto size = static_cast<std::int64_t>(core::size_of(map.dtype));
  const bool rows = map.inner_stride == 1;
  const bool block = map.inner_stride == taps && map.tap_stride == 1;
  if (!rows && !block) return;
  emit_pointer(c, kPointer, map, row, at);
  if (rows) {
    for (int tap = 0; tap < taps; ++tap) prefetch_bytes(c, tap * map.tap_stride * size, map.run * size);
  } else {
    prefetch_bytes(c, 0, map.run * taps * size);
  }
}

}  // namespace

void emit_next_item(Context& c) {
  c.e.comment("the next item's operands");
  const core::Facts& f = c.facts;
  Mark& here = c.e.mark("no_next_item");
  Mark& known = c.e.mark("next_item_known");
  Mark& same_row = c.e.mark("next_in_row");
  c.e.lea(reg::rax, c.e.at(reg::item, 1));
  c.e.cmp(reg::rax, reg::end);
  c.e.jae(here);
  c.e.mov(kRow, reg::row);
  c.e.mov(kSlot, reg::slot);
  c.e.lea(kKeyHead, c.e.at(reg::key_head, 1));
  c.e.cmp(kKeyHead, f.key_heads);
  c.e.jb(same_row);
  c.e.xor_(kKeyHead, kKeyHead);
  c.e.inc(kRow);
  emit_slot(c, kSlot, kRow, here);
  c.e.bind(same_row);

  const Position next{kRow, kSlot, kKeyHead, true};
  prefetch_part(c, f.in_q, Row::kToken, 1, next);
  prefetch_part(c, f.in_k, Row::kToken, 1, next);
  prefetch_part(c, f.window_q, Row::kSlot, f.window, next);
  prefetch_part(c, f.window_k, Row::kSlot, f.window, next);
  prefetch_part(c, f.weight_q, Row::kNone, f.conv_width, next);
  prefetch_part(c, f.weight_k, Row::kNone, f.conv_width, next);
  emit_for_heads(c, [&] {
    const Position head{kRow, kSlot, kKeyHead, false};
    prefetch_part(c, f.in_v, Row::kToken, 1, head);
    prefetch_part(c, f.in_z, Row::kToken, 1, head);
    prefetch_part(c, f.window_v, Row::kSlot, f.window, head);
    prefetch_part(c, f.weight_v, Row::kNone, f.conv_width, head);
  });
  emit_pointer(c, kPointer, f.state, Row::kSlot, next);
  c.e.jmp(known);
  c.e.bind(here);
  emit_pointer(c, kPointer, f.state, Row::kSlot, {reg::row, reg::slot, reg::key_head, true});
  c.e.bind(known);
  c.e.mov(c.e.at(reg::frame, c.frame.next_state), kPointer);
}

}  // namespace gdn::cpu
