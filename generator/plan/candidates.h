// What a tuner tries: choices for decode and decode_spec that may be the best for launches of a number of rows.
#pragma once

#include <vector>

#include "plan/choices.h"

namespace gdn::plan {

// The model's own choices first, then sensible ones around them; all can be held by the target (choices_fault). Left
// out is what can't win: blocks that split a value head where there are many more than multiprocessors, and whole key
// heads where most multiprocessors would idle. On a target with clusters parts that meet in memory are tried as well
// for few rows.
std::vector<Choices> candidates(const Target& target, std::string_view operation, const core::Facts& facts, int rows);

}  // namespace gdn::plan
