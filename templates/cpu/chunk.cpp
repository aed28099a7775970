// The operation over chunks: items, sequences, chunks, value heads.
#include "cpu/chunk.h"

#include <cstddef>

#include "cpu/chunk_ahead.h"
#include "cpu/item.h"
#include "gdn/args.h"

namespace gdn::cpu {
namespace {

// Nearest even, no exceptions, subnormal fp32 numbers as zero: what tiles do whatever it says.
constexpr std::uint32_t kMxcsr = 0x1f80 | 0x8000 | 0x0040;

std::int64_t operand_offset(int operand) {
  return static_cast<std::int64_t>(offsetof(Args, operand)) + 8 * static_cast<std::int64_t>(operand);
}

class Chunked {
 public:
  explicit Chunked(ChunkContext& cc) : cc_(cc), c_(cc.c), e_(cc.c.e), at_(cc.at) {}

  void emit() {
    Mark& done = e_.mark("done");
    Mark& item = e_.mark("item");
    Mark& next = e_.mark("next_item");
    Mark& padded = e_.mark("padded");
    enter();
    e_.mov(reg::rax, variable(at_.item));
    e_.cmp(reg::rax, variable(at_.last_item));
    e_.jge(done);
    if (cc_.tiles != nullptr) cc_.tiles->configure();
    zero_inverse();
    emit_ahead_routine(cc_, c_.facts.group * products_of_apply(at_));
    e_.bind(item);
    begin_sequence(next, padded);
    take_states();
    chunks();
    leave_states();
    e_.bind(next);
    e_.mov(reg::rax, variable(at_.item));
    e_.inc(reg::rax);
    e_.mov(variable(at_.item), reg::rax);
    e_.cmp(reg::rax, variable(at_.last_item));
    e_.jb(item);
    if (cc_.tiles != nullptr) cc_.tiles->release();
    e_.bind(done);
    leave();
    e_.bind(padded);
    fill_padding();
    e_.jmp(next);
  }

 private:
  static const std::vector<Reg64>& saved() {
    static const std::vector<Reg64> registers = {reg::slot,  reg::work, reg::tokens,
                                                 reg::group, reg::row,  reg::key_head};
    return registers;
  }

  Address variable(int offset) const { return e_.at(reg::work, offset); }

  void enter() {
    for (const Reg64& r : saved()) e_.push(r);
    e_.mov(reg::rax, reg::frame);
    e_.sub(reg::frame, c_.frame.size);
    e_.and_(reg::frame, -64);
    e_.mov(e_.at(reg::frame, c_.frame.old_stack), reg::rax);
    e_.vstmxcsr(e_.at(reg::frame, c_.frame.old_mxcsr));
    e_.vldmxcsr(e_.scalar_bits(kMxcsr));
    e_.mov(reg::work, reg::rcx);
    e_.mov(variable(at_.item), reg::rsi);
    e_.mov(variable(at_.last_item), reg::rdx);
  }

  void leave() {
    e_.vldmxcsr(e_.at(reg::frame, c_.frame.old_mxcsr));
    e_.mov(reg::frame, e_.at(reg::frame, c_.frame.old_stack));
    for (std::size_t i = saved().size(); i-- > 0;) e_.pop(saved()[i]);
    e_.vzeroupper();
    e_.ret();
  }

  // Zeros in the output of a sequence that is padding, where the facts want them.
  void fill_padding() {
    if (c_.facts.padded_output != core::PaddedOutput::kZero) return;
    Mark& again = e_.mark("padded_row");
    e_.bind(again);
    for_heads([&] { emit_zero_head(c_, c_.facts.out_o); });
    e_.inc(reg::row);
    e_.mov(reg::rax, variable(at_.left));
    e_.dec(reg::rax);
    e_.mov(variable(at_.left), reg::rax);
    e_.jnz(again);
  }

  // Its blocks above the diagonal are read and never written.
  void zero_inverse() {
    Mark& again = e_.mark("zero_inverse");
    e_.vpxord(zmm(0), zmm(0), zmm(0));
    e_.lea(reg::r9, e_.at(reg::work, at_.inverse));
    e_.mov(reg::ecx, 4 * kChunk * kChunk / 256);
    e_.bind(again);
    for (int i = 0; i < 4; ++i) e_.vmovups(e_.at(reg::r9, 64 * i), zmm(0));
    e_.add(reg::r9, 256);
    e_.dec(reg::ecx);
    e_.jnz(again);
  }

  // item = sequence * key_heads + key head. Leaves for `next` where there is nothing to do.
  void begin_sequence(const Mark& next, const Mark& padded) {
    const core::Facts& f = c_.facts;
    const Reg64 sequence = reg::r8, begin = reg::row, end = reg::rcx;
    e_.mov(reg::rax, variable(at_.item));
    e_.xor_(reg::rdx, reg::rdx);
    e_.mov(reg::ecx, f.key_heads);
    e_.div(reg::rcx);
    e_.mov(sequence, reg::rax);
    e_.mov(variable(at_.sequence), sequence);
    e_.mov(reg::key_head, reg::rdx);
    e_.mov(reg::r9, e_.at(reg::args, operand_offset(f.offsets_operand)));
    load_offset(begin, sequence, 0);
    load_offset(end, sequence, 1);
    e_.sub(end, begin);
    e_.mov(variable(at_.left), end);
    e_.jle(next);
    find_slot(sequence, padded);
  }

