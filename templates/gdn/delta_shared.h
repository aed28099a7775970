// What a block's share of the gated delta rule is (see delta.h), and what it reads and leaves in shared memory.
#pragma once

#include "gdn/arrivals.h"
#include "gdn/gates.h"
#include "gdn/inbox.h"
#include "gdn/norm.h"
#include "gdn/state_store.h"

namespace gdn {

// The value heads that a block works on at a time: shared memory bounds them (any group is allowed), and only groups
// beyond 8 heads of 256 channels, 6 of them with decays by channel, need more than one turn.
constexpr int kTurnNumbers = 6144;  // the generator's block_limits.cpp has the same
template <class F>
GDN_HD constexpr int heads_at_once() {
  const int numbers = 3 * F::kValueDim + (decays_by_channel<F>() ? F::kKeyDim : 0);  // of a head: v, o, gates, decays
  return smaller(heads_of_part<F>(), larger(1, kTurnNumbers / numbers));
}

// The mailboxes of value heads whose states come to dynamic shared memory (F::kInbox), all of a block's at once.
template <class F, int kHeads, bool kInbox = F::kInbox != 0>
struct InboxShared {};
template <class F, int kHeads>
struct InboxShared<F, kHeads, true> {
  static_assert(kHeads == heads_of_part<F>(), "all value heads of a block take one turn");
  Mailbox states[kHeads];
};

// What the delta rule reads and leaves in shared memory, for heads_at_once<F>() value heads.
template <class F>
struct DeltaShared : InboxShared<F, heads_at_once<F>()> {
  static constexpr int kHeads = heads_at_once<F>();
  alignas(16) float q[F::kKeyDim];  // convolved, not yet normalised
  alignas(16) float k[F::kKeyDim];
  alignas(16) float v[kHeads * F::kValueDim];
  alignas(16) float o[kHeads * F::kValueDim];                           // rounded to rounding.o
  alignas(16) float gates[has_gates<F>() ? kHeads * F::kValueDim : 4];  // act(z), where the operation has a gated norm
  alignas(16) float decay[kHeads * decays_of_head<F>()];                // exp(g)
  float beta[kHeads];
  Mailbox gathered;  // where value channels are split over a cluster: o of all its blocks

  // The decay of a whole head; 1 where its key channels decay.
  GDN_DEVICE float head_decay(int head) const { return decays_by_channel<F>() ? 1.0f : decay[head]; }

  // The decay of one key channel; 1 where the head as a whole decays.
  GDN_DEVICE float channel_decay(int head, int channel) const {
    return decays_by_channel<F>() ? decay[head * decays_of_head<F>() + channel] : 1.0f;
  }
};

// What a block's share of a turn is: value channels first_value to first_value + values_of_part<F>() - 1 of its heads.
struct DeltaTurn {
  int key_head;
  int first_head;  // number in the group of the first head of this turn
  int heads;       // of this turn
  int first_value = 0;
  // Where value channels are split, o goes to a block of the cluster, or to memory (arrivals.h).
  int gatherer = 0;
  Elements<float> gathered = nullptr;
};

// Whether a block collects o of whole heads: only a norm asks for it.
template <class F>
GDN_HD constexpr bool gathers_o() {
  return F::kRowParts > 1 && normalises<F>();
}

// o of one value channel, to where the operation collects it.
template <class F>
GDN_DEVICE void put_o(DeltaShared<F>& shared, const DeltaTurn& turn, int head, int value_channel, float o) {
  float* const to = shared.o + head * F::kValueDim + value_channel;
  if constexpr (!gathers_o<F>()) {
    *to = rounded<typename F::RoundO>(o);
  } else if constexpr (meets_in_memory<F>()) {
    store_one<float>(turn.gathered + head * F::kValueDim + value_channel, rounded<typename F::RoundO>(o));
  } else {
    cluster_send(*to, shared.gathered, turn.gatherer, rounded<typename F::RoundO>(o));
  }
}

// A state with the key channel innermost: asks the L2 for what F::kAhead passes of `rows` rows behind the first pass
// will read of a block's share, while the block is still busy with what comes before the delta rule. A pass of rows
// that follow each other is one request where the target has such.
template <class F>
GDN_DEVICE void bring_passes_near(MapElements<typename F::State> state, const DeltaTurn& turn, int rows) {
  using State = typename F::State;
  constexpr int kInLine = 128 / static_cast<int>(sizeof(typename State::Element));
  constexpr int kLines = ceil_div(F::kKeyDim, kInLine), kValues = values_of_part<F>();
  if constexpr (F::kAhead > 0 && State::kInnerStride == 1 && State::kOuterStride == F::kKeyDim && kBringsRuns) {
    if (kValues % rows == 0) {
      if (thread_id() >= F::kAhead) return;
      const int row = rows * (1 + thread_id()), head = row / kValues;
      if (head >= turn.heads) return;
      bring_run_near(state + (State::base(value_head<F>(turn.key_head, turn.first_head + head)) +
                              (turn.first_value + row % kValues) * State::kOuterStride),
                     rows * F::kKeyDim * static_cast<int>(sizeof(typename State::Element)));
    }
  } else if constexpr (F::kAhead > 0 && State::kInnerStride == 1) {
    for (int i = thread_id(); i < F::kAhead * rows * kLines; i += F::kThreads) {
      const int row = rows + i / kLines, head = row / kValues;
      if (head >= turn.heads) return;
      bring_near(state + State::base(value_head<F>(turn.key_head, turn.first_head + head)) +
                 ((turn.first_value + row % kValues) * State::kOuterStride + i % kLines * kInLine));
    }
  }
}

}  // namespace gdn
