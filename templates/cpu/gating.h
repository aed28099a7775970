// The body that emitted gating files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the gating kernel of facts F for `target`. Throws as generate() does.
template <class F>
void gating(Kernel& kernel, std::string_view target) {
  kernel = kernel_of<F>("gating", target);
}

}  // namespace gdn::cpu
