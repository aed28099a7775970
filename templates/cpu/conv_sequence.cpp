#include "cpu/conv_sequence.h"

#include "cpu/copy.h"
#include "cpu/item.h"

namespace gdn::cpu {
namespace {

// Rows at a time: as many as keep the pages of their inputs and outputs in reach of a processor's first translations.
constexpr int kRows = 64;

// One part of the chunk's tokens from one operand to another.
void emit_copy_rows(Context& c, const core::Map& to, const core::Map& from) {
  const Reg64 left = reg::rdx;
  Mark& again = c.e.mark("copied_row");
  c.e.mov(left, reg::tokens);
  c.e.bind(again);
  emit_copy_part(c, to, from);
  c.e.inc(reg::row);
  c.e.dec(left);
  c.e.jnz(again);
  c.e.sub(reg::row, reg::tokens);
}

}  // namespace

Histories::Histories(const core::Facts& facts, int first) : end(first) {
  const auto take = [&](const core::Map& input, int heads) {
    HeadPlace place;
    place.buffer = end;
    place.group_bytes = heads > 1 ? history_bytes(facts, input) : 0;
    end += heads * history_bytes(facts, input);
    return place;
  };
  q = take(facts.in_q, 1);
  k = take(facts.in_k, 1);
  v = take(facts.in_v, facts.group);
}

void emit_begin_histories(Context& c, const SequenceWalk& walk, const Histories& at) {
  emit_begin_history(c, walk, conv_q(c.facts), at.q);
  emit_begin_history(c, walk, conv_k(c.facts), at.k);
  walk.for_heads([&] { emit_begin_history(c, walk, conv_v(c.facts), at.v); });
}

void emit_leave_windows(Context& c, const SequenceWalk& walk, bool snapshot) {
  if (snapshot || !walk.in_parts()) {
    Mark& others = c.e.mark("windows_of_keys_left");
    walk.unless_first_part(others);
    emit_leave_window(c, walk, conv_q(c.facts));
    emit_leave_window(c, walk, conv_k(c.facts));
    c.e.bind(others);
  }
  walk.for_heads([&] { emit_leave_window(c, walk, conv_v(c.facts)); });
}

void emit_last_windows(Context& c) {
  const core::Facts& f = c.facts;
  const SequenceWalk walk(c, SequencePlaces::from(0), {&f.state, &f.window_q, &f.window_k, &f.window_v});
  const auto sequence = [&] {
    c.e.add(reg::row, walk.variable(walk.places().left));
    emit_leave_window(c, walk, conv_q(f));
    emit_leave_window(c, walk, conv_k(f));
  };
  walk.emit({}, [] {}, sequence, [] {});
}

void emit_conv_prefill(Context& c, const ConvPlaces& at) {
  const core::Facts& f = c.facts;
  const SequenceWalk walk(c, at.walk, {&f.window_q, &f.window_k, &f.window_v});
  std::vector<const core::Map*> outputs = {&f.out_q, &f.out_k, &f.out_v};
  if (f.out_z.present()) outputs.push_back(&f.out_z);
  const auto sequence = [&] {
    emit_begin_histories(c, walk, at.histories);
    const auto chunk = [&] {
      emit_conv_rows(c, conv_q(f), at.histories.q, f.out_q);
      emit_conv_rows(c, conv_k(f), at.histories.k, f.out_k);
      emit_for_heads(c, [&] {
        emit_conv_rows(c, conv_v(f), at.histories.v, f.out_v);
        if (f.out_z.present()) emit_copy_rows(c, f.out_z, f.in_z);
      });
    };
    walk.for_chunks(kRows, chunk, [&] { emit_leave_windows(c, walk, true); });
    if (f.final_states) emit_leave_windows(c, walk, false);
  };
  walk.emit(outputs, [] {}, sequence, [] {});
}

}  // namespace gdn::cpu
