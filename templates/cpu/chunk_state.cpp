// The state and the output of a value head between a chunk's buffers and their operands.
#include "cpu/chunk.h"
#include "cpu/chunk_rows.h"
#include "cpu/item.h"
#include "cpu/memory.h"

namespace gdn::cpu {
namespace {

using core::Map;

constexpr int kStripRow = 4 * kBlock;  // bytes

// Where vector `index` of a row lies in strips of `rows` rows.
int in_strip(int index, int rows) { return index / 2 * rows * kStripRow + index % 2 * 64; }

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
  for_rows(cc, [&](int vector, const Vector16& place) {
    load(cc.c, 0, place);
    e.vmovups(e.at(reg::r9, in_strip(vector, cc.at.key_dim)), zmm(0));
  });
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
  for_rows(cc, [&](int vector, const Vector16& place) {
    e.vmovups(zmm(0), e.at(reg::r9, in_strip(vector, cc.at.key_dim)));
    store(cc.c, place, 0);
  });
}

void emit_leave_output(ChunkContext& cc) {
  Context& c = cc.c;
  Emitter& e = c.e;
  const Map& out = c.facts.out_o;
  e.comment("the chunk's output");
  Mark& again = e.mark("output_row");
  emit_pointer(c, reg::r8, out, Row::kToken);
  emit_row_step(cc.c, reg::r10, out);
  e.lea(reg::r9, e.at(reg::work, cc.at.o));
  e.mov(reg::rcx, reg::tokens);
  e.bind(again);
  for (int i = 0; i < c.value_vectors(); ++i) {
    e.vmovups(zmm(0), e.at(reg::r9, in_strip(i, kChunk)));
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
