// The operation over chunks: items, sequences, chunks, value heads.
#include "cpu/chunk.h"

#include <algorithm>

#include "cpu/chunk_ahead.h"
#include "cpu/item.h"

namespace gdn::cpu {
namespace {

class Chunked {
 public:
  explicit Chunked(ChunkContext& cc)
      : cc_(cc), c_(cc.c), e_(cc.c.e), at_(cc.at), walk_(c_, at_.walk, pools(cc), cc.item_parts, cc.at.part) {}

  void emit() {
    const auto begin = [&] {
      if (cc_.tiles != nullptr) cc_.tiles->configure();
      zero_inverse();
      leave_triangle();
      emit_ahead_routine(cc_, cc_.heads_of_item() * products_of_apply(at_));
    };
    const auto sequence = [&] {
      take_states();
      if (cc_.projected != nullptr) emit_begin_histories(c_, walk_, cc_.projected->histories);
      walk_.for_chunks(kChunk, [&] { chunk(); }, [&] { leave(true); });
      if (c_.facts.final_states) leave(false);
    };
    walk_.emit({cc_.projected != nullptr ? &c_.facts.out : &c_.facts.out_o}, begin, sequence, [&] {
      if (cc_.tiles != nullptr) cc_.tiles->release();
    });
  }

 private:
  static std::vector<const core::Map*> pools(const ChunkContext& cc) {
    const core::Facts& f = cc.c.facts;
    if (cc.projected == nullptr) return {&f.state};
    return {&f.state, &f.window_q, &f.window_k, &f.window_v};
  }

  // What the sequence has come to, into the slot in reg::slot.
  void leave(bool snapshot) {
    leave_states();
    if (cc_.projected != nullptr) emit_leave_windows(c_, walk_, snapshot);
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

  void leave_triangle() {
    e_.vpxord(zmm(0), zmm(0), zmm(0));
    e_.vmovups(e_.at(reg::work, at_.lower + 64), zmm(0));
    e_.vpord(zmm(0), zmm(0), e_.constant_bits(0xffffffffu));
    e_.vmovups(e_.at(reg::work, at_.lower), zmm(0));
  }

  void for_heads(const std::function<void()>& body) {
    walk_.for_heads([&] {
      const auto address = [&](int variable_at, int buffer, int bytes) {
        e_.imul(reg::rax, reg::group, bytes);
        e_.lea(reg::rax, e_.indexed(reg::work, reg::rax, 1, buffer));
        e_.mov(walk_.variable(variable_at), reg::rax);
      };
      address(at_.head_state, at_.state, at_.state_bytes);
      address(at_.head_pairs, at_.state_pairs, at_.state_pairs_bytes);
      body();
    });
  }

  void take_states() {
    Mark& none = e_.mark("no_initial_state");
    Mark& ready = e_.mark("state_ready");
    if (c_.facts.state.present() && c_.facts.initial_states != core::InitialStates::kNone) {
      walk_.unless_initial(c_.facts.state, none);
      for_heads([&] { emit_take_state(cc_); });
      e_.jmp(ready);
    }
    e_.bind(none);
    for_heads([&] { emit_zero_state(cc_); });
    e_.bind(ready);
  }

  void leave_states() {
    if (!c_.facts.state.present()) return;
    Mark& none = e_.mark("no_final_state");
    walk_.unless_pooled(c_.facts.state, none);
    for_heads([&] { emit_leave_state(cc_); });
    e_.bind(none);
  }

  void chunk() {
    e_.lea(reg::rax, e_.at(reg::tokens, kBlock - 1));
    e_.shr(reg::rax, 5);
    e_.mov(walk_.variable(at_.blocks), reg::rax);
    emit_ahead_begin(cc_);
    emit_keys(cc_);
    for_heads([&] {
      if (c_.by_channel()) {
        emit_channel_values(cc_);
      } else {
        emit_values(cc_);
      }
      emit_solve(cc_);
      emit_apply(cc_);
      if (cc_.projected == nullptr) {
        emit_leave_output(cc_, c_.facts.out_o);
      } else if (c_.points_at_columns || !c_.facts.norm_w.present()) {
        emit_leave_output(cc_, c_.facts.out);
      } else {
        emit_norm_output(cc_);
      }
    });
  }

  ChunkContext& cc_;
  Context& c_;
  Emitter& e_;
  const Buffers& at_;
  SequenceWalk walk_;
};

}  // namespace

Projected::Projected(const core::Facts& facts, const Buffers& at)
    : convolved(static_cast<int>(at.size), std::max(facts.key_dim, facts.value_dim),
                facts.round_conv == core::DType::kBf16 ? core::DType::kBf16 : core::DType::kFp32),
      histories(facts, convolved.buffer + 4 * kChunk * convolved.width),
      size(histories.end) {}

void emit_chunk_delta(ChunkContext& cc) { Chunked(cc).emit(); }

}  // namespace gdn::cpu
