// gating: g and beta of every value head from the rows b and a. g leaves in the domain that the spec names. Needs no
// slots: every row of the batch is computed. Grid: x = rows, y = key heads.
#pragma once

#include "gdn/gates.h"

namespace gdn {

template <class F>
GDN_DEVICE void gating(const Args& args) {
  using G = typename F::OutputG;
  using Beta = typename F::OutputBeta;
  const int row = block_row();
  for (int g = thread_id(); g < F::kGroup; g += F::kThreads) {
    const int head = value_head<F>(block_head(), g);
    store_one<typename G::Element>(part<G>(args, row) + G::base(head),
                                   handover_of_log_decay<F>(log_decay_of<F>(args, row, head)));
    store_one<typename Beta::Element>(part<Beta>(args, row) + Beta::base(head), beta_of<F>(args, row, head));
  }
}

}  // namespace gdn
