// Where a block of a launch with a workspace works, out of the launch's arguments.
#pragma once

#include "gdn/chunk_delta.h"
#include "gdn/quantise.h"
#include "gdn/sm90/pieces.h"
#include "gdn/sm90/slice.h"

namespace gdn::sm90 {

template <class F>
GDN_DEVICE Sequences<typename F::Offset> sequences_of(const Args& args) {
  return {to_global<typename F::Offset>(args.operand[F::kOffsetsOperand]), args.sequences, args.rows};
}

template <class F>
GDN_DEVICE Global<char> workspace_of(const Args& args) {
  return to_global<char>(args.operand[F::kWorkspaceOperand]);
}

// Where a block works, and whether it does: not for an empty sequence, nor for one whose fate is another, whose rows
// the block with `fills` then fills.
template <class F>
struct Job {
  Place place;
  SlotUse use;
  bool works;

  GDN_DEVICE Job(const Args& args, int block, int blocks_of_head, int slices, bool fills) {
    using State = typename F::State;
    const int of_sequence = F::kValueHeads * blocks_of_head, sequence = block / of_sequence;
    place = sequence_place<F>(args, sequences_of<F>(args), sequence, block % of_sequence / blocks_of_head,
                              block % blocks_of_head * slices);
    const bool pooled = has_pool<State>(args);
    const long long slot = sequence_slot<F>(args, sequence);
    const RowFate fate = sequence_fate<F>(args, slot, pooled || (F::kInPrefill && has_pool<typename F::WindowQ>(args)));
    use = {slot, pooled && has_initial_state<F>(args, sequence), pooled && F::kFinalStates};
    works = place.tokens > 0 && fate.computed;
    if (fate.computed || !fate.filled || !fills || place.slice != 0) return;
    for (long long row = place.token; row < place.token + place.tokens; ++row) {
      if constexpr (F::kInPrefill) {
        fill_output<F>(args, static_cast<int>(row), place.head, fate.filler);
      } else {
        fill_head<F, typename F::OutputO>(part<typename F::OutputO>(args, row), place.head, fate.filler);
      }
    }
  }
};

}  // namespace gdn::sm90
