// What the parts of a kernel share while they are generated: the emitter, the facts, the roles of general registers
// and the stack frame.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/facts.h"
#include "cpu/emitter.h"

namespace gdn::cpu {

constexpr int kLanes = 16;        // fp32 values of a vector register
constexpr int kMaxHeadDim = 256;  // of K and V

// General registers with a role from the first instruction to the last. rax, rcx, rdx, rsi, r8 to r11 are free for a
// part to use and hold nothing from one part to the next; so do all vector and mask registers.
namespace reg {
inline const Reg64 args{7};       // rdi: const Args*
inline const Reg64 frame{4};      // rsp: Frame, 64-byte aligned
inline const Reg64 slot{3};       // rbx: of the row
inline const Reg64 end{5};        // rbp: the last item + 1
inline const Reg64 item{12};      // r12
inline const Reg64 group{13};     // r13: value head of the key head, inside for_heads
inline const Reg64 row{14};       // r14
inline const Reg64 key_head{15};  // r15
inline const Reg64 rax{0}, rcx{1}, rdx{2}, rsi{6}, r8{8}, r9{9}, r10{10}, r11{11};
inline const Reg32 eax{0}, ecx{1}, edx{2};
}  // namespace reg

// Byte offsets from reg::frame. Vectors are fp32.
struct Frame {
  // `parts`: of an item that several threads share. `scratch_memory`: what a thread's calls work in is at hand.
  explicit Frame(const core::Facts& facts, bool parts = false, bool scratch_memory = false) {
    q = take(4 * facts.key_dim);
    k = take(4 * facts.key_dim);
    v = take(4 * facts.value_dim);
    o = take(4 * facts.value_dim);
    const int heads = (facts.group + kLanes - 1) / kLanes * kLanes;
    for (int* const array : {&decay, &beta, &a, &dt_bias}) *array = take(4 * heads);
    if (facts.rule == core::Rule::kKda) {
      for (int* const array : {&decays, &decayed_k, &decayed_q}) *array = take(4 * facts.key_dim);
    }
    staged = take(64);
    key_query = take(4);
    old_stack = take(8);
    old_mxcsr = take(4);
    next_state = take(8);
    following = take(8);
    if (facts.out_scale.present()) groups_left = take(8);
    if (facts.state_scale.present()) scales = take(4 * facts.value_dim);
    if (facts.stochastic_state) chances = take((2 * std::max(facts.key_dim, facts.value_dim) + 127) / 128 * 128);
    if (facts.offsets_operand >= 0) rows = take(8 * kRowPointers);
    if (facts.rollback != core::Rollback::kNone) {
      scratch = take(8);
      for (int* const variable :
           {&sequence, &first, &tokens, &accepted, &window_offset, &state_slot, &token, &input, &result, &left}) {
        *variable = take(8);
      }
    }
    if (scratch_memory) scratch = take(8);
    if (parts) {
      scratch = take(8);
      for (int* const variable : {&unit, &column_part, &exchange, &ready_item}) *variable = take(8);
    }
    size = (size + 63) / 64 * 64;
  }

  // Room behind the rest; its offset.
  int add(int bytes) {
    const int offset = take(bytes);
    size = (size + 63) / 64 * 64;
    return offset;
  }

  int size = 0;
  int q = 0, k = 0;         // [key_dim], normalised and scaled when a part says so
  int v = 0, o = 0;         // [value_dim] of one value head
  int decay = 0, beta = 0;  // [group, up to whole vectors]: exp(g) and beta of the key head's value heads
  int a = 0, dt_bias = 0;   // [group, up to whole vectors]: inputs of the gates
  int decays = 0;           // kda: [key_dim], exp(g) of one value head
  int decayed_k = 0;        // kda: [key_dim], k times the decay of each channel; for q the same
  int decayed_q = 0;
  int staged = 0;       // one vector on its way to or from memory that no vector instruction reaches
  int key_query = 0;    // dot product of the normalised k and q
  int old_stack = 0;    // the caller's stack pointer
  int old_mxcsr = 0;    // the caller's floating-point control
  int groups_left = 0;  // of a quantised output, that a loop has yet to do
  int next_state = 0;   // address of the state that the next item begins with
  int following = 0;    // address of the state behind the one at hand, while it streams through
  int scales = 0;       // [value_dim]: of an 8-bit state's value channels
  int chances = 0;      // 16 random bits for each number of a state's row
  static constexpr int kRowPointers = 8;
  int rows = 0;  // sequences: addresses and steps of a convolution over rows
  // Several tokens of a sequence with roll-back, 8 bytes each (draft.h).
  int scratch = -1;           // address of the thread's scratch memory; no offset where nobody keeps it
  int sequence = 0;           // that the item is of
  int first = 0, tokens = 0;  // its rows
  int accepted = 0;           // tokens of its last launch
  int window_offset = 0;      // inputs between the window's front and those that the first token looks back at
  int state_slot = 0;         // of the state that it starts from
  int token = 0;              // at hand, from 0
  int input = 0, result = 0;  // addresses of a step of the convolution
  int left = 0;               // tokens, or records, that a loop has yet to do

  // Parts of an item, 8 bytes each (parts.h).
  int unit = 0;         // reg::key_head of the loop over parts
  int column_part = 0;  // of the value head
  int part_head = 0;    // value head that columns are of (prefill; decode has it in reg::group)
  int exchange = 0;     // address of what the item's parts hand over
  int ready_item = 0;   // whose q, k and gates lie in the frame

 private:
  int take(int bytes) {
    const int offset = size;
    size += (bytes + 63) / 64 * 64;
    return offset;
  }
};

struct Context {
  Emitter& e;
  const core::Facts& facts;
  Frame frame;
  int column_parts = 1;  // into which a value head's columns are cut for several threads (parts.h)
  // Facts are those of a part of the columns: what lies by them begins at frame.column_part's (chunk.h).
  bool points_at_columns = false;

  bool lies_by_columns(const core::Map& map) const {
    for (const core::Map* const known :
         {&facts.in_v, &facts.weight_v, &facts.bias_v, &facts.window_v, &facts.state, &facts.out_o, &facts.out}) {
      if (&map == known) return true;
    }
    return false;
  }

  int key_vectors() const { return facts.key_dim / kLanes; }
  bool by_channel() const { return facts.rule == core::Rule::kKda; }  // a decay for each key channel
  int value_vectors() const { return facts.value_dim / kLanes; }
};

inline Zmm zmm(int index) { return Zmm(index); }
inline Ymm ymm(int index) { return Ymm(index); }
inline Xmm xmm(int index) { return Xmm(index); }

}  // namespace gdn::cpu
