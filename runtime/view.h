// An operand as the caller sees it: where it is, what is in it, and which layout its owner says it has.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "core/identity.h"

namespace gdn::runtime {

// Does not own the memory. `layout` is the statement of whoever made the tensor (the engine's own description, or the
// pool that it was created with); copying it from the plan that is about to be launched makes the check worthless.
struct View {
  void* data = nullptr;  // null: the operand is left out
  core::DType dtype = core::DType::kFp32;
  std::vector<std::int64_t> sizes;    // elements, slowest first; the leading one is rows or slots where there is one
  std::vector<std::int64_t> strides;  // elements; as many as sizes
  core::Identity layout;
};

}  // namespace gdn::runtime
