#include "cpu/draft.h"

#include <cstddef>

#include "cpu/item.h"
#include "cpu/memory.h"
#include "cpu/quantise.h"
#include "gdn/args.h"

namespace gdn::cpu {
namespace {

using core::DType;
using core::Map;
using core::Padding;
using core::Rollback;

Address operand_at(Context& c, int operand) {
  return c.e.at(reg::args, static_cast<std::int64_t>(offsetof(Args, operand)) + 8 * std::int64_t{operand});
}

Address stride_at(Context& c, int operand) {
  return c.e.at(reg::args, static_cast<std::int64_t>(offsetof(Args, stride)) + 8 * std::int64_t{operand});
}

Address variable(Context& c, int offset) { return c.e.at(reg::frame, offset); }

// target <- number `index` + `more` of an operand of integers at the address in rax.
void load_index(Context& c, const Reg64& target, DType dtype, const Reg64& index, int more = 0) {
  if (dtype == DType::kInt64) {
    c.e.mov(target, c.e.indexed(reg::rax, index, 8, std::int64_t{8} * more));
  } else {
    c.e.movsxd(target, c.e.indexed(reg::rax, index, 4, std::int64_t{4} * more, 32));
  }
}

// r11 <- number of the sequence's first slot; rax <- the operand. Changes nothing else.
void find_slots(Context& c, const Reg64& sequence) {
  const int operand = c.facts.slots_operand;
  c.e.mov(reg::r11, stride_at(c, operand));
  c.e.imul(reg::r11, sequence);
  c.e.mov(reg::rax, operand_at(c, operand));
}

// The rows of the sequence into the frame, cut to those of the launch; leaves for `mistaken` later, with r8 and r9 the
// offsets as they are.
void find_rows(Context& c) {
  c.e.mov(reg::rax, operand_at(c, c.facts.offsets_operand));
  load_index(c, reg::r8, c.facts.offset_dtype, reg::row);
  load_index(c, reg::r9, c.facts.offset_dtype, reg::row, 1);
  c.e.mov(Xbyak::Reg32(10), c.e.at(reg::args, static_cast<std::int64_t>(offsetof(Args, rows))));
  c.e.xor_(reg::eax, reg::eax);
  const auto clamp = [&](const Reg64& x, const Reg64& low) {
    c.e.cmp(x, low);
    c.e.cmovl(x, low);
    c.e.cmp(x, reg::r10);
    c.e.cmovg(x, reg::r10);
  };
  c.e.mov(reg::rdx, reg::r8);
  clamp(reg::rdx, reg::rax);
  c.e.mov(reg::rcx, reg::r9);
  clamp(reg::rcx, reg::rdx);
  c.e.mov(variable(c, c.frame.first), reg::rdx);
  c.e.sub(reg::rcx, reg::rdx);
  c.e.mov(variable(c, c.frame.tokens), reg::rcx);
}

void expect_rows(Context& c, const Mark& mistaken) {
  c.e.cmp(reg::rdx, reg::r8);
  c.e.jnz(mistaken);
  c.e.lea(reg::rax, c.e.indexed(reg::rdx, reg::rcx, 1));
  c.e.cmp(reg::rax, reg::r9);
  c.e.jnz(mistaken);
  c.e.cmp(reg::rcx, c.facts.tokens);
  c.e.jg(mistaken);
}

// rdx <- accepted tokens, never below 0.
void find_accepted(Context& c, const Mark& mistaken) {
  if (c.facts.accepted_operand < 0) {
    c.e.xor_(reg::rdx, reg::rdx);
    c.e.mov(variable(c, c.frame.accepted), reg::rdx);
    return;
  }
  c.e.mov(reg::rax, operand_at(c, c.facts.accepted_operand));
  load_index(c, reg::rdx, c.facts.accepted_dtype, reg::row);
  if (c.facts.counts == core::Counts::kDrafts) c.e.inc(reg::rdx);
  c.e.xor_(reg::eax, reg::eax);
  c.e.cmp(reg::rdx, reg::rax);
  c.e.cmovl(reg::rdx, reg::rax);
  c.e.cmp(reg::rdx, c.facts.tokens);
  c.e.jg(mistaken);
  c.e.mov(variable(c, c.frame.accepted), reg::rdx);
}

// rdx: accepted tokens. Where the window and the state begin.
void find_start(Context& c) {
  const bool slots = c.facts.rollback == Rollback::kSlots;
  const bool moves = slots || c.facts.rollback == Rollback::kReplay || c.facts.offsets_operand < 0;
  if (!moves) c.e.xor_(reg::rdx, reg::rdx);
  if (slots) {
    // The last accepted one's; the first one's where none was.
    Mark& none = c.e.mark("none_accepted");
    c.e.test(reg::rdx, reg::rdx);
    c.e.jz(none);
    c.e.dec(reg::rdx);
    c.e.bind(none);
  }
  c.e.mov(variable(c, c.frame.window_offset), reg::rdx);
  if (!slots) {
    c.e.mov(variable(c, c.frame.state_slot), reg::slot);
    return;
  }
  find_slots(c, reg::row);
  c.e.add(reg::r11, reg::rdx);
  load_index(c, reg::rdx, c.facts.slot_dtype, reg::r11);
  c.e.mov(variable(c, c.frame.state_slot), reg::rdx);
}

// Every slot that the launch uses is one of the pools'.
void expect_slots(Context& c, const Mark& mistaken) {
  for (int step = 1; step < c.facts.tokens; ++step) {
    Mark& used = c.e.mark("slot_used");
    Mark& unused = c.e.mark("slot_unused");
    if (c.facts.offsets_operand >= 0) {
      c.e.mov(reg::rax, variable(c, c.frame.tokens));
      c.e.cmp(reg::rax, step);
      c.e.jg(used);
    }
    c.e.mov(reg::rax, variable(c, c.frame.accepted));
    c.e.cmp(reg::rax, step + 1);
    c.e.jnz(unused);
    c.e.bind(used);
    find_slots(c, reg::row);
    load_index(c, reg::rcx, c.facts.slot_dtype, reg::r11, step);
    c.e.mov(reg::eax, c.e.at(reg::args, static_cast<std::int64_t>(offsetof(Args, slots))));
    c.e.cmp(reg::rcx, reg::rax);
    c.e.jae(mistaken);
    c.e.bind(unused);
  }
}

// The last accepted token must have a record: a decay of -1 says that it has none.
void expect_records(Context& c, const Mark& otherwise) {
  Mark& none = c.e.mark("no_record");
  c.e.mov(reg::rax, variable(c, c.frame.accepted));
  c.e.test(reg::rax, reg::rax);
  c.e.jz(none);
  emit_pointer(c, reg::r8, c.facts.record_decay, Row::kSlot, {reg::row, reg::slot, reg::key_head, true});
  emit_step_to(c, reg::r8, c.facts.record_decay, c.frame.accepted, -1);
  c.e.mov(reg::eax, c.e.at(reg::r8));
  c.e.test(reg::eax, reg::eax);
  c.e.js(otherwise);
  c.e.bind(none);
}

// A number in every element of an output's head, rows first to first + tokens.
void fill_rows(Context& c, const Map& map, std::uint32_t bits) {
  Mark& done = c.e.mark("filled");
  Mark& again = c.e.mark("fill_row");
  c.e.mov(reg::row, variable(c, c.frame.first));
  c.e.mov(reg::rax, variable(c, c.frame.tokens));
  c.e.mov(variable(c, c.frame.left), reg::rax);
  c.e.test(reg::rax, reg::rax);
  c.e.jz(done);
  c.e.bind(again);
  emit_for_heads(c, [&] {
    emit_pointer(c, reg::r8, map, Row::kToken);
    c.e.vbroadcastss(zmm(0), c.e.scalar_bits(bits));
    emit_repeat(c, static_cast<int>(map.run) / kLanes, "fill", [&] {
      store(c, {reg::r8, 0, map.dtype, map.inner_stride}, 0);
      emit_advance(c, reg::r8, std::int64_t{kLanes} * stride_bytes(map, map.inner_stride));
    });
    if (quantises(c.facts)) emit_fill_scales(c, bits);
  });
  c.e.inc(reg::row);
  c.e.dec(c.e.at_bits(64, reg::frame, c.frame.left));
  c.e.jnz(again);
  c.e.bind(done);
}

}  // namespace

void emit_step_to(Context& c, const Reg64& target, const Map& map, int frame_variable, int more) {
  const std::int64_t bytes = map.tap_stride * static_cast<std::int64_t>(core::size_of(map.dtype));
  c.e.mov(reg::rax, static_cast<std::uint64_t>(bytes));
  c.e.imul(reg::rax, variable(c, frame_variable));
  c.e.add(target, reg::rax);
  emit_advance(c, target, more * bytes);
}

void emit_token_slot(Context& c) {
  c.e.mov(reg::rcx, variable(c, c.frame.sequence));
  find_slots(c, reg::rcx);
  c.e.add(reg::r11, variable(c, c.frame.token));
  load_index(c, reg::slot, c.facts.slot_dtype, reg::r11);
}

void emit_state_slot(Context& c) { c.e.mov(reg::slot, variable(c, c.frame.state_slot)); }

void emit_window_slot(Context& c) {
  c.e.mov(reg::rcx, variable(c, c.frame.sequence));
  find_slots(c, reg::rcx);
  load_index(c, reg::slot, c.facts.slot_dtype, reg::r11);
}

void emit_drafts(Context& c, const std::function<void(const Mark& nothing)>& body) {
  const core::Facts& f = c.facts;
  const bool decodes = f.offsets_operand >= 0;
  Mark& padded = c.e.mark("padded");
  Mark& mistaken = c.e.mark("mistaken");
  Mark& done = c.e.mark("sequence_done");
  emit_item_loop(
      c, f.key_heads,
      [&](const Mark&) {
        c.e.mov(variable(c, c.frame.sequence), reg::row);
        if (decodes) find_rows(c);
        find_slots(c, reg::row);
        load_index(c, reg::slot, f.slot_dtype, reg::r11);
        if (f.padding != Padding::kNone) {
          c.e.cmp(reg::slot, f.padding == Padding::kNegative ? -1 : 0);
          c.e.jle(padded);
        }
        c.e.mov(reg::eax, c.e.at(reg::args, static_cast<std::int64_t>(offsetof(Args, slots))));
        c.e.cmp(reg::slot, reg::rax);
        c.e.jae(mistaken);
        if (decodes) expect_rows(c, mistaken);
        find_accepted(c, mistaken);
        if (f.rollback == Rollback::kSlots) expect_slots(c, mistaken);
        if (f.rollback == Rollback::kReplay) expect_records(c, mistaken);
        c.e.mov(reg::rdx, variable(c, c.frame.accepted));
        find_start(c);
        if (decodes) {
          c.e.mov(reg::rax, variable(c, c.frame.tokens));
          c.e.test(reg::rax, reg::rax);
          c.e.jz(done);
          c.e.mov(reg::row, variable(c, c.frame.first));
        }
        body(done);
        c.e.bind(done);
        c.e.mov(reg::row, variable(c, c.frame.sequence));
      },
      [&](const Mark&) {
        c.e.bind(padded);
        if (decodes && f.padded_output == core::PaddedOutput::kZero) fill_rows(c, f.out, 0);
        c.e.jmp(done);
        c.e.bind(mistaken);
        if (decodes) fill_rows(c, f.out, 0x7fc00000u);
        c.e.jmp(done);
      });
}

}  // namespace gdn::cpu
