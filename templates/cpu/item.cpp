#include "cpu/item.h"

#include <fmt/format.h>

#include <cstddef>
#include <limits>
#include <stdexcept>

#include "cpu/memory.h"
#include "cpu/quantise.h"
#include "gdn/args.h"

namespace gdn::cpu {
namespace {

using core::HeadKind;
using core::Map;

// Nearest even, no exceptions, subnormal fp32 numbers as zero. A channel that nothing is written to decays into
// subnormals, where each multiplication would cost a microcode assist.
constexpr std::uint32_t kMxcsr = 0x1f80 | 0x8000 | 0x0040;

bool fits32(std::int64_t value) {
  return value >= std::numeric_limits<std::int32_t>::min() && value <= std::numeric_limits<std::int32_t>::max();
}

std::int64_t operand_offset(int operand) {
  return static_cast<std::int64_t>(offsetof(Args, operand)) + 8 * static_cast<std::int64_t>(operand);
}

std::int64_t stride_offset(int operand) {
  return static_cast<std::int64_t>(offsetof(Args, stride)) + 8 * static_cast<std::int64_t>(operand);
}

// target += index * bytes
void add_product(Context& c, const Reg64& target, const Reg64& index, std::int64_t bytes) {
  if (bytes == 0) return;
  if (fits32(bytes)) {
    c.e.imul(reg::rax, index, static_cast<int>(bytes));
  } else {
    c.e.mov(reg::rax, static_cast<std::uint64_t>(bytes));
    c.e.imul(reg::rax, index);
  }
  c.e.add(target, reg::rax);
}

// Zeros in every element that the item owns of an output.
void zero_output(Context& c, const Map& map) {
  if (map.heads == HeadKind::kValue) {
    emit_for_heads(c, [&] { emit_zero_head(c, map); });
  } else {
    emit_zero_head(c, map);
  }
}

}  // namespace

int stride_bytes(const Map& map, std::int64_t stride) {
  const std::int64_t bytes = stride * static_cast<std::int64_t>(core::size_of(map.dtype));
  if (!fits32(kLanes * bytes)) {
    throw std::runtime_error(fmt::format("elements {} apart are beyond what an instruction can step over", stride));
  }
  return static_cast<int>(bytes);
}

void emit_advance(Context& c, const Reg64& pointer, std::int64_t bytes) {
  if (bytes == 0) return;
  if (fits32(bytes)) {
    c.e.add(pointer, static_cast<int>(bytes));
  } else {
    c.e.mov(reg::rax, static_cast<std::uint64_t>(bytes));
    c.e.add(pointer, reg::rax);
  }
}

void emit_pointer(Context& c, const Reg64& target, const Map& map, Row row, const Position& at) {
  const auto size = static_cast<std::int64_t>(core::size_of(map.dtype));
  c.e.mov(target, c.e.at(reg::args, operand_offset(map.operand)));
  if (row != Row::kNone) {
    c.e.mov(reg::rax, c.e.at(reg::args, stride_offset(map.operand)));
    c.e.imul(reg::rax, row == Row::kToken ? at.row : at.slot);
    c.e.lea(target, c.e.indexed(target, reg::rax, static_cast<int>(size)));
  }
  if (map.heads != HeadKind::kNone) add_product(c, target, at.key_head, map.key_head_stride * size);
  if (map.heads == HeadKind::kValue && !at.first_group) add_product(c, target, reg::group, map.group_stride * size);
  if (c.points_at_columns && c.lies_by_columns(map)) {
    const std::int64_t stride = &map == &c.facts.state ? map.outer_stride : map.inner_stride;
    c.e.mov(reg::rax, static_cast<std::uint64_t>(c.facts.value_dim * stride * size));
    c.e.imul(reg::rax, c.e.at(reg::frame, c.frame.column_part));
    c.e.add(target, reg::rax);
  }
  emit_advance(c, target, map.offset * size);
}

void emit_row_step(Context& c, const Reg64& target, const Map& map) {
  c.e.mov(target, c.e.at(reg::args, stride_offset(map.operand)));
  c.e.imul(target, target, static_cast<int>(core::size_of(map.dtype)));
}

void emit_repeat(Context& c, int count, const char* name, const std::function<void()>& body) {
  if (count == 1) {
    body();
    return;
  }
  Mark& again = c.e.mark(name);
  c.e.mov(reg::ecx, count);
  c.e.bind(again);
  body();
  c.e.dec(reg::ecx);
  c.e.jnz(again);
}

void emit_zero_head(Context& c, const Map& map) {
  emit_pointer(c, reg::r8, map, Row::kToken);
  if (map.run == 1) {
    c.e.xor_(reg::eax, reg::eax);
    if (core::size_of(map.dtype) == 4) {
      c.e.mov(c.e.at(reg::r8), reg::eax);
    } else {
      c.e.mov(c.e.at_bits(16, reg::r8), Xbyak::Reg16(0));
    }
    return;
  }
  c.e.vpxord(zmm(0), zmm(0), zmm(0));
  emit_repeat(c, static_cast<int>(map.run) / kLanes, "zero", [&] {
    store_raw(c, {reg::r8, 0, map.dtype, map.inner_stride}, 0);
    emit_advance(c, reg::r8, kLanes * stride_bytes(map, map.inner_stride));
  });
  if (&map == &c.facts.out && quantises(c.facts)) emit_fill_scales(c, 0);
}

void emit_for_heads(Context& c, const std::function<void()>& body) {
  Mark& again = c.e.mark("value_head");
  c.e.xor_(reg::group, reg::group);
  c.e.bind(again);
  body();
  c.e.inc(reg::group);
  c.e.cmp(reg::group, c.facts.group);
  c.e.jb(again);
}

void emit_slot(Context& c, const Reg64& slot, const Reg64& row, const Mark& padding) {
  c.e.mov(reg::rax, c.e.at(reg::args, operand_offset(c.facts.slots_operand)));
  if (c.facts.slot_dtype == core::DType::kInt64) {
    c.e.mov(slot, c.e.indexed(reg::rax, row, 8));
  } else {
    c.e.movsxd(slot, c.e.indexed(reg::rax, row, 4, 0, 32));
  }
  // Unsigned: a negative index is beyond every pool.
  c.e.mov(reg::eax, c.e.at(reg::args, static_cast<std::int64_t>(offsetof(Args, slots))));
  c.e.cmp(slot, reg::rax);
  c.e.jae(padding);
  if (c.facts.padding == core::Padding::kZeroOrNegative) {
    c.e.test(slot, slot);
    c.e.jz(padding);
  }
}

void emit_item_loop(Context& c, int in_row, const std::function<void(const Mark& next)>& item_body,
                    const std::function<void(const Mark& next)>& behind) {
  const Reg64 saved[] = {reg::slot, reg::end, reg::item, reg::group, reg::row, reg::key_head};
  Mark& done = c.e.mark("done");
  Mark& item = c.e.mark("item");
  Mark& next = c.e.mark("next_item");

  for (const Reg64& r : saved) c.e.push(r);
  c.e.mov(reg::rax, reg::frame);
  c.e.sub(reg::frame, c.frame.size);
  c.e.and_(reg::frame, -64);
  c.e.mov(c.e.at(reg::frame, c.frame.old_stack), reg::rax);
  c.e.vstmxcsr(c.e.at(reg::frame, c.frame.old_mxcsr));
  c.e.vldmxcsr(c.e.scalar_bits(kMxcsr));
  if (c.frame.scratch >= 0) c.e.mov(c.e.at(reg::frame, c.frame.scratch), reg::rcx);
  if (c.frame.ready_item != 0) {
    c.e.xor_(reg::eax, reg::eax);
    c.e.dec(reg::rax);
    c.e.mov(c.e.at(reg::frame, c.frame.ready_item), reg::rax);  // no item's
  }
  c.e.mov(reg::item, reg::rsi);
  c.e.mov(reg::end, reg::rdx);
  c.e.cmp(reg::item, reg::end);
  c.e.jge(done);
  // row = item / in_row, key_head = the rest
  c.e.mov(reg::rax, reg::item);
  c.e.xor_(reg::rdx, reg::rdx);
  c.e.mov(reg::ecx, in_row);
  c.e.div(reg::rcx);
  c.e.mov(reg::row, reg::rax);
  c.e.mov(reg::key_head, reg::rdx);

  c.e.bind(item);
  item_body(next);
  c.e.bind(next);
  c.e.inc(reg::key_head);
  c.e.cmp(reg::key_head, in_row);
  Mark& same_row = c.e.mark("same_row");
  c.e.jb(same_row);
  c.e.xor_(reg::key_head, reg::key_head);
  c.e.inc(reg::row);
  c.e.bind(same_row);
  c.e.inc(reg::item);
  c.e.cmp(reg::item, reg::end);
  c.e.jb(item);

  c.e.bind(done);
  c.e.vldmxcsr(c.e.at(reg::frame, c.frame.old_mxcsr));
  c.e.mov(reg::frame, c.e.at(reg::frame, c.frame.old_stack));
  for (std::size_t i = std::size(saved); i-- > 0;) c.e.pop(saved[i]);
  c.e.vzeroupper();
  c.e.ret();
  behind(next);
}

void emit_items(Context& c, const std::vector<const Map*>& outputs, const std::function<void()>& body) {
  const bool slots = c.facts.slots_operand >= 0;
  Mark& padded = c.e.mark("padded");
  emit_item_loop(
      c, c.facts.key_heads,
      [&](const Mark&) {
        if (slots) emit_slot(c, reg::slot, reg::row, padded);
        body();
      },
      [&](const Mark& next) {
        if (!slots) return;
        c.e.bind(padded);
        if (c.facts.padded_output == core::PaddedOutput::kZero) {
          for (const Map* const map : outputs) zero_output(c, *map);
        }
        c.e.jmp(next);
      });
}

}  // namespace gdn::cpu
