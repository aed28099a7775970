// The sequences of a launch of speculative decoding: which rows and slots are whose, and where a state begins.
//
// A sequence has up to F::kTokens rows, from cu_seqlens[i] to before cu_seqlens[i + 1]. `accepted` says how many tokens
// of its last launch count; what a rejected token did is undone by where this launch starts from:
//
//   slots         the state in the slot of the last accepted token, the window accepted - 1 inputs on
//   intermediate  the state and the window as they were committed
//   replay        the state in the slot with the first `accepted` records applied, the window `accepted` inputs on
#pragma once

#include "gdn/map.h"

namespace gdn {

// Whether a block asks for the slots of all tokens of a sequence together. Parts of a key head have no registers left
// for them.
template <class F>
GDN_HD constexpr bool slots_at_once() {
  return F::kRollback == Rollback::kSlots && F::kHeadParts == 1;
}

template <class F>
struct Draft {
  int first, tokens;  // rows [first, first + tokens)
  int accepted;       // tokens, the guaranteed one included; 0 to F::kTokens
  long long slot;     // of the window, and of the state unless each token has its own
  RowFate fate;
  long long own[slots_at_once<F>() ? F::kTokens : 1];  // slots of the tokens' states, or of the first

  // Inputs between the front of the window and those that the first token looks back at.
  GDN_DEVICE int window_offset() const {
    if constexpr (F::kRollback == Rollback::kSlots) {
      return accepted > 0 ? accepted - 1 : 0;
    } else if constexpr (F::kRollback == Rollback::kReplay || F::kOffsetsOperand < 0) {
      return accepted;
    } else {
      return 0;
    }
  }
};

// The slot of a sequence's `step`-th token; all tokens have that of step 0 unless the scheme gives each its own.
template <class F>
GDN_DEVICE long long slot_of_step(const Args& args, int sequence, int step) {
  return index_at<typename F::Slot>(args, F::kSlotsOperand, sequence * args.stride[F::kSlotsOperand] + step);
}

// Accepted tokens, never below 0: a row that has none starts from where a sequence begins, not from an index of -1.
template <class F>
GDN_DEVICE long long accepted_of(const Args& args, int sequence) {
  if constexpr (F::kAcceptedOperand < 0) {
    return 0;
  } else {
    const long long counted = index_at<typename F::Accepted>(args, F::kAcceptedOperand, sequence);
    const long long tokens = F::kCounts == Counts::kDrafts ? counted + 1 : counted;
    return tokens < 0 ? 0 : tokens;
  }
}

// Whether a slot is one of the pools'.
GDN_DEVICE bool in_pools(const Args& args, long long slot) { return slot >= 0 && slot < args.slots; }

// What becomes of a sequence: as row_fate says of rows. More tokens, or more accepted ones, than the spec allows, and a
// token whose slot is not in the pools, are the caller's mistakes too.
template <class F>
GDN_DEVICE Draft<F> draft_of(const Args& args, int sequence) {
  Draft<F> draft;
  // All slots ahead of the first question, so that they and what follows are one wait.
  GDN_UNROLL
  for (int step = 0; step < (slots_at_once<F>() ? F::kTokens : 1); ++step) {
    draft.own[step] = slot_of_step<F>(args, sequence, step);
  }
  draft.slot = draft.own[0];
  draft.fate = row_fate<F>(args, draft.slot);
  bool mistaken = false;
  draft.first = sequence;
  draft.tokens = 0;
  if constexpr (F::kOffsetsOperand >= 0) {
    const long long begin = index_at<typename F::Offset>(args, F::kOffsetsOperand, sequence);
    const long long end = index_at<typename F::Offset>(args, F::kOffsetsOperand, sequence + 1);
    const long long first = begin < 0 ? 0 : begin > args.rows ? args.rows : begin;
    const long long behind = end < first ? first : end > args.rows ? args.rows : end;
    mistaken = begin != first || end != behind || end - begin > F::kTokens;
    draft.first = static_cast<int>(first);
    draft.tokens = static_cast<int>(behind - first);
  }
  const long long accepted = accepted_of<F>(args, sequence);
  mistaken = mistaken || accepted > F::kTokens;
  draft.accepted = mistaken ? 0 : static_cast<int>(accepted);
  if constexpr (F::kRollback == Rollback::kSlots) {
    GDN_UNROLL
    for (int step = 1; step < F::kTokens; ++step) {
      // Asked without conditions: a load is put behind one where all that it is for is.
      const bool used = step < draft.tokens || step + 1 == draft.accepted;
      if constexpr (slots_at_once<F>()) {
        const bool outside = !in_pools(args, draft.own[step]);
        mistaken = mistaken | (used & outside);
      } else {
        mistaken = mistaken || (used && !in_pools(args, slot_of_step<F>(args, sequence, step)));
      }
    }
  }
  if (mistaken && draft.fate.computed) draft.fate = {false, true, float_of(0x7fc00000u)};
  return draft;
}

// The slot of the state that a sequence starts from.
template <class F>
GDN_DEVICE long long initial_slot(const Args& args, int sequence, const Draft<F>& draft) {
  if constexpr (slots_at_once<F>()) {
    long long slot = draft.slot;
    GDN_UNROLL
    for (int step = 1; step < F::kTokens; ++step) slot = step + 1 == draft.accepted ? draft.own[step] : slot;
    return slot;
  } else if constexpr (F::kRollback == Rollback::kSlots) {
    return slot_of_step<F>(args, sequence, draft.accepted > 0 ? draft.accepted - 1 : 0);
  } else {
    return draft.slot;
  }
}

// A number of each of the first `tokens` tokens, kTapStride apart in M, to `to`, kStride apart. The loads go out
// together: one wait for all tokens.
template <class F, class M, int kStride>
GDN_DEVICE void fetch_steps(MapElements<M> from, int tokens, float* to) {
  float x[F::kTokens];
  GDN_UNROLL
  for (int t = 0; t < F::kTokens; ++t)
    x[t] = t < tokens ? load_one<typename M::Element>(from + t * M::kTapStride) : 0.0f;
  GDN_UNROLL
  for (int t = 0; t < F::kTokens; ++t) to[t * kStride] = x[t];
}

}  // namespace gdn
