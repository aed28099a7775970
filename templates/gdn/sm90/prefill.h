// prefill on Hopper. With a workspace a launch is the kernels of sm90/chunk_delta.h over numbers that the first of them
// makes of the projections' rows, and the stages of gdn/prefill.h behind them; without one it is the plain body.
//
//   prep     of a chunk and key head: q and k through the convolution to the chunk's record, gates; v of its value
//            heads through the convolution to rows of `out`, or, where that can't hold them (F::kRowsInOut), of the
//            workspace
//   chain    as in chunk_delta, v from those rows and o, rounded to rounding.o, in their place: a slice of a chunk has
//            read its v before it writes its o
//   windows  those of snapshots and the last ones: prep, which reads the first ones, has ended when the chain's blocks
//            have learned of it, and they may begin
//   norm     o becomes out
//
// On programmatic edges from prep on, each kernel says when the next one's blocks may begin and waits for what it needs
// of those before it. None is done before the one ahead of it, so that a plain edge behind the last is one behind all.
//
// The workspace: if `out` can't hold them, rows of v, later o, [value head][value channel] in 16 bits; then what
// chunk_delta has in it.
#pragma once

#include "gdn/sm90/chunk_delta.h"
#include "gdn/sm90/projected.h"

namespace gdn::sm90 {

template <class F>
GDN_DEVICE void prefill_prep(const Args& args) {
  using G = InPrefill<F>;
  prepare<G, Projected<G>>(args, sequences_of<F>(args), workspace_of<F>(args), dynamic_shared());
}

}  // namespace gdn::sm90
