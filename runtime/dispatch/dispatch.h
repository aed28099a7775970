// Which operations run a batch: a pure function of the batch's rows and of what is available.
//
//   decode rows only                    decode
//   speculative rows                    decode_spec
//   prefill rows                        prefill
//   mixed                               each run of rows by its own operation, in the batch's order
//   a fused operation is unavailable    its parts, in their order, where all of them are available
//   neither                             unsupported, with the reasons
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace gdn::runtime {

enum class RowKind : std::uint8_t { kDecode, kSpeculative, kPrefill };

// "decode", "speculative", "prefill".
std::string_view to_string(RowKind kind);

// Rows of one kind that follow each other in the batch.
struct Rows {
  RowKind kind = RowKind::kDecode;
  int rows = 0;
};

// One launch over rows [first_row, first_row + rows) of the batch.
struct Step {
  std::string operation;
  RowKind kind = RowKind::kDecode;
  int first_row = 0;
  int rows = 0;

  friend bool operator==(const Step& a, const Step& b) {
    return a.operation == b.operation && a.kind == b.kind && a.first_row == b.first_row && a.rows == b.rows;
  }
};

// Why an operation can't be launched; empty: it can.
using Availability = std::function<std::string(std::string_view operation)>;

struct Decision {
  std::vector<Step> steps;  // all or nothing: a batch is never run in part
  std::string unsupported;  // why there are none; empty when the batch can be run

  bool supported() const { return unsupported.empty(); }
};

// Neighbouring runs of one kind become one. Throws Error kBadArgument for a batch without rows, a run with less than
// one, or more rows in all than an int holds.
Decision dispatch(const std::vector<Rows>& batch, const Availability& unavailable);

// The fused operation of a kind of rows, and the parts that stand for it; no parts: only the fused one can do it.
std::string_view fused_operation(RowKind kind);
const std::vector<std::string_view>& operation_parts(RowKind kind);

}  // namespace gdn::runtime
