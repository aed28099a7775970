// The body that emitted conv_update files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the conv_update kernel of facts F. Throws as generate() does.
template <class F>
void conv_update(Kernel& kernel) {
  kernel = kernel_of<F>("conv_update");
}

}  // namespace gdn::cpu
