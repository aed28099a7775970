#include "layout/map.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace gdn::layout {
namespace {

// Alignment beyond this is of no use to any target.
constexpr std::int64_t kMaxAlign = 256;

std::int64_t power_of_two_in(std::int64_t number) {
  return number == 0 ? kMaxAlign : std::min(kMaxAlign, number & -number);
}

}  // namespace

core::Map map_of(const core::Facts& numbers, const TensorLayout& tensor, const PartLayout& part, int operand) {
  core::Map map;
  map.operand = operand;
  map.dtype = tensor.dtype;
  map.offset = part.offset;
  const bool state = part.name == "state" || part.name == "intermediate_state";
  bool split = false;
  for (const Axis& axis : part.axes) split = split || axis.name == "group";
  for (const Axis& axis : part.axes) {
    if (axis.name == "key_head") {
      map.key_head_stride = axis.stride;
      if (!split) map.heads = core::HeadKind::kKey;
    } else if (axis.name == "group") {
      map.group_stride = axis.stride;
      map.heads = core::HeadKind::kValue;
    } else if (axis.name == "value_head") {
      map.heads = core::HeadKind::kValue;
      const bool grouped = numbers.pairing == core::Pairing::kGrouped;
      map.key_head_stride = grouped ? numbers.group * axis.stride : axis.stride;
      map.group_stride = grouped ? axis.stride : numbers.key_heads * axis.stride;
    } else if (axis.name == "key_dim" || axis.name == "scale_group") {
      map.inner_stride = axis.stride;
      map.run = axis.size;
    } else if (axis.name == "value_dim") {
      (state ? map.outer_stride : map.inner_stride) = axis.stride;
      if (!state) map.run = axis.size;
    } else if (axis.name == "tap" || axis.name == "step") {
      map.tap_stride = axis.stride;
    } else {
      throw std::logic_error(fmt::format("tensor {}: axis {} has no place in an address map", tensor.name, axis.name));
    }
  }
  map.align =
      std::min({power_of_two_in(map.offset), power_of_two_in(map.key_head_stride), power_of_two_in(map.group_stride)});
  // Whatever is stepped over in whole pieces must keep the alignment too: taps, and the state's slower axis.
  if (map.tap_stride > 1) map.align = std::min(map.align, power_of_two_in(map.tap_stride));
  if (part.name == "out_scale") map.align = 1;  // written one by one
  if (state) {
    map.align = std::min(map.align, power_of_two_in(std::max(map.inner_stride, map.outer_stride)));
  }
  return map;
}

std::int64_t base(const core::Facts& numbers, const core::Map& map, std::int64_t head) {
  switch (map.heads) {
    case core::HeadKind::kNone:
      return map.offset;
    case core::HeadKind::kKey:
      return map.offset + head * map.key_head_stride;
    case core::HeadKind::kValue:
      break;
  }
  const bool grouped = numbers.pairing == core::Pairing::kGrouped;
  const std::int64_t key_head = grouped ? head / numbers.group : head % numbers.key_heads;
  const std::int64_t group = grouped ? head % numbers.group : head / numbers.key_heads;
  return map.offset + key_head * map.key_head_stride + group * map.group_stride;
}

}  // namespace gdn::layout
