// What the validator's rules look at: a tensor taken apart into the parts that it holds, each with its whole list of
// dimensions.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "spec/spec.h"
#include "spec/tensor_keys.h"

namespace gdn::spec {

// A part inside a tensor. Its dimensions, slowest first: those before the packed dimension, the part's own, those
// after.
struct Piece {
  std::string label;  // "inputs.qkvz, part v" or "pools.state"
  Place place;        // of the part's name, or of the tensor's list
  Holds holds = Holds::kKeyChannels;
  const Tensor* tensor = nullptr;
  std::vector<const Dim*> dims;
};

// "inputs.qkvz"
std::string path_of(const SectionKey& section, const Tensor& tensor);

// The packed dimension of a list; null for none. With several, the first: packed.one reports the others.
const Dim* packed_dim(const Tensor& tensor);

// Calls `visit` for every tensor that has a row in the table of keys, readable list or not.
void for_each_tensor(const Spec& spec,
                     const std::function<void(const SectionKey&, const TensorKey&, const Tensor&)>& visit);

// The parts of a tensor whose list could be read. Parts that the tensor can't hold, and tensors whose packing is
// broken, are left out: packed.* and inputs.name report them.
std::vector<Piece> pieces_of(const SectionKey& section, const TensorKey& key, const Tensor& tensor);

}  // namespace gdn::spec
