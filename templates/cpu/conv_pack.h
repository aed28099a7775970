// The body that emitted conv_pack files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the conv_pack kernel of facts F for `target`. Throws as generate() does.
template <class F>
void conv_pack(Kernel& kernel, std::string_view target) {
  kernel = kernel_of<F>("conv_pack", target);
}

}  // namespace gdn::cpu
