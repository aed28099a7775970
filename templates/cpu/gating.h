// The body that emitted gating files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the gating kernel of facts F. Throws as generate() does.
template <class F>
void gating(Kernel& kernel) {
  kernel = kernel_of<F>("gating");
}

}  // namespace gdn::cpu
