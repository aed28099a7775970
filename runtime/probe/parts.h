// The parts of a kernel's operands by their logical coordinates: what an engine's own code indexes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/plan.h"

namespace gdn::runtime {

struct PartAxis {
  std::string_view name;  // key_head, value_head, key_dim, value_dim, tap
  std::int64_t size = 0;
};

// One part of an operand. Its axes below the leading dimension, slowest first, are logical: how they lie in memory is
// the map's business.
struct Part {
  std::string name;  // "q", "conv_state.q", "state", ...
  core::Map map;
  core::Leading leading = core::Leading::kNone;
  std::vector<PartAxis> axes;

  std::int64_t elements() const;  // of a row, or in all without a leading dimension
};

// Every part that the plan's facts map, in their order.
std::vector<Part> parts_of(const core::KernelPlan& plan);

// Elements from the start of a row to the part's n-th element in logical order: facts.h's formula.
std::int64_t address_of(const core::Facts& facts, const Part& part, std::int64_t n);

// "v[row 1, value_head 3, value_dim 0]"; the row is left out for a part without a leading dimension.
std::string coordinates_text(const Part& part, std::int64_t row, std::int64_t n);

}  // namespace gdn::runtime
