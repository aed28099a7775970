// The body that emitted prefill files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the prefill kernel of facts F for `target`. Throws as generate() does.
template <class F>
void prefill(Kernel& kernel, std::string_view target) {
  core::KernelPlan plan = plan_of<F>("prefill", target);
  add_prefill<F>(plan);
  kernel = generate(plan);
}

}  // namespace gdn::cpu
