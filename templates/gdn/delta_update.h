// delta_update: the delta rule of one token on convolved q, k, v and computed gates; q and k are normalised, scaled and
// rounded here. States are updated in place, by slot. Padding rows, and rows whose slot is not in the pools, leave the
// states alone (row_fate in map.h). Grid: rows x key heads x parts, one dimension (split.h).
#pragma once

#include "gdn/delta.h"
#include "gdn/gates.h"

namespace gdn {

template <class F>
GDN_DEVICE void delta_update(const Args& args) {
  using Output = typename F::OutputO;
  static_assert(F::kRowParts == 1, "a part has whole value heads");
  const Share<F> share = Share<F>::of(block_number(), args.rows);
  const int row = share.row;
  const int key_head = share.key_head;
  const long long slot = slot_of<F>(args, row);
  const RowFate fate = row_fate<F>(args, slot);
  if (!fate.computed) {
    for (int g = share.first_head(); fate.filled && g < share.end_head(); ++g) {
      fill_head<F, Output>(part<Output>(args, row), value_head<F>(key_head, g), fate.filler);
    }
    return;
  }

  using Shared = DeltaShared<F>;
  GDN_SHARED(Shared, shared);
  static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of a block");
  for (int first_head = share.first_head(); first_head < share.end_head(); first_head += Shared::kHeads) {
    const DeltaTurn turn{key_head, first_head, smaller(Shared::kHeads, share.end_head() - first_head)};
    Delta<F> delta(args, slot, turn);

    if (first_head == share.first_head()) {
      fetch_head<F, typename F::InputQ>(part<typename F::InputQ>(args, row), key_head, shared.q);
      fetch_head<F, typename F::InputK>(part<typename F::InputK>(args, row), key_head, shared.k);
    }
    for (int g = 0; g < turn.heads; ++g) {
      fetch_head<F, typename F::InputV>(part<typename F::InputV>(args, row), value_head<F>(key_head, first_head + g),
                                        shared.v + g * F::kValueDim);
    }
    if constexpr (decays_by_channel<F>()) {
      for (int g = 0; g < turn.heads; ++g) {
        fetch_decays<F>(args, row, value_head<F>(key_head, first_head + g), shared.decay + g * F::kKeyDim);
      }
    }
    for (int g = F::kThreads - 1 - thread_id(); g < turn.heads; g += F::kThreads) {
      const int head = value_head<F>(key_head, first_head + g);
      shared.beta[g] = head_number<typename F::InputBeta>(part<typename F::InputBeta>(args, row), head);
      if constexpr (!decays_by_channel<F>()) {
        shared.decay[g] =
            decay_of_handover<F>(head_number<typename F::InputG>(part<typename F::InputG>(args, row), head));
      }
    }
    barrier();
    delta.run(shared);
    barrier();
    for (int g = 0; g < turn.heads; ++g) {
      push_head<F, Output>(part<Output>(args, row), value_head<F>(key_head, first_head + g),
                           shared.o + g * F::kValueDim);
    }
    if (first_head + Shared::kHeads < share.end_head()) barrier();  // the next turn overwrites v, o and the gates
  }
}

}  // namespace gdn
