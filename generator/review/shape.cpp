#include "review/shape.h"

#include <fmt/format.h>

namespace gdn::review {

std::vector<Section> sections_of(const Side& side) {
  std::vector<Section> sections;
  const auto add = [&](const char* name, const std::vector<spec::Tensor>& written,
                       const std::vector<layout::TensorLayout>& resolved) {
    Section section{name, {}};
    for (std::size_t i = 0; i < written.size(); ++i) section.tensors.push_back({&written[i], &resolved.at(i)});
    sections.push_back(std::move(section));
  };
  add("inputs", side.spec.inputs, side.layout.inputs);
  add("parameters", side.spec.parameters, side.layout.parameters);
  add("pools", side.spec.pools, side.layout.pools);
  add("handover", side.spec.handover, side.layout.handover);
  add("outputs", side.spec.outputs, side.layout.outputs);
  return sections;
}

std::vector<std::int64_t> shape_of(const Side& side, const std::string& section, const TensorPair& tensor) {
  if (section == "inputs" || section == "outputs") return {tensor.resolved->inner};
  const core::Facts& n = side.layout.numbers;
  std::vector<std::int64_t> shape;
  std::int64_t rest = tensor.resolved->inner;
  std::size_t packed = 0;
  bool has_packed = false;
  std::string previous;
  for (const spec::Dim& dim : tensor.written->dims) {
    if (dim.packed()) {
      packed = shape.size();
      has_packed = true;
      shape.push_back(1);
      previous.clear();
      continue;
    }
    const std::string& name = *dim.name;
    if (name == "token" || name == "slot" || name == "sequence") continue;
    std::int64_t size = 1;
    if (name == "key_head") size = n.key_heads;
    if (name == "value_head") size = n.value_heads;
    if (name == "group") size = n.group;
    if (name == "key_dim") size = n.key_dim;
    if (name == "value_dim") size = n.value_dim;
    if (name == "scale_group") size = tensor.resolved->inner;
    if (name == "step") size = n.tokens;
    if (name == "tap") size = section == "pools" ? n.window : n.conv_width;
    rest /= size;
    if (name == "group" && previous == "key_head") {
      shape.back() *= size;
    } else {
      shape.push_back(size);
    }
    previous = name;
  }
  if (has_packed) shape[packed] = rest;
  return shape;
}

std::string shape_text(const layout::TensorLayout& tensor, const std::vector<std::int64_t>& shape) {
  if (tensor.leading == core::Leading::kScaleGroup) return fmt::format("[{}, token]", shape.front());
  std::string text = "[";
  if (tensor.leading != core::Leading::kNone) text += core::to_string(tensor.leading);
  for (const std::int64_t size : shape) text += fmt::format("{}{}", text.size() > 1 ? ", " : "", size);
  return text + "]";
}

}  // namespace gdn::review
