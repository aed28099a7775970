// The body that emitted norm_quant files of the CPU target instantiate.
#pragma once

#include "cpu/facts_of.h"

namespace gdn::cpu {

// Makes `kernel` the norm_quant kernel of facts F for `target`. Throws as generate() does.
template <class F>
void norm_quant(Kernel& kernel, std::string_view target) {
  kernel = kernel_of<F>("norm_quant", target);
}

}  // namespace gdn::cpu
