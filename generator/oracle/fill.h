// The numbers of a problem's inputs, parameters and pools.
#pragma once

#include "oracle/problem.h"

namespace gdn::oracle {

// Parameters and pools.
void fill_constants(Problem& problem);

// Per-token inputs of the problem's step. Reads parameters and pools (see problem.h about ties).
void fill_inputs(Problem& problem);

// Tags in all operands of one kind: kInput (all parts) or kPool (conv windows only).
void fill_tags(Problem& problem, Tag tag, Kind kind);

}  // namespace gdn::oracle
