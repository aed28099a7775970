#include "layout/layout_text.h"

#include <fmt/format.h>

namespace gdn::layout {
std::string to_text(const Layout& layout) {
  const core::Facts& n = layout.numbers;
  std::string text = fmt::format("spec: {}\nkey_heads: {}\nvalue_heads: {}\ngroup: {}\nkey_dim: {}\nvalue_dim: {}\n",
                                 layout.spec, n.key_heads, n.value_heads, n.group, n.key_dim, n.value_dim);
  text += fmt::format("conv_channels: {}\n", 2 * n.key_heads * n.key_dim + n.value_heads * n.value_dim);
  for (const auto* section : {&layout.inputs, &layout.parameters, &layout.pools, &layout.handover, &layout.outputs}) {
    for (const TensorLayout& tensor : *section) {
      const core::Identity id = identity(layout, tensor);
      text += fmt::format("{}: {}\n  identity: {}\n  leading: {}, stride {}\n  inner: {} elements, {} bytes\n",
                          tensor.name, id.text, core::id_text(id.id), core::to_string(tensor.leading),
                          tensor.leading == core::Leading::kNone ? "-"
                          : tensor.launch_stride                 ? "at launch"
                                                                 : fmt::format("{}", tensor.inner),
                          tensor.inner, tensor.inner * static_cast<std::int64_t>(core::size_of(tensor.dtype)));
      for (const PartLayout& part : tensor.parts) {
        text += fmt::format("  part {}: offset {}", part.name, part.offset);
        for (const Axis& axis : part.axes) text += fmt::format(", {}[{}] * {}", axis.name, axis.size, axis.stride);
        text += "\n";
      }
    }
  }
  return text;
}

}  // namespace gdn::layout
