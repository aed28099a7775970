// A block's states in shared memory, for decode: all of them asked for at once, as they are in device memory, and read
// there in place of registers (the plan's choice inbox).
#pragma once

#include "gdn/delta_shared.h"

namespace gdn {

template <class F>
class StateInbox {
  using State = typename F::State;
  using Element = typename State::Element;
  static constexpr int kOfHead = F::kKeyDim * F::kValueDim;  // numbers
  static constexpr int kRow = State::kInnerStride == 1 ? F::kKeyDim : F::kValueDim;
  static_assert(F::kInbox == 0 ||
                    (F::kRowParts == 1 && !scaled_state<F>() && State::kInnerStride * State::kOuterStride == kRow),
                "whole heads, each a run of whole rows, and no scales beside them");

 public:
  // All threads, before a barrier ahead of wait(); of a block's only turn. `state`: of the slot.
  GDN_DEVICE static void ask(Elements<Element> state, const DeltaTurn& turn, DeltaShared<F>& shared) {
    if (thread_id() != F::kThreads - kWaveSize) return;  // one of the last, which convolve least
    constexpr int kBytes = kOfHead * static_cast<int>(sizeof(Element));
    for (int head = 0; head < turn.heads; ++head) mailbox_open(shared.states[head], kBytes);
    for (int head = 0; head < turn.heads; ++head) {
      bulk_fetch(place(head, 0), state + State::base(value_head<F>(turn.key_head, turn.first_head + head)), kBytes,
                 shared.states[head]);
    }
  }
  GDN_DEVICE static void wait(DeltaShared<F>& shared, int head) { mailbox_wait(shared.states[head]); }

  // kBytes bytes from a head's `number`-th number on, a multiple of theirs.
  template <int kBytes>
  GDN_DEVICE static Raw<kBytes> take(int head, int number) {
    const auto* const words = static_cast<const unsigned*>(__builtin_assume_aligned(place(head, number), kBytes));
    Raw<kBytes> raw;
    GDN_UNROLL
    for (int i = 0; i < Raw<kBytes>::kWords; ++i) raw.word[i] = words[i];
    return raw;
  }

 private:
  GDN_DEVICE static Element* place(int head, int number) {
    return reinterpret_cast<Element*>(dynamic_shared()) + (head * kOfHead + number);
  }
};

}  // namespace gdn
