// The operations and which tensors each takes, in the order of its operands.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/plan.h"
#include "layout/layout.h"

namespace gdn::plan {

// decode, unpack, conv_update, gating, delta_update, norm_quant
const std::vector<std::string_view>& operations();

bool is_operation(std::string_view name);

// One operand before it becomes part of a plan: a tensor of the layout and what the operation does with it.
struct Use {
  const layout::TensorLayout* tensor = nullptr;  // null: the slot indices
  core::Access access = core::Access::kRead;
  std::string domain;  // what the values mean to this operation
};

// Throws std::invalid_argument for an unknown operation.
std::vector<Use> uses(const layout::Layout& layout, std::string_view operation);

// The operand's name in plans: the tensor's, or "slots".
std::string_view name_of(const Use& use);

// The layout that the owner of such a tensor states for it: its own canonical text with what the values mean to the
// operation.
core::Identity identity_of(const layout::Layout& layout, const Use& use);

}  // namespace gdn::plan
