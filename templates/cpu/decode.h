// The body that emitted decode files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the decode kernel of facts F for `target`. Throws as generate() does.
template <class F>
void decode(Kernel& kernel, std::string_view target) {
  kernel = kernel_of<F>("decode", target);
}

}  // namespace gdn::cpu
