// The body that emitted conv_prefill files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the conv_prefill kernel of facts F for `target`. Throws as generate() does.
template <class F>
void conv_prefill(Kernel& kernel, std::string_view target) {
  core::KernelPlan plan = plan_of<F>("conv_prefill", target);
  add_sequences<F>(plan);
  kernel = generate(plan);
}

}  // namespace gdn::cpu
