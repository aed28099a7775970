// prefill by products of warps: sm90/prefill.h with the kernels of mma/chunk_delta.h, of which there are two.
#pragma once

#include "gdn/mma/chunk_delta.h"
#include "gdn/sm90/projected.h"

namespace gdn::mma {

template <class F>
GDN_DEVICE void prefill_prep(const Args& args) {
  using G = InPrefill<F>;
  sm90::prepare<G, Projected<G>, WarpPrep>(args, sequences_of<F>(args), workspace_of<F>(args), dynamic_shared());
}

template <class F, int... kMembers>
GDN_DEVICE void prefill_chain(const Args& args) {
  chunk_chain<InPrefill<F>, kMembers...>(args);
}

}  // namespace gdn::mma
