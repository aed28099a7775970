// The body that emitted state_commit files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the state_commit kernel of facts F for `target`. Throws as generate() does.
template <class F>
void state_commit(Kernel& kernel, std::string_view target) {
  core::KernelPlan plan = plan_of<F>("state_commit", target);
  add_drafts<F>(plan);
  kernel = generate(plan);
}

}  // namespace gdn::cpu
