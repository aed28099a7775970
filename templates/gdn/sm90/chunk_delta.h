// chunk_delta on Hopper. With a workspace a launch is the kernels below, one after the other, as core/prefill.h lists
// them; without one it is the plain body of gdn/chunk_delta.h. What both do with a launch's
// sequences is written there.
//
//   prep      records of all chunks             x = chunk numbers * key heads; value heads where channels decay each
//                                                   at its own rate
//   one, two  all of it, 1 or 2 slices a block  x = sequences * value heads * blocks of a head
//   pair      all of it, two blocks a slice     x = 2 * sequences * value heads * slices of a head
//   carry     ends of segments                  x = sequences * value heads, y = pairs of slices of V of all segments
//   but
//                                                   the last, then of K of all but the first and the last
//   combine   first states of segments          x = sequences * value heads, y = groups of rows
//   segment   all of it from those              x = sequences * value heads * slices of a head, y = segments
//
// The workspace's stride is the number of segments. Records come first in it, then the ends.
#pragma once

#include "gdn/sm90/job.h"
#include "gdn/sm90/pair.h"
#include "gdn/sm90/prep_channels.h"
#include "gdn/sm90/segments.h"

// An entry point whose blocks share an SM with `blocks` - 1 others; of a cluster, with `cluster` blocks that start
// together.
#if defined(GDN_ON_CUDA)
#define GDN_SM90_KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define GDN_SM90_CLUSTER(threads, blocks, cluster) \
  extern "C" __global__ void __cluster_dims__(cluster, 1, 1) __launch_bounds__(threads, blocks)
#else
#define GDN_SM90_KERNEL(threads, blocks) GDN_KERNEL(threads)
#define GDN_SM90_CLUSTER(threads, blocks, cluster) GDN_KERNEL(threads)
#endif

namespace gdn::sm90 {

template <class F>
GDN_DEVICE Cut cut_of(const Args& args) {
  const long long records = chunk_numbers(args.rows, args.sequences + snapshot_count<F>(args)) * Record<F>::kBytes;
  return {static_cast<int>(args.stride[F::kWorkspaceOperand]),
          reinterpret_cast<Global<float>>(workspace_of<F>(args) + records)};
}

template <class F>
GDN_DEVICE void chunk_prep(const Args& args) {
  prepare<F, HandedOver<F>>(args, sequences_of<F>(args), workspace_of<F>(args), dynamic_shared());
}

template <class F, int kSlices>
GDN_DEVICE void chunk_chain(const Args& args) {
  const Job<F> job(args, block_row(), ChainShape<F, kSlices>::kBlocksPerHead, kSlices, true);
  if (!job.works) return wait_for_previous_grid();  // a grid is not done before the one that it follows
  chain<F, kSlices>(args, job.use, job.place, workspace_of<F>(args), dynamic_shared());
}

template <class F>
GDN_DEVICE void chunk_pair(const Args& args) {
  const Job<F> job(args, block_row() / 2, ceil_div(F::kValueDim, 64), 1, block_row() % 2 == 0);
  if (!job.works) return wait_for_previous_grid();
  pair<F>(args, job.use, job.place, workspace_of<F>(args), dynamic_shared());
}

template <class F>
GDN_DEVICE void chunk_carry(const Args& args) {
  constexpr int kValuePairs = F::kValueDim / 128, kKeyPairs = F::kKeyDim / 128;
  const Cut cut = cut_of<F>(args);
  const int values = kValuePairs * (cut.segments - 1), number = block_head();
  const bool transition = number >= values;
  const int segment = transition ? 1 + (number - values) / kKeyPairs : number / kValuePairs;
  Job<F> job(args, block_row(), 1, 1, false);
  job.place.slice = 2 * (transition ? (number - values) % kKeyPairs : number % kValuePairs);
  if (!job.works) return;
  carry<F>(args, job.use, job.place, cut, segment, transition, workspace_of<F>(args), dynamic_shared());
}

template <class F>
GDN_DEVICE void chunk_combine(const Args& args) {
  const Job<F> job(args, block_row(), 1, 1, false);
  if (!job.works) return;
  combine<F>(cut_of<F>(args), job.place.sequence, job.place.head, block_head() * kCombineRows, dynamic_shared());
}

template <class F>
GDN_DEVICE void chunk_segment(const Args& args) {
  const Job<F> job(args, block_row(), ChainShape<F, 1>::kBlocksPerHead, 1, block_head() == 0);
  if (!job.works) return;
  chain_segment<F, 1>(args, job.use, job.place, cut_of<F>(args), block_head(), workspace_of<F>(args), dynamic_shared());
}

}  // namespace gdn::sm90
