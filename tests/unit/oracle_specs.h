// Specs made in memory for the oracle's tests: a geometry and a choice for each tensor's order.
#pragma once

#include "spec/spec.h"

namespace gdn::test {

enum class Family { kInterleaved, kFlat, kFlatSplit, kSeparate };  // kFlatSplit: qkv, z, b, a as Qwen3.5 stores them

struct Geometry {
  int key_heads = 2, value_heads = 6, key_dim = 32, value_dim = 48;
};

struct Choice {
  Geometry geometry;
  Family family = Family::kInterleaved;
  core::Pairing pairing = core::Pairing::kGrouped;
  bool state_vk = true;  // [value_dim, key_dim]; otherwise [key_dim, value_dim]
  bool conv_sd = true;   // [tap, channel]; otherwise [channel, tap]
  core::DType activations = core::DType::kBf16;
  core::DType state = core::DType::kFp32;
};

// The numbers of Qwen3-Next (conv width 4, silu, l2 norm with eps in the sum, softplus threshold 20, no rounding point
// but conv and o at 16-bit activations) at that geometry.
spec::Spec make_spec(const Choice& choice);

// A dimension list from its text: "token@launch key_head {q: key_dim; v: group value_dim} tap".
std::vector<spec::Dim> dims(const std::string& text);

spec::Tensor tensor(const std::string& name, core::DType dtype, const std::string& dims_text);

// The tensor of that name, wherever it is.
spec::Tensor& find(std::vector<spec::Tensor>& tensors, const std::string& name);

}  // namespace gdn::test