  // An offset that no caller should give is cut to the launch's rows. Changes rax.
  void load_offset(const Reg64& target, const Reg64& sequence, int index) {
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

  // reg::slot <- the sequence's slot: its own number without slot indices. `padded` for one that marks padding or lies
  // outside of the pools; without pools only the former counts.
  void find_slot(const Reg64& sequence, const Mark& padded) {
    const core::Facts& f = c_.facts;
    Mark& indexed = e_.mark("slot_indexed");
    Mark& found = e_.mark("slot_found");
    e_.mov(reg::slot, sequence);
    e_.mov(reg::rax, e_.at(reg::args, operand_offset(f.slots_operand)));
    e_.test(reg::rax, reg::rax);
    e_.jnz(indexed);
    unless_pooled(found);
    e_.mov(reg::eax, e_.at(reg::args, static_cast<std::int64_t>(offsetof(Args, slots))));
    e_.cmp(reg::slot, reg::rax);
    e_.jae(padded);
    e_.jmp(found);
    e_.bind(indexed);
    if (f.padding == core::Padding::kNone) unless_pooled(found);
    Mark& pooled = e_.mark("slot_pooled");
    if (f.padding != core::Padding::kNone && f.state.present()) {
      e_.mov(reg::rax, e_.at(reg::args, operand_offset(f.state.operand)));
      e_.test(reg::rax, reg::rax);
      e_.jnz(pooled);
    }
    if (f.padding != core::Padding::kNone) {
      padding_index(sequence, padded);
      if (f.state.present()) e_.jmp(found);
    }
    e_.bind(pooled);
    if (f.state.present()) emit_slot(c_, reg::slot, sequence, padded);
    e_.bind(found);
  }

  void padding_index(const Reg64& sequence, const Mark& padded) {
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

  // Leaves for `without` where the launch has no pool of states.
  void unless_pooled(const Mark& without) {
    if (!c_.facts.state.present()) {
      e_.jmp(without);
      return;
    }
    e_.mov(reg::rax, e_.at(reg::args, operand_offset(c_.facts.state.operand)));
    e_.test(reg::rax, reg::rax);
    e_.jz(without);
  }

  void for_heads(const std::function<void()>& body) {
    emit_for_heads(c_, [&] {
      const auto address = [&](int variable_at, int buffer, int bytes) {
        e_.imul(reg::rax, reg::group, bytes);
        e_.lea(reg::rax, e_.indexed(reg::work, reg::rax, 1, buffer));
        e_.mov(variable(variable_at), reg::rax);
      };
      address(at_.head_state, at_.state, at_.state_bytes);
      address(at_.head_pairs, at_.state_pairs, at_.state_pairs_bytes);
      body();
    });
  }

  void take_states() {
    const core::Facts& f = c_.facts;
    Mark& none = e_.mark("no_initial_state");
    Mark& ready = e_.mark("state_ready");
    if (f.state.present() && f.initial_states != core::InitialStates::kNone) {
      unless_pooled(none);
      if (f.initial_states == core::InitialStates::kFlagged) {
        e_.mov(reg::rax, e_.at(reg::args, operand_offset(f.flags_operand)));
        e_.test(reg::rax, reg::rax);
        e_.jz(none);
        e_.mov(reg::rcx, variable(at_.sequence));
        if (f.flag_dtype == core::DType::kInt32) {
          e_.mov(reg::eax, e_.indexed(reg::rax, reg::rcx, 4, 0, 32));
        } else {
          e_.movzx(reg::eax, e_.indexed(reg::rax, reg::rcx, 1, 0, 8));
        }
        e_.test(reg::eax, reg::eax);
        e_.jz(none);
      }
      for_heads([&] { emit_take_state(cc_); });
      e_.jmp(ready);
    }
    e_.bind(none);
    for_heads([&] { emit_zero_state(cc_); });
    e_.bind(ready);
  }

  void leave_states() {
    if (!c_.facts.state.present() || !c_.facts.final_states) return;
    Mark& none = e_.mark("no_final_state");
    unless_pooled(none);
    for_heads([&] { emit_leave_state(cc_); });
    e_.bind(none);
  }

  void chunks() {
    Mark& chunk = e_.mark("chunk");
    Mark& whole = e_.mark("whole_chunk");
    e_.bind(chunk);
    e_.mov(reg::tokens, variable(at_.left));
    e_.cmp(reg::tokens, kChunk);
    e_.jle(whole);
    e_.mov(reg::tokens, kChunk);
    e_.bind(whole);
    e_.lea(reg::rax, e_.at(reg::tokens, kBlock - 1));
    e_.shr(reg::rax, 5);
    e_.mov(variable(at_.blocks), reg::rax);
    emit_ahead_begin(cc_);
    emit_keys(cc_);
    for_heads([&] {
      emit_values(cc_);
      emit_solve(cc_);
      emit_apply(cc_);
      emit_leave_output(cc_);
    });
    e_.add(reg::row, reg::tokens);
    e_.mov(reg::rax, variable(at_.left));
    e_.sub(reg::rax, reg::tokens);
    e_.mov(variable(at_.left), reg::rax);
    e_.jnz(chunk);
  }

  ChunkContext& cc_;
  Context& c_;
  Emitter& e_;
  const Buffers& at_;
};

}  // namespace

void emit_chunk_delta(ChunkContext& cc) { Chunked(cc).emit(); }

}  // namespace gdn::cpu
