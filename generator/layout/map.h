// From a resolved part to the address map that kernels are specialised with.
#pragma once

#include "core/facts.h"
#include "layout/layout.h"

namespace gdn::layout {

// The map of one part, standing at `operand` in the kernel's argument block. Kinds of heads, strides and alignment come
// from the part's axes; both ways of writing value heads ([value_head] and [key_head, group]) give the same form.
core::Map map_of(const core::Facts& numbers, const TensorLayout& tensor, const PartLayout& part, int operand);

// base(head) of a map: the offset of a head's first element below the row.
std::int64_t base(const core::Facts& numbers, const core::Map& map, std::int64_t head);

}  // namespace gdn::layout
