// What a shape check of an engine sees of a tensor, and which coordinates a part has.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layout/layout.h"
#include "spec/spec.h"

namespace gdn::review {

// A spec and the layout it resolves to.
struct Side {
  const spec::Spec& spec;
  const layout::Layout& layout;
};

// A tensor of a spec beside its layout.
struct TensorPair {
  const spec::Tensor* written = nullptr;
  const layout::TensorLayout* resolved = nullptr;
};

// "inputs", "parameters", "pools", "handover", "outputs" and the tensors of that section, in order.
struct Section {
  std::string name;
  std::vector<TensorPair> tensors;
};
std::vector<Section> sections_of(const Side& side);

// Sizes below the leading dimension as the weakest check in use sees them: rows of a projection and the output are
// flat, a packed dimension is one number, and value heads count alike as [value_head] and as [key_head, group].
std::vector<std::int64_t> shape_of(const Side& side, const std::string& section, const TensorPair& tensor);

// "[token, 12288]", "[slot, 32, 128, 128]"
std::string shape_text(const layout::TensorLayout& tensor, const std::vector<std::int64_t>& shape);

}  // namespace gdn::review
