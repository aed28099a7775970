// The state and the output of a value head between a chunk's buffers and their operands.
#include "cpu/chunk.h"
#include "cpu/chunk_rows.h"
#include "cpu/item.h"
#include "cpu/memory.h"

namespace gdn::cpu {
namespace {

using core::Map;

constexpr int kStripRow = 4 * kBlock;  // bytes
constexpr int kHalfStrip = 64;

std::int64_t element_bytes(const Map& map) { return static_cast<std::int64_t>(core::size_of(map.dtype)); }

// `count` vectors of zeros at r9 and behind it, four at a time.
void zero_vectors(Emitter& e, int count) {
  Mark& again = e.mark("zero_vectors");
  e.vpxord(zmm(0), zmm(0), zmm(0));
  e.mov(reg::ecx, count / 4);
  e.bind(again);
  for (int i = 0; i < 4; ++i) e.vmovups(e.at(reg::r9, 64 * i), zmm(0));
  e.add(reg::r9, 256);
  e.dec(reg::ecx);
  e.jnz(again);
}

// Rows of the state: one key channel, its value channels 16 at a time.
void for_rows(ChunkContext& cc, const std::function<void(int vector, const Vector16& place)>& body) {
  Context& c = cc.c;
  Emitter& e = c.e;
  const Map& state = c.facts.state;
  Mark& again = e.mark("state_row");
  emit_pointer(c, reg::r8, state, Row::kSlot);
  e.mov(reg::r9, e.at(reg::work, cc.at.head_state));
  e.mov(reg::ecx, c.facts.key_dim);
  e.bind(again);
  for (int i = 0; i < c.value_vectors(); ++i) {
    body(i, {reg::r8, i * static_cast<std::int64_t>(kLanes) * stride_bytes(state, state.outer_stride), state.dtype,
             state.outer_stride});
  }
  emit_advance(c, reg::r8, state.inner_stride * element_bytes(state));
  e.add(reg::r9, kStripRow);
  e.dec(reg::ecx);
  e.jnz(again);
}

// Whether value channels are rows of neighbouring key channels: then 16 x 16 of them move at a time, transposed.
bool keys_innermost(const Map& state) { return state.inner_stride == 1 && state.outer_stride != 1; }

// `body` once for each 16 value channels by 16 key channels of such a state, with r8 at the first of them in the slot
// and r9 in the strips. `body` may change rax.
void for_blocks(ChunkContext& cc, const std::function<void()>& body) {
  Context& c = cc.c;
  Emitter& e = c.e;
  const Map& state = c.facts.state;
  const Reg64 values = reg::rdx, keys = reg::rcx, to_next = reg::r11;
  const int strip = cc.at.key_dim * kStripRow;
  const std::int64_t row = kLanes * element_bytes(state);
  Mark& next_values = e.mark("state_values");
  Mark& next_keys = e.mark("state_keys");
  emit_pointer(c, reg::r8, state, Row::kSlot);
  e.mov(reg::r9, e.at(reg::work, cc.at.head_state));
  e.mov(to_next, kHalfStrip);
  e.mov(values, c.value_vectors());
  e.bind(next_values);
  e.mov(keys, c.key_vectors());
  e.bind(next_keys);
  body();
  e.add(reg::r8, static_cast<int>(row));
  e.add(reg::r9, kLanes * kStripRow);
  e.dec(keys);
  e.jnz(next_keys);
  // To the next 16 value channels, in the same strip's other half or the next strip's first.
  emit_advance(c, reg::r8, kLanes * state.outer_stride * element_bytes(state) - c.key_vectors() * row);
  e.sub(reg::r9, c.key_vectors() * kLanes * kStripRow);
  e.add(reg::r9, to_next);
  e.xor_(to_next, kHalfStrip ^ (strip - kHalfStrip));
  e.dec(values);
  e.jnz(next_values);
}

// A row of such a block in the slot.
Vector16 block_row(const Map& state, int row) {
  return {reg::r8, row * state.outer_stride * element_bytes(state), state.dtype, 1};
}

void take_blocks(ChunkContext& cc) {
  for_blocks(cc, [&] {
    emit_transpose(
        cc.c.e, [&](int i) { load(cc.c, i, block_row(cc.c.facts.state, i)); },
        [&](int i) { cc.c.e.vmovups(cc.c.e.at(reg::r9, i * kStripRow), zmm(0)); });
  });
}

void leave_blocks(ChunkContext& cc) {
  const Map& state = cc.c.facts.state;
  for_blocks(cc, [&] {
    emit_transpose(
        cc.c.e, [&](int i) { cc.c.e.vmovups(zmm(i), cc.c.e.at(reg::r9, i * kStripRow)); },
        [&](int i) {
          narrow(cc.c, 0, 0, state.dtype);
          store_raw(cc.c, block_row(state, i), 0);
        });
  });
}

}  // namespace

void emit_zero_state(ChunkContext& cc) {
  Emitter& e = cc.c.e;
  e.comment("no state yet");
  e.mov(reg::r9, e.at(reg::work, cc.at.head_state));
  zero_vectors(e, cc.at.state_bytes / 64);
  e.mov(reg::r9, e.at(reg::work, cc.at.head_pairs));
  zero_vectors(e, cc.at.state_pairs_bytes / 64);
}

void emit_take_state(ChunkContext& cc) {
  Emitter& e = cc.c.e;
  e.comment("the state from its slot");
  const bool padded = cc.at.key_dim != cc.c.facts.key_dim || cc.at.value_dim != cc.c.facts.value_dim;
  if (padded) emit_zero_state(cc);
  if (keys_innermost(cc.c.facts.state)) {
    take_blocks(cc);
  } else {
    for_rows(cc, [&](int vector, const Vector16& place) {
      load(cc.c, 0, place);
      e.vmovups(e.at(reg::r9, strip_offset(vector, cc.at.key_dim)), zmm(0));
    });
  }
  Mark& again = e.mark("state_pairs");
  emit_interleave(e);
  e.mov(reg::r8, e.at(reg::work, cc.at.head_state));
  e.mov(reg::r9, e.at(reg::work, cc.at.head_pairs));
  e.mov(reg::ecx, cc.at.strips() * cc.at.key_dim / 2);
  e.bind(again);
  for (int half = 0; half < 2; ++half) {
    e.vmovups(zmm(0), e.at(reg::r8, 64 * half));
    e.vmovups(zmm(1), e.at(reg::r8, kStripRow + 64 * half));
    emit_pair_up(e, 2, 0, 1);
    e.vmovups(e.at(reg::r9, 64 * half), zmm(2));
  }
  e.add(reg::r8, 2 * kStripRow);
  e.add(reg::r9, kStripRow);
  e.dec(reg::ecx);
  e.jnz(again);
}

void emit_leave_state(ChunkContext& cc) {
  Emitter& e = cc.c.e;
  e.comment("the state to its slot");
  if (keys_innermost(cc.c.facts.state)) {
    leave_blocks(cc);
    return;
  }
  for_rows(cc, [&](int vector, const Vector16& place) {
    e.vmovups(zmm(0), e.at(reg::r9, strip_offset(vector, cc.at.key_dim)));
    store(cc.c, place, 0);
  });
}

void emit_leave_output(ChunkContext& cc, const Map& out) {
  Context& c = cc.c;
  Emitter& e = c.e;
  e.comment("the chunk's output");
  Mark& again = e.mark("output_row");
  emit_pointer(c, reg::r8, out, Row::kToken);
  emit_row_step(cc.c, reg::r10, out);
  e.lea(reg::r9, e.at(reg::work, cc.at.o));
  e.mov(reg::rcx, reg::tokens);
  e.bind(again);
  for (int i = 0; i < c.value_vectors(); ++i) {
    e.vmovups(zmm(0), e.at(reg::r9, strip_offset(i, kChunk)));
    round_to(c, 0, c.facts.round_o);
    store(c,
          {reg::r8, i * static_cast<std::int64_t>(kLanes) * stride_bytes(out, out.inner_stride), out.dtype,
           out.inner_stride},
          0);
  }
  e.add(reg::r8, reg::r10);
  e.add(reg::r9, kStripRow);
  e.dec(reg::ecx);
  e.jnz(again);
}

}  // namespace gdn::cpu
