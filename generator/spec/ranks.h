// How many ranks of tensor parallelism can share a layer.
#pragma once

#include <string>
#include <vector>

#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::spec {

// The numbers of ranks that this layer can be cut for, ascending, 1 included: the divisors of heads.key (which divides
// heads.value), and of those the ones that leave each group of a quantised output in one rank.
std::vector<int> legal_ranks(const Spec& spec);

// Empty where the ranks can share the layer; else why not, and the numbers that are possible.
std::string why_not_ranks(const Spec& spec, int ranks);

// Reports that as heads.ranks.
void check_ranks(const Spec& spec, int ranks, Diagnostics& diagnostics);

}  // namespace gdn::spec
