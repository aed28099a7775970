// Two specs compared by meaning: which numbers change, which operands move, and which of it nobody would notice.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "review/shape.h"

namespace gdn::review {

struct Change {
  bool silent = false;  // no check of shapes and dtypes can see it
  std::string what;     // the key or tensor: "out_norm.gate", "inputs.qkvz"
  std::string
      how;  // "number", "moved", "dtype", "shape", "added", "removed", "renamed", "order", "stride", "replicated"
  std::string before, after;
  std::string note;  // what it means; may be empty
};

// Whether a pool that was filled under the old spec can be read under the new one.
struct PoolVerdict {
  std::string name;
  bool readable = false;
  std::string why;  // empty where it is readable
};

struct Difference {
  std::string before, after;    // names of the specs
  std::vector<Change> changes;  // numbers in the order of the key table, then tensors in the order of the spec
  std::vector<PoolVerdict> pools;
  std::vector<std::string> rebuild;  // operations whose kernels change

  bool any() const { return !changes.empty(); }
  std::size_t silent() const;
};

// A change of wording alone (comments, shorthands, another way to write the same addresses, head pairing where a key
// head has one value head, the model's title) is no difference.
Difference compare(const Side& before, const Side& after);

// One block a change, silent ones first, then the pools and the kernels.
std::string to_text(const Difference& difference);

// The same as a table for a pull request.
std::string to_markdown(const Difference& difference);

}  // namespace gdn::review
