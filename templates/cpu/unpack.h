// The body that emitted unpack files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the unpack kernel of facts F. Throws as generate() does.
template <class F>
void unpack(Kernel& kernel) {
  kernel = kernel_of<F>("unpack");
}

}  // namespace gdn::cpu
