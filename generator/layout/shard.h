// Tensor parallelism: the layer as one rank of N holds it.
//
// Heads are cut, nothing else: rank r has key heads r*Hk/N to (r+1)*Hk/N - 1 and the value heads that read them. Each
// part (q, k, v, z, b, a) of a packed tensor is cut by itself and the pieces are packed again: a rank's row is not one
// slice of the whole row, unless the row lies key head by key head. Tensors without heads are replicated.
#pragma once

#include <stdexcept>
#include <string>

#include "layout/layout.h"
#include "spec/ranks.h"
#include "spec/spec.h"

namespace gdn::layout {

// what() names the heads that N does not divide and the numbers of ranks that are possible.
class Unshardable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

using spec::legal_ranks;

// The spec of one rank; every rank has the same. Its name is <name>_tp<N>; one rank is the spec as it is. Throws
// Unshardable.
spec::Spec shard(const spec::Spec& spec, int ranks);

// For people: which heads rank r holds, which elements of each part of the whole tensors become its own, and which
// operands are replicated.
std::string shards_text(const Layout& whole, int ranks);

}  // namespace gdn::layout
