// The body that emitted conv_update files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the conv_update kernel of facts F for `target`. Throws as generate() does.
template <class F>
void conv_update(Kernel& kernel, std::string_view target) {
  kernel = kernel_of<F>("conv_update", target);
}

}  // namespace gdn::cpu
