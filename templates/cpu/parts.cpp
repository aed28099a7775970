#include "cpu/parts.h"

#include "cpu/conv.h"
#include "cpu/delta.h"
#include "cpu/gates.h"
#include "cpu/item.h"
#include "cpu/norm.h"

namespace gdn::cpu {
namespace {

constexpr int kMostColumnParts = 4;  // more would read q and k more often than a part of a state is worth

int column_parts(const core::Facts& facts) {
  int parts = 1;
  while (parts < kMostColumnParts && facts.value_dim % (2 * parts * kLanes) == 0) parts *= 2;
  return parts;
}

std::int64_t counter_bytes(const core::Facts& facts) { return (4 * (1 + facts.group) + 63) / 64 * 64; }

Address variable(Context& c, int offset) { return c.e.at(reg::frame, offset); }

// From reg::item, which counts parts: frame.exchange, reg::key_head, reg::group and frame.column_part; rax is the item.
void find_part(Context& c, const ItemParts& parts) {
  c.e.mov(variable(c, c.frame.unit), reg::key_head);
  c.e.mov(reg::rax, reg::item);
  c.e.xor_(reg::edx, reg::edx);
  c.e.mov(reg::ecx, parts.count);
  c.e.div(reg::rcx);
  c.e.mov(reg::key_head, reg::rax);
  c.e.imul(reg::rcx, reg::row, c.facts.key_heads);
  c.e.sub(reg::key_head, reg::rcx);
  c.e.imul(reg::rcx, reg::rax, static_cast<int>(parts.exchange_bytes));
  c.e.add(reg::rcx, variable(c, c.frame.scratch));
  c.e.mov(variable(c, c.frame.exchange), reg::rcx);
  c.e.mov(reg::r8, reg::rax);
  c.e.mov(reg::rax, reg::rdx);
  c.e.xor_(reg::edx, reg::edx);
  c.e.mov(reg::ecx, c.column_parts);
  c.e.div(reg::rcx);
  c.e.mov(reg::group, reg::rax);
  c.e.mov(variable(c, c.frame.column_part), reg::rdx);
  c.e.mov(reg::rax, reg::r8);
}

// Goes on only where this part is the last of `count` that come here; `counter` is an address in r8.
void last_of(Context& c, int count, const Mark& others) {
  c.e.mov(reg::eax, 1);
  c.e.lock();
  c.e.xadd(c.e.at_bits(32, reg::r8), reg::eax);
  c.e.cmp(reg::eax, count - 1);
  c.e.jnz(others);
}

// The columns of o between the frame and the exchange memory.
void hand_over_o(Context& c, std::int64_t counters) {
  const int columns = c.facts.value_dim / c.column_parts;
  c.e.mov(reg::r8, variable(c, c.frame.exchange));
  c.e.imul(reg::rax, reg::group, 4 * c.facts.value_dim);
  c.e.add(reg::r8, reg::rax);
  c.e.imul(reg::rax, variable(c, c.frame.column_part), 4 * columns);
  c.e.add(reg::r8, reg::rax);
  c.e.lea(reg::rdx, c.e.indexed(reg::frame, reg::rax, 1));
  for (int i = 0; i < columns / kLanes; ++i) {
    c.e.vmovaps(zmm(0), c.e.at(reg::rdx, c.frame.o + 64 * i));
    c.e.vmovaps(c.e.at(reg::r8, counters + 64 * i), zmm(0));
  }
}

void take_o(Context& c, std::int64_t counters) {
  c.e.mov(reg::r8, variable(c, c.frame.exchange));
  c.e.imul(reg::rax, reg::group, 4 * c.facts.value_dim);
  c.e.add(reg::r8, reg::rax);
  for (int i = 0; i < c.value_vectors(); ++i) {
    c.e.vmovaps(zmm(0), c.e.at(reg::r8, counters + 64 * i));
    c.e.vmovaps(c.e.at(reg::frame, c.frame.o + 64 * i), zmm(0));
  }
}

}  // namespace

ItemParts parts_of(const core::Facts& facts) {
  ItemParts parts;
  parts.count = facts.group * column_parts(facts);
  parts.per_mille = 1000 / parts.count;
  parts.counter_bytes = counter_bytes(facts);
  parts.exchange_bytes = parts.counter_bytes;
  if (facts.norm_w.present()) parts.exchange_bytes += std::int64_t{4} * facts.group * facts.value_dim;
  return parts;
}

void emit_decode_parts(Context& c) {
  const core::Facts& f = c.facts;
  const ItemParts parts = parts_of(f);
  c.column_parts = parts.count / f.group;
  const std::int64_t counters = parts.counter_bytes;
  Mark& padded = c.e.mark("padded");
  Mark& done = c.e.mark("part_done");
  emit_item_loop(
      c, f.key_heads * parts.count,
      [&](const Mark&) {
        find_part(c, parts);
        Mark& ready = c.e.mark("ready");
        c.e.mov(reg::r8, reg::rax);
        emit_slot(c, reg::slot, reg::row, padded);
        c.e.cmp(reg::r8, variable(c, c.frame.ready_item));
        c.e.jz(ready);
        c.e.mov(variable(c, c.frame.ready_item), reg::r8);
        emit_conv(c, conv_q(f), c.frame.q, WindowMoves::kLater);
        emit_conv(c, conv_k(f), c.frame.k, WindowMoves::kLater);
        emit_qk_norm(c, c.frame.q, f.q_scale);
        emit_qk_norm(c, c.frame.k, f.k_scale);
        emit_key_query(c);
        emit_gates(c, core::Domain::kExp);
        c.e.bind(ready);
        emit_conv_columns(c, conv_v(f), c.frame.v);
        if (c.by_channel()) emit_channel_gates(c, core::Domain::kExp);
        emit_delta_columns(c);

        Mark& head_goes_on = c.e.mark("head_goes_on");
        if (!f.norm_w.present()) {
          emit_output_columns(c);
        } else {
          if (c.column_parts > 1) {
            hand_over_o(c, counters);
            c.e.mov(reg::r8, variable(c, c.frame.exchange));
            c.e.lea(reg::r8, c.e.indexed(reg::r8, reg::group, 4, 4));
            last_of(c, c.column_parts, head_goes_on);
            take_o(c, counters);
          }
          emit_gated_norm(c);
        }
        c.e.bind(head_goes_on);
        c.e.mov(reg::r8, variable(c, c.frame.exchange));
        last_of(c, parts.count, done);
        emit_window_shift(c, conv_q(f));
        emit_window_shift(c, conv_k(f));
        c.e.bind(done);
        c.e.mov(reg::key_head, variable(c, c.frame.unit));
      },
      [&](const Mark&) {
        c.e.bind(padded);
        if (f.padded_output == core::PaddedOutput::kZero) {
          // By the part with the head's first columns.
          c.e.mov(reg::rax, variable(c, c.frame.column_part));
          c.e.test(reg::rax, reg::rax);
          c.e.jnz(done);
          emit_zero_head(c, f.out);
        }
        c.e.jmp(done);
      });
}

}  // namespace gdn::cpu
