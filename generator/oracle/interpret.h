// What a dimension list means: where each element of each part of a tensor lies.
//
// The list is walked in memory order, one element after another, like an odometer: each step says which part, head,
// channel and tap the element is. No strides are computed anywhere; this is deliberately another method than the
// address maps of generator/layout, which have to agree with it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "spec/spec.h"

namespace gdn::oracle {

enum class Leading : std::uint8_t {
  kNone,
  kToken,
  kSlot,
  kSequence,
  kScaleGroup,  // scales group by group, in each a number a token
  kSnapshot,    // states that a prefill keeps on the way
};
enum class HeadsOf : std::uint8_t { kNone, kKey, kValue };

// The element under the odometer. A coordinate that the list does not have is -1. value_head is set wherever key_head
// and group both are, by the spec's pairing.
struct Coordinates {
  int key_head = -1;
  int group = -1;
  int value_head = -1;
  int key_channel = -1;
  int value_channel = -1;
  int tap = -1;  // or step, of a tensor that has steps
  int scale_group = -1;
};

// A part inside a row: its extents (1 where the list has no such dimension) and the offset in elements of each of its
// elements from the start of the row, in the oracle's own order: head, key channel, value channel, tap.
struct PartMap {
  std::string name;  // q k v z b a g beta o, or the tensor's own name
  HeadsOf heads_of = HeadsOf::kNone;
  int heads = 1, key_dim = 1, value_dim = 1, taps = 1;  // heads: or scale groups
  std::vector<std::int32_t> offset;

  std::int64_t count() const { return std::int64_t{1} * heads * key_dim * value_dim * taps; }
  std::int64_t index(int head, int key_channel, int value_channel, int tap) const {
    return ((std::int64_t{head} * key_dim + key_channel) * value_dim + value_channel) * taps + tap;
  }
};

// A tensor's row (all that lies below the token or slot dimension).
struct TensorMap {
  Leading leading = Leading::kNone;
  bool launch_stride = false;  // the distance of two rows is given at launch; otherwise it is `inner`
  std::int64_t inner = 0;      // elements of a row
  std::vector<PartMap> parts;

  // The part of that name, or null.
  const PartMap* part(const std::string& name) const;
};

// Walks one row of `tensor` in memory order and calls `visit(part name, coordinates)` once per element; stops early
// when it returns false. Throws std::invalid_argument, naming tensor and dimension, for a list that has no meaning.
void walk(const spec::Spec& spec, const spec::Tensor& tensor,
          const std::function<bool(const std::string&, const Coordinates&)>& visit);

// The walk written down as tables. Also throws when an element of a part is not reached exactly once.
TensorMap interpret(const spec::Spec& spec, const spec::Tensor& tensor);

// The coordinates of the element at `position` of a row, for people: "v, value head 3 (key head 1, group 0), value
// channel 17".
std::string describe(const spec::Spec& spec, const spec::Tensor& tensor, std::int64_t position);

// Channels of an output's row that share a scale; 0 where the output is not quantised.
int channels_of_group(const spec::Spec& spec);

// value head <-> (key head, group) by the spec's pairing.
int value_head_of(const spec::Spec& spec, int key_head, int group);
int key_head_of(const spec::Spec& spec, int value_head);

}  // namespace gdn::oracle
