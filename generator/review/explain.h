// A layout for people: which part of a row lies where, as a strip of text or as a page drawn to scale.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "review/shape.h"

namespace gdn::review {

// A dense run of elements below a tensor's leading dimension that belongs to one part: some heads, and one tap where
// the taps lie apart.
struct Block {
  std::string part;
  int first_head = -1, last_head = -1;  // -1: the part has no heads
  bool value_heads = false;
  int tap = -1;  // -1: all taps lie in it, or there are none
  std::int64_t start = 0, length = 0;
};

// The blocks of a tensor in the order of memory. `merge` joins neighbours that are consecutive heads of one part.
// Parts whose heads are not dense come out head by head and tap by tap, and channel by channel in the end.
std::vector<Block> blocks_of(const layout::Layout& layout, const layout::TensorLayout& tensor, bool merge);

// Every tensor (or the one named "qkvz" or "inputs.qkvz"): its list, strides, and the strip
//   |0 q0 |128 k0 |256 v0-1 |512 z0-1 |768 q1 ... |12288
// Throws std::out_of_range naming the tensors for an unknown one.
std::string explain_text(const Side& side, const std::string& tensor);

// One HTML page that needs nothing else: every tensor to scale, what lies at the pointer, the operations in order.
std::string explain_html(const Side& side);

// The operations of the layer in order, a line each, with this spec's numbers in the formulas.
std::vector<std::string> formulas_of(const Side& side);

}  // namespace gdn::review
