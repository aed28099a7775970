// The written model of a target: how many threads, how many state rows in flight.
#pragma once

#include "core/facts.h"
#include "plan/target.h"
#include "plan/tuning.h"

namespace gdn::plan {

// Choices that the tuning table has no say in. GPU: "threads" of a block, "rows_per_pass" state rows that a lane group
// keeps in flight; for norm_quant "heads_per_block", the value heads of a block. CPU: none.
Choices model_choices(const Target& target, std::string_view operation, const core::Facts& facts);

// Shared memory of a block of norm_quant whose groups of channels do not each lie in one head.
std::int64_t shared_bytes_of_groups(const Target& target, const core::Facts& facts);

// The most threads for which the bodies deal out a state of this order without holding too little of it a thread.
int max_state_threads(const core::Facts& facts);

}  // namespace gdn::plan
