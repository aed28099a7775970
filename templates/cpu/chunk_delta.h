// The body that emitted chunk_delta files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the chunk_delta kernel of facts F for `target`. Throws as generate() does.
template <class F>
void chunk_delta(Kernel& kernel, std::string_view target) {
  core::KernelPlan plan = plan_of<F>("chunk_delta", target);
  add_prefill<F>(plan);
  kernel = generate(plan);
}

}  // namespace gdn::cpu
