// The body that emitted delta_update files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the delta_update kernel of facts F for `target`. Throws as generate() does.
template <class F>
void delta_update(Kernel& kernel, std::string_view target) {
  kernel = kernel_of<F>("delta_update", target);
}

}  // namespace gdn::cpu
