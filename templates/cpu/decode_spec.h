// The body that emitted decode_spec files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the decode_spec kernel of facts F for `target`. Throws as generate() does.
template <class F>
void decode_spec(Kernel& kernel, std::string_view target) {
  core::KernelPlan plan = plan_of<F>("decode_spec", target);
  add_drafts<F>(plan);
  kernel = generate(plan);
}

}  // namespace gdn::cpu
