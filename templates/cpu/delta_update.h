// The body that emitted delta_update files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the delta_update kernel of facts F. Throws as generate() does.
template <class F>
void delta_update(Kernel& kernel) {
  kernel = kernel_of<F>("delta_update");
}

}  // namespace gdn::cpu
