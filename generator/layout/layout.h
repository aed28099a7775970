// The resolved layout of a spec: every size, stride and offset a number, every tensor with its canonical text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/facts.h"
#include "core/identity.h"
#include "core/plan.h"

namespace gdn::layout {

// One dimension of a part and how far apart its neighbours lie, in elements.
struct Axis {
  std::string name;  // key_head, value_head, group, key_dim, value_dim, tap, step, scale_group
  std::int64_t size = 0;
  std::int64_t stride = 0;  // 0: given at launch
};

// Where one part (q, k, v, ...) lies below a tensor's leading dimension.
struct PartLayout {
  std::string name;
  std::int64_t offset = 0;  // elements
  std::vector<Axis> axes;   // slowest first; the leading dimension (token, slot) is the tensor's
};

struct TensorLayout {
  std::string name;  // as operands are named: "qkvz", "conv_state", "handover.q", "out"
  core::Role role = core::Role::kInput;
  core::DType dtype = core::DType::kFp32;
  core::Leading leading = core::Leading::kNone;
  bool launch_stride = false;
  bool replicated = false;  // every rank has the whole of it and reads its own heads' run of a row
  std::int64_t inner = 0;   // elements below the leading dimension; where scale_group leads, its entries
  std::string list;         // the dimension list with sizes: "[token@launch, key_head:16, {q:[key_dim:128], ...}]"
  std::string domain;       // what the values mean: "b=logit a=logit"; may be empty
  std::vector<PartLayout> parts;  // in the order of memory

  const PartLayout* find(std::string_view part) const;  // null when the tensor has no such part
};

struct Layout {
  std::string spec;                                   // name of the spec
  std::string spec_file;                              // as the spec was named on the command line
  core::Facts numbers;                                // every fact that is not an address map; the maps are absent
  core::DType prefill_offsets = core::DType::kInt32;  // of cu_seqlens in prefill's operations
  core::DType draft_offsets = core::DType::kInt32;    // and in decode_spec
  bool pairing_visible = false;                       // group > 1: grouped and tiled are different layouts
  std::vector<TensorLayout> inputs, parameters, pools, handover, outputs;

  // The tensor of this name in any section; throws std::out_of_range.
  const TensorLayout& tensor(std::string_view name) const;
};

// The canonical text of a tensor and its identity. `domain` replaces the tensor's own when an operation gives the same
// storage another meaning (raw and convolved q).
core::Identity identity(const Layout& layout, const TensorLayout& tensor, std::string_view domain);
core::Identity identity(const Layout& layout, const TensorLayout& tensor);

// Elements from the start of a row (or slot) to one element of a part. A missing coordinate counts as 0. Value heads
// of a part with axes key_head and group are found through `numbers.pairing`.
struct Coordinates {
  std::int64_t key_head = 0, value_head = 0, key_dim = 0, value_dim = 0;
  std::int64_t tap = 0;  // or step
  std::int64_t scale_group = 0;
};
std::int64_t address(const core::Facts& numbers, const PartLayout& part, const Coordinates& at);

}  // namespace gdn::layout
