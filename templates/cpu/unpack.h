// The body that emitted unpack files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the unpack kernel of facts F for `target`. Throws as generate() does.
template <class F>
void unpack(Kernel& kernel, std::string_view target) {
  kernel = kernel_of<F>("unpack", target);
}

}  // namespace gdn::cpu
