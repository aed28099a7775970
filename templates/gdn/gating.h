// gating: g and beta of every value head from the rows b and a; a kda layer has a g for each of a head's key channels.
// g leaves in the domain that the spec names. Needs no slots: every row of the batch is computed. Grid: x = rows, y =
// key heads.
#pragma once

#include "gdn/gates.h"

namespace gdn {

// Where the logarithms of a head's decays go: to a head of the output.
template <class F>
struct DecaysToOutput {
  using G = typename F::OutputG;
  MapElements<G> to;
  template <int kChannels>
  GDN_DEVICE void operator()(int channel, const float (&g)[kChannels]) const {
    float out[kChannels];
    GDN_UNROLL
    for (int i = 0; i < kChannels; ++i) out[i] = handover_of_log_decay<F>(g[i]);
    if constexpr (G::kInnerStride == 1) {
      store_run<typename G::Element, kChannels, smaller(kChannels, inner_width<G>())>(to + channel, out);
    } else {
      GDN_UNROLL
      for (int i = 0; i < kChannels; ++i) store_one<typename G::Element>(to + (channel + i) * G::kInnerStride, out[i]);
    }
  }
};

template <class F>
GDN_DEVICE void gating(const Args& args) {
  using G = typename F::OutputG;
  using Beta = typename F::OutputBeta;
  const int row = block_row();
  if constexpr (decays_by_channel<F>()) {
    Deal<F::kThreads> deal;
    for (int g = 0; g < F::kGroup; ++g) {
      const int head = value_head<F>(block_head(), g);
      log_decays<F>(args, row, head, deal, DecaysToOutput<F>{part<G>(args, row) + G::base(head)});
    }
  }
  for (int g = thread_id(); g < F::kGroup; g += F::kThreads) {
    const int head = value_head<F>(block_head(), g);
    if constexpr (!decays_by_channel<F>()) {
      store_one<typename G::Element>(part<G>(args, row) + G::base(head),
                                     handover_of_log_decay<F>(log_decay_of<F>(args, row, head)));
    }
    store_one<typename Beta::Element>(part<Beta>(args, row) + Beta::base(head), beta_of<F>(args, row, head));
  }
}

}  // namespace gdn
