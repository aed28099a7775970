// The entry points of emitted CPU files that the build compiled.
#pragma once

#include <string_view>
#include <vector>

#include "cpu/kernel.h"

namespace gdn::test {

struct Emitted {
  std::string_view spec, operation;
  void (*entry)(cpu::Kernel&);
};

const std::vector<Emitted>& emitted();

}  // namespace gdn::test
