#include "layout/layout.h"

#include <fmt/format.h>

#include <stdexcept>

namespace gdn::layout {
namespace {

// True when the order of value heads in memory depends on the head pairing.
bool has_value_heads(const TensorLayout& tensor) {
  for (const PartLayout& part : tensor.parts) {
    for (const Axis& axis : part.axes) {
      if (axis.name == "value_head" || axis.name == "group") return true;
    }
  }
  return false;
}

}  // namespace

const PartLayout* TensorLayout::find(std::string_view part) const {
  for (const PartLayout& candidate : parts) {
    if (candidate.name == part) return &candidate;
  }
  return nullptr;
}

const TensorLayout& Layout::tensor(std::string_view name) const {
  for (const auto* section : {&inputs, &parameters, &pools, &handover, &outputs}) {
    for (const TensorLayout& candidate : *section) {
      if (candidate.name == name) return candidate;
    }
  }
  throw std::out_of_range(fmt::format("spec {} has no tensor {}", spec, name));
}

core::Identity identity(const Layout& layout, const TensorLayout& tensor, std::string_view domain) {
  // A packed list names its parts; a tensor of one part does not, and two of them may have one shape (q and k stored
  // apart): the part's name tells them from each other.
  const bool packed = tensor.list.find('{') != std::string::npos;
  std::string text = fmt::format("{} {}{}", core::to_string(tensor.dtype),
                                 packed ? "" : fmt::format("{}:", tensor.parts.front().name), tensor.list);
  if (layout.pairing_visible && has_value_heads(tensor)) {
    text += layout.numbers.pairing == core::Pairing::kGrouped ? " pairing=grouped" : " pairing=tiled";
  }
  if (!domain.empty()) text += fmt::format(" {}", domain);
  return core::make_identity(std::move(text));
}

core::Identity identity(const Layout& layout, const TensorLayout& tensor) {
  return identity(layout, tensor, tensor.domain);
}

std::int64_t address(const core::Facts& numbers, const PartLayout& part, const Coordinates& at) {
  const bool grouped = numbers.pairing == core::Pairing::kGrouped;
  bool split = false;
  for (const Axis& axis : part.axes) split = split || axis.name == "group";
  std::int64_t element = part.offset;
  for (const Axis& axis : part.axes) {
    std::int64_t index = 0;
    if (axis.name == "key_head") {
      index = !split ? at.key_head : grouped ? at.value_head / numbers.group : at.value_head % numbers.key_heads;
    } else if (axis.name == "group") {
      index = grouped ? at.value_head % numbers.group : at.value_head / numbers.key_heads;
    } else if (axis.name == "value_head") {
      index = at.value_head;
    } else if (axis.name == "key_dim") {
      index = at.key_dim;
    } else if (axis.name == "value_dim") {
      index = at.value_dim;
    } else if (axis.name == "tap" || axis.name == "step") {
      index = at.tap;
    } else if (axis.name == "scale_group") {
      index = at.scale_group;
    } else {
      throw std::logic_error(fmt::format("part {} has an axis {} that no address map knows", part.name, axis.name));
    }
    element += index * axis.stride;
  }
  return element;
}

}  // namespace gdn::layout
