#include "spec/pieces.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

namespace gdn::spec {
namespace {

// What a part is inside a tensor of that key; nothing when the tensor can't hold it.
std::optional<Holds> holds_of(const TensorKey& key, const std::string& part) {
  const Holds* holds = part_holds(part);
  if (!holds) return std::nullopt;
  if (key.holds == Holds::kConvParts && part != "q" && part != "k" && part != "v") return std::nullopt;
  return *holds;
}

}  // namespace

std::string path_of(const SectionKey& section, const Tensor& tensor) {
  return fmt::format("{}.{}", section.name, tensor.name.value.size() > 64 ? "..." : *tensor.name);
}

const Dim* packed_dim(const Tensor& tensor) {
  for (const Dim& dim : tensor.dims) {
    if (dim.packed()) return &dim;
  }
  return nullptr;
}

void for_each_tensor(const Spec& spec,
                     const std::function<void(const SectionKey&, const TensorKey&, const Tensor&)>& visit) {
  for (const SectionKey& section : tensor_sections()) {
    for (const Tensor& tensor : spec.*section.tensors) {
      if (const TensorKey* key = tensor_key(section.name, *tensor.name)) visit(section, *key, tensor);
    }
  }
}

std::vector<Piece> pieces_of(const SectionKey& section, const TensorKey& key, const Tensor& tensor) {
  const bool packable = key.holds == Holds::kInputParts || key.holds == Holds::kConvParts;
  const Dim* packed = packed_dim(tensor);
  if (tensor.dims.empty() || (packed && !packable)) return {};

  const std::string path = path_of(section, tensor);
  if (!packed) {
    Piece piece{path, tensor.dims_place, key.holds, &tensor, {}};
    if (packable) {
      const std::optional<Holds> holds = holds_of(key, *tensor.name);
      if (!holds) return {};
      piece.holds = *holds;
    }
    for (const Dim& dim : tensor.dims) piece.dims.push_back(&dim);
    return {std::move(piece)};
  }

  std::vector<Piece> pieces;
  for (const Part& part : packed->parts) {
    const std::optional<Holds> holds = holds_of(key, *part.name);
    if (!holds) continue;
    Piece piece{fmt::format("{}, part {}", path, *part.name), part.name.place, *holds, &tensor, {}};
    for (const Dim& dim : tensor.dims) {
      if (&dim == packed) {
        for (const Dim& inner : part.dims) piece.dims.push_back(&inner);
      } else {
        piece.dims.push_back(&dim);
      }
    }
    bool nested = false;
    for (const Dim* dim : piece.dims) nested = nested || dim->packed();
    if (!nested) pieces.push_back(std::move(piece));
  }
  return pieces;
}

}  // namespace gdn::spec
