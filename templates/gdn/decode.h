// decode: one token of every row of the batch through the whole layer between the projections, in one launch.
//
//   operands  the projections' rows, conv weights, gate parameters, norm weight, conv windows and recurrent states
//             (both updated in place, by slot), slot index per row, out
//   rows      padding rows and rows whose slot is not in the pools: see row_fate in map.h
//   grid      x = rows, y = key heads; block (row, j) owns the channels of q_j, k_j and of the value heads that read
//             key head j, so no two blocks share a window or a state
#pragma once

#include "gdn/conv.h"
#include "gdn/delta.h"
#include "gdn/gates.h"
#include "gdn/quantise.h"

namespace gdn {

// Where convolved channels go: to shared memory, for the phases that follow.
struct ToShared {
  float* to;
  template <int kChannels>
  GDN_DEVICE void operator()(int channel, const float (&y)[kChannels]) const {
    GDN_UNROLL
    for (int i = 0; i < kChannels; ++i) to[channel + i] = y[i];
  }
};

template <class F>
GDN_DEVICE void decode(const Args& args) {
  const int row = block_row();
  const int key_head = block_head();
  const long long slot = slot_of<F>(args, row);
  const RowFate fate = row_fate<F>(args, slot);
  if (!fate.computed) {
    for (int g = 0; fate.filled && g < F::kGroup; ++g) {
      fill_output<F>(args, row, value_head<F>(key_head, g), fate.filler);
    }
    return;
  }

  using Shared = DeltaShared<F>;
  GDN_SHARED(Shared, shared);
  static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of a block");
  for (int first_head = 0; first_head < F::kGroup; first_head += Shared::kHeads) {
    const DeltaTurn turn{key_head, first_head, smaller(Shared::kHeads, F::kGroup - first_head)};
    Delta<F> delta(args, slot, turn);

    Deal<F::kThreads> deal;
    if (first_head == 0) {
      convolve_head<F, typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ>(
          args, row, slot, key_head, deal, ToShared{shared.q});
      convolve_head<F, typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK>(
          args, row, slot, key_head, deal, ToShared{shared.k});
    }
    for (int g = 0; g < turn.heads; ++g) {
      convolve_head<F, typename F::InputV, typename F::WeightV, typename F::BiasV, typename F::WindowV>(
          args, row, slot, value_head<F>(key_head, first_head + g), deal, ToShared{shared.v + g * F::kValueDim});
    }
    for (int g = 0; g < turn.heads; ++g) {
      fetch_gates<F>(args, row, value_head<F>(key_head, first_head + g), deal, shared.gates + g * F::kValueDim);
    }
    if constexpr (decays_by_channel<F>()) {
      for (int g = 0; g < turn.heads; ++g) {
        log_decays<F>(args, row, value_head<F>(key_head, first_head + g), deal,
                      DecaysToShared{shared.decay + g * F::kKeyDim});
      }
    }
    // The gates of heads go to the last threads: the deal of channels favours the first.
    for (int g = F::kThreads - 1 - thread_id(); g < turn.heads; g += F::kThreads) {
      const int head = value_head<F>(key_head, first_head + g);
      shared.beta[g] = beta_of<F>(args, row, head);
      if constexpr (!decays_by_channel<F>()) shared.decay[g] = exponential(log_decay_of<F>(args, row, head));
    }
    barrier();
    delta.run(shared);
    barrier();
    for (int g = wave_id(); g < turn.heads; g += F::kThreads / kWaveSize) {
      gated_norm<F>(args, row, value_head<F>(key_head, first_head + g), shared.o + g * F::kValueDim,
                    shared.gates + g * F::kValueDim);
    }
    if (first_head + Shared::kHeads < F::kGroup) barrier();  // the next turn overwrites them all
  }
}

}  // namespace gdn
