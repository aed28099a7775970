// chunk_delta by products of warps (mma.sync), for sm_80, sm_100a, sm_120a, and sizes that Hopper's warp groups do not
// take. With a workspace a launch is the kernels below, one after the other, as core/prefill.h lists them; without one
// it is the plain body of gdn/chunk_delta.h. What both do with a launch's sequences is written there.
//
//   prep      records of all chunks             x = chunk numbers * key heads; value heads where channels decay each
//                                                   at its own rate
//   one, two  all of it, 1 or 2 slices a block  x = sequences * value heads * blocks of a head
//
// Records are Hopper's (sm90/record.h), and so is what is computed and the fragments it is computed in.
#pragma once

#include "gdn/mma/chain.h"
#include "gdn/mma/prep.h"
#include "gdn/sm90/job.h"

// An entry point whose blocks share an SM with `blocks` - 1 others.
#if defined(GDN_ON_CUDA)
#define GDN_MMA_KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#else
#define GDN_MMA_KERNEL(threads, blocks) GDN_KERNEL(threads)
#endif

namespace gdn::mma {

template <class F>
GDN_DEVICE void chunk_prep(const Args& args) {
  sm90::prepare<F, HandedOver<F>, WarpPrep>(args, sequences_of<F>(args), workspace_of<F>(args), dynamic_shared());
}

// kMembers: 0 for a slice a block, 0 and 1 for two.
template <class F, int... kMembers>
GDN_DEVICE void chunk_chain(const Args& args) {
  constexpr int kSlices = sizeof...(kMembers);
  const Job<F> job(args, block_row(), ChainShape<F, kSlices>::kBlocksPerHead, kSlices, true);
  if (job.works) chain<F, kMembers...>(args, job.use, job.place, workspace_of<F>(args), dynamic_shared());
}

}  // namespace gdn::mma
