#include "cpu/sequence.h"

#include <algorithm>
#include <cstddef>

#include "cpu/item.h"
#include "gdn/args.h"

namespace gdn::cpu {
namespace {

using core::Map;

// Nearest even, no exceptions, subnormal fp32 numbers as zero: what tiles do whatever it says.
constexpr std::uint32_t kMxcsr = 0x1f80 | 0x8000 | 0x0040;

std::int64_t operand_offset(int operand) {
  return static_cast<std::int64_t>(offsetof(Args, operand)) + 8 * static_cast<std::int64_t>(operand);
}

const std::vector<Reg64>& saved() {
  static const std::vector<Reg64> registers = {reg::slot, reg::work, reg::tokens, reg::group, reg::row, reg::key_head};
  return registers;
}

}  // namespace

void emit_point_at_rows(Context& c, const Reg64& first, const Reg64& step, const RowPlace& rows) {
  if (rows.map != nullptr) {
    emit_pointer(c, first, *rows.map, Row::kToken);
    emit_row_step(c, step, *rows.map);
    return;
  }
  c.e.lea(first, c.e.at(reg::work, rows.buffer));
  c.e.mov(step, rows.width * static_cast<int>(core::size_of(rows.dtype)));
}

SequenceWalk::SequenceWalk(Context& c, const SequencePlaces& places, const std::vector<const Map*>& pools, int parts,
                           int part)
    : c_(c), e_(c.e), places_(places), parts_(parts), part_(part) {
  for (const Map* const pool : pools) {
    const auto same = [&](const Map* known) { return known->operand == pool->operand; };
    if (pool->present() && std::none_of(pools_.begin(), pools_.end(), same)) pools_.push_back(pool);
  }
}

void SequenceWalk::for_heads(const std::function<void()>& body) const {
  if (!in_parts()) {
    emit_for_heads(c_, body);
    return;
  }
  e_.mov(reg::group, c_.points_at_columns ? e_.at(reg::frame, c_.frame.part_head) : variable(part_));
  body();
}

void SequenceWalk::unless_first_part(const Mark& others) const {
  if (!in_parts()) return;
  e_.mov(reg::rax, variable(part_));
  e_.test(reg::rax, reg::rax);
  e_.jnz(others);
}

void SequenceWalk::emit(const std::vector<const Map*>& outputs, const std::function<void()>& begin,
                        const std::function<void()>& body, const std::function<void()>& end) const {
  Mark& done = e_.mark("done");
  Mark& item = e_.mark("item");
  Mark& next = e_.mark("next_item");
  Mark& padded = e_.mark("padded");
  enter();
  e_.mov(reg::rax, variable(places_.item));
  e_.cmp(reg::rax, variable(places_.last_item));
  e_.jge(done);
  begin();
  e_.bind(item);
  begin_sequence(next, padded);
  body();
  e_.bind(next);
  e_.mov(reg::rax, variable(places_.item));
  e_.inc(reg::rax);
  e_.mov(variable(places_.item), reg::rax);
  e_.cmp(reg::rax, variable(places_.last_item));
  e_.jb(item);
  end();
  e_.bind(done);
  leave();
  e_.bind(padded);
  fill_padding(outputs);
  e_.jmp(next);
}

void SequenceWalk::for_chunks(int most, const std::function<void()>& body, const std::function<void()>& keep) const {
  Mark& chunk = e_.mark("chunk");
  Mark& whole = e_.mark("whole_chunk");
  if (keeps_snapshots()) first_snapshot();
  e_.bind(chunk);
  e_.mov(reg::tokens, variable(places_.left));
  e_.cmp(reg::tokens, most);
  e_.jle(whole);
  e_.mov(reg::tokens, most);
  e_.bind(whole);
  if (keeps_snapshots()) {
    Mark& undisturbed = e_.mark("chunk_undisturbed");
    e_.mov(reg::rax, variable(places_.due));
    e_.sub(reg::rax, reg::row);
    e_.inc(reg::rax);
    e_.cmp(reg::tokens, reg::rax);
    e_.jle(undisturbed);
    e_.mov(reg::tokens, reg::rax);
    e_.bind(undisturbed);
  }
  body();
  e_.add(reg::row, reg::tokens);
  if (keeps_snapshots()) keep_snapshots(keep);
  e_.mov(reg::rax, variable(places_.left));
  e_.sub(reg::rax, reg::tokens);
  e_.mov(variable(places_.left), reg::rax);
  e_.jnz(chunk);
}

void SequenceWalk::own_slot(const Reg64& target) const { e_.mov(target, variable(places_.own_slot)); }

// The first snapshot whose row is the sequence's, or the one that is not there. Changes rax, rcx and r8.
void SequenceWalk::first_snapshot() const {
  Mark& again = e_.mark("snapshot_ahead");
  Mark& found = e_.mark("snapshot_found");
  e_.mov(reg::rax, -1);
  e_.mov(variable(places_.snapshot), reg::rax);
  e_.bind(again);
  load_due();
  e_.mov(reg::rax, variable(places_.due));
  e_.cmp(reg::rax, reg::row);
  e_.jge(found);
  e_.jmp(again);
  e_.bind(found);
}

// Goes on to the next snapshot and notes its row, one behind all rows where there is no other. Changes rax, rcx, r8.
void SequenceWalk::load_due() const {
  const core::Facts& f = c_.facts;
  const Reg64 number = reg::rcx;
  Mark& none = e_.mark("no_snapshot");
  Mark& done = e_.mark("snapshot_due");
  e_.mov(number, variable(places_.snapshot));
  e_.inc(number);
  e_.mov(variable(places_.snapshot), number);
  e_.mov(reg::rax, e_.at(reg::args, operand_offset(f.snapshot_slots_operand)));
  e_.test(reg::rax, reg::rax);
  e_.jz(none);
  e_.mov(reg::r8, e_.at(reg::args, operand_offset(f.snapshot_rows_operand)));
  e_.test(reg::r8, reg::r8);
  e_.jz(none);
  // How many there are stands where a stride would.
  const auto count = static_cast<std::int64_t>(offsetof(Args, stride)) + 8 * std::int64_t{f.snapshot_rows_operand};
  e_.cmp(number, e_.at(reg::args, count));
  e_.jge(none);
  if (f.offset_dtype == core::DType::kInt64) {
    e_.mov(reg::rax, e_.indexed(reg::r8, number, 8));
  } else {
    e_.movsxd(reg::rax, e_.indexed(reg::r8, number, 4, 0, 32));
  }
  e_.mov(variable(places_.due), reg::rax);
  e_.jmp(done);
  e_.bind(none);
  e_.mov(reg::rax, std::uint64_t{1} << 40);
  e_.mov(variable(places_.due), reg::rax);
  e_.bind(done);
}

// Behind a chunk: reg::row is the row behind its last token.
void SequenceWalk::keep_snapshots(const std::function<void()>& keep) const {
  Mark& again = e_.mark("snapshots");
  Mark& later = e_.mark("snapshots_kept");
  Mark& dropped = e_.mark("snapshot_dropped");
  e_.bind(again);
  e_.mov(reg::rax, variable(places_.due));
  e_.cmp(reg::rax, reg::row);
  e_.jge(later);
  e_.inc(reg::rax);
  e_.cmp(reg::rax, reg::row);
  e_.jb(dropped);  // of rows that do not ascend
  snapshot_slot(dropped);
  keep();
  e_.bind(dropped);
  load_due();
  e_.jmp(again);
  e_.bind(later);
  e_.mov(reg::slot, variable(places_.own_slot));
}

// reg::slot <- where the snapshot goes; `none` for a slot of padding or outside of the pools. Changes rax and rcx.
void SequenceWalk::snapshot_slot(const Mark& none) const {
  const core::Facts& f = c_.facts;
  e_.mov(reg::rcx, variable(places_.snapshot));
  e_.mov(reg::rax, e_.at(reg::args, operand_offset(f.snapshot_slots_operand)));
  if (f.slot_dtype == core::DType::kInt64) {
    e_.mov(reg::slot, e_.indexed(reg::rax, reg::rcx, 8));
  } else {
    e_.movsxd(reg::slot, e_.indexed(reg::rax, reg::rcx, 4, 0, 32));
  }
  // Unsigned: a negative index is beyond every pool.
  e_.mov(reg::eax, e_.at(reg::args, static_cast<std::int64_t>(offsetof(Args, slots))));
  e_.cmp(reg::slot, reg::rax);
  e_.jae(none);
  if (f.padding == core::Padding::kZeroOrNegative) {
    e_.test(reg::slot, reg::slot);
    e_.jz(none);
  }
}

void SequenceWalk::unless_pooled(const Map& pool, const Mark& without) const {
  if (!pool.present()) {
    e_.jmp(without);
    return;
  }
  e_.mov(reg::rax, e_.at(reg::args, operand_offset(pool.operand)));
  e_.test(reg::rax, reg::rax);
  e_.jz(without);
}

void SequenceWalk::unless_initial(const Map& pool, const Mark& without) const {
  const core::Facts& f = c_.facts;
  if (f.initial_states == core::InitialStates::kNone) {
    e_.jmp(without);
    return;
  }
  unless_pooled(pool, without);
  if (f.initial_states == core::InitialStates::kAll) return;
  e_.mov(reg::rax, e_.at(reg::args, operand_offset(f.flags_operand)));
  e_.test(reg::rax, reg::rax);
  e_.jz(without);
  e_.mov(reg::rcx, variable(places_.sequence));
  if (f.flag_dtype == core::DType::kInt32) {
    e_.mov(reg::eax, e_.indexed(reg::rax, reg::rcx, 4, 0, 32));
  } else {
    e_.movzx(reg::eax, e_.indexed(reg::rax, reg::rcx, 1, 0, 8));
  }
  e_.test(reg::eax, reg::eax);
  e_.jz(without);
}

void SequenceWalk::enter() const {
  for (const Reg64& r : saved()) e_.push(r);
  e_.mov(reg::rax, reg::frame);
  e_.sub(reg::frame, c_.frame.size);
  e_.and_(reg::frame, -64);
  e_.mov(e_.at(reg::frame, c_.frame.old_stack), reg::rax);
  e_.vstmxcsr(e_.at(reg::frame, c_.frame.old_mxcsr));
  e_.vldmxcsr(e_.scalar_bits(kMxcsr));
  e_.mov(reg::work, reg::rcx);
  e_.mov(variable(places_.item), reg::rsi);
  e_.mov(variable(places_.last_item), reg::rdx);
}

void SequenceWalk::leave() const {
  e_.vldmxcsr(e_.at(reg::frame, c_.frame.old_mxcsr));
  e_.mov(reg::frame, e_.at(reg::frame, c_.frame.old_stack));
  for (std::size_t i = saved().size(); i-- > 0;) e_.pop(saved()[i]);
  e_.vzeroupper();
  e_.ret();
}

// Zeros in the outputs of a sequence that is padding, where the facts want them.
void SequenceWalk::fill_padding(const std::vector<const Map*>& outputs) const {
  if (c_.facts.padded_output != core::PaddedOutput::kZero) return;
  Mark& again = e_.mark("padded_row");
  e_.bind(again);
  for (const Map* const map : outputs) {
    if (map->heads == core::HeadKind::kValue) {
      for_heads([&] { emit_zero_head(c_, *map); });
    } else {
      emit_zero_head(c_, *map);
    }
  }
  e_.inc(reg::row);
  e_.mov(reg::rax, variable(places_.left));
  e_.dec(reg::rax);
  e_.mov(variable(places_.left), reg::rax);
  e_.jnz(again);
}

// item = sequence * key_heads + key head, times parts + part. Leaves for `next` where there is nothing to do.
void SequenceWalk::begin_sequence(const Mark& next, const Mark& padded) const {
  const core::Facts& f = c_.facts;
  const Reg64 sequence = reg::r8, begin = reg::row, end = reg::rcx;
  e_.mov(reg::rax, variable(places_.item));
  e_.xor_(reg::rdx, reg::rdx);
  e_.mov(reg::ecx, f.key_heads * parts_);
  e_.div(reg::rcx);
  e_.mov(sequence, reg::rax);
  e_.mov(variable(places_.sequence), sequence);
  if (in_parts()) {
    e_.mov(reg::rax, reg::rdx);
    e_.xor_(reg::rdx, reg::rdx);
    e_.mov(reg::ecx, parts_);
    e_.div(reg::rcx);
    e_.mov(reg::key_head, reg::rax);
    e_.mov(variable(part_), reg::rdx);
    if (c_.points_at_columns) {
      e_.mov(reg::rax, reg::rdx);
      e_.xor_(reg::rdx, reg::rdx);
      e_.mov(reg::ecx, c_.column_parts);
      e_.div(reg::rcx);
      e_.mov(e_.at(reg::frame, c_.frame.part_head), reg::rax);
      e_.mov(e_.at(reg::frame, c_.frame.column_part), reg::rdx);
    }
  } else {
    e_.mov(reg::key_head, reg::rdx);
  }
  e_.mov(reg::r9, e_.at(reg::args, operand_offset(f.offsets_operand)));
  load_offset(begin, sequence, 0);
  load_offset(end, sequence, 1);
  e_.mov(variable(places_.first), begin);
  e_.sub(end, begin);
  e_.mov(variable(places_.left), end);
  e_.jle(next);
  find_slot(sequence, padded);
  e_.mov(variable(places_.own_slot), reg::slot);
}

// An offset that no caller should give is cut to the launch's rows. Changes rax.
void SequenceWalk::load_offset(const Reg64& target, const Reg64& sequence, int index) const {
  Mark& positive = e_.mark("offset_positive");
  Mark& inside = e_.mark("offset_inside");
  if (c_.facts.offset_dtype == core::DType::kInt64) {
    e_.mov(target, e_.indexed(reg::r9, sequence, 8, 8 * index));
  } else {
    e_.movsxd(target, e_.indexed(reg::r9, sequence, 4, 4 * index, 32));
  }
  e_.test(target, target);
  e_.jge(positive);
  e_.xor_(target, target);
  e_.bind(positive);
  e_.movsxd(reg::rax, e_.at_bits(32, reg::args, static_cast<std::int64_t>(offsetof(Args, rows))));
  e_.cmp(target, reg::rax);
  e_.jle(inside);
  e_.mov(target, reg::rax);
  e_.bind(inside);
}

void SequenceWalk::if_any_pool(const Mark& some) const {
  for (const Map* const pool : pools_) {
    e_.mov(reg::rax, e_.at(reg::args, operand_offset(pool->operand)));
    e_.test(reg::rax, reg::rax);
    e_.jnz(some);
  }
}

// reg::slot <- the sequence's slot. `padded` for one that marks padding or lies outside of the pools; without pools
// only the former counts.
void SequenceWalk::find_slot(const Reg64& sequence, const Mark& padded) const {
  const core::Facts& f = c_.facts;
  Mark& indexed = e_.mark("slot_indexed");
  Mark& numbered = e_.mark("slot_numbered");
  Mark& pooled = e_.mark("slot_pooled");
  Mark& found = e_.mark("slot_found");
  e_.mov(reg::slot, sequence);
  e_.mov(reg::rax, e_.at(reg::args, operand_offset(f.slots_operand)));
  e_.test(reg::rax, reg::rax);
  e_.jnz(indexed);
  if_any_pool(numbered);
  e_.jmp(found);
  e_.bind(numbered);
  e_.mov(reg::eax, e_.at(reg::args, static_cast<std::int64_t>(offsetof(Args, slots))));
  e_.cmp(reg::slot, reg::rax);
  e_.jae(padded);
  e_.jmp(found);
  e_.bind(indexed);
  if_any_pool(pooled);
  if (f.padding != core::Padding::kNone) padding_index(sequence, padded);
  e_.jmp(found);
  e_.bind(pooled);
  if (!pools_.empty()) emit_slot(c_, reg::slot, sequence, padded);
  e_.bind(found);
}

void SequenceWalk::padding_index(const Reg64& sequence, const Mark& padded) const {
  const core::Facts& f = c_.facts;
  Mark& real = e_.mark("slot_real");
  e_.mov(reg::rax, e_.at(reg::args, operand_offset(f.slots_operand)));
  if (f.slot_dtype == core::DType::kInt64) {
    e_.mov(reg::slot, e_.indexed(reg::rax, sequence, 8));
  } else {
    e_.movsxd(reg::slot, e_.indexed(reg::rax, sequence, 4, 0, 32));
  }
  e_.test(reg::slot, reg::slot);
  if (f.padding == core::Padding::kZeroOrNegative) {
    e_.jle(padded);
  } else {
    e_.jge(real);
    e_.jmp(padded);
  }
  e_.bind(real);
}

}  // namespace gdn::cpu
