#include "plan/unavailable.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/dtype.h"
#include "plan/choices.h"
#include "plan/operation.h"

namespace gdn::plan {
namespace {

using core::Facts;

// Why an operation of a target can't give the output that the spec describes; empty: it can. A block of decode has the
// value heads of one key head; norm_quant's has as many heads as a whole number of groups needs, and keeps a number in
// shared memory for each piece of a group that lies in one head.
std::string output_refused(const layout::Layout& layout, std::string_view operation, const Target& target) {
  const Facts& f = layout.numbers;
  const bool whole = operation == "decode" || operation == "decode_spec";
  const bool normed = operation == "norm_quant" || operation == "prefill";
  if (!whole && !normed) return "";
  if (f.quant_group == 0 || f.value_dim % f.quant_group == 0) return "";
  // The CPU's prefill makes the output of a key head's value heads in one go, too.
  if (whole || (operation == "prefill" && target.family == Family::kCpu)) {
    return fmt::format(
        "{0} on {1}: output_quant.group = {2} does not divide a value head of {3} channels: such a group's scale needs "
        "heads that other {4} compute. Let {0} write a plain output and quantise it with norm_quant, or choose "
        "a group that divides {3}",
        operation, target.name, f.quant_group, f.value_dim, target.family == Family::kCpu ? "threads" : "blocks");
  }
  if (target.family == Family::kCpu) return "";
  const std::int64_t bytes = shared_bytes_of_groups(target, f);
  if (bytes <= target.static_shared) return "";
  return fmt::format(
      "{} on {}: groups of {} channels over heads of {} need {} bytes of shared memory a block, and there are {}",
      operation, target.name, f.quant_group, f.value_dim, bytes, target.static_shared);
}

// Whether neighbours of a state are channels of one head.
bool runs_along_a_channel(const layout::TensorLayout& state) {
  const std::vector<layout::Axis>& axes = state.parts.front().axes;
  return std::any_of(axes.begin(), axes.end(), [](const layout::Axis& axis) {
    return axis.stride == 1 && (axis.name == "key_dim" || axis.name == "value_dim");
  });
}

// Why an operation of a target can't keep the state as the spec says; empty: it can, or has none.
std::string state_refused(const layout::Layout& layout, std::string_view operation, const Target& target) {
  const bool drafts = operation == "decode_spec" || operation == "state_commit";
  const bool by_token = operation == "decode" || operation == "delta_update" || drafts;
  if (!by_token && operation != "chunk_delta" && operation != "prefill") return "";
  const bool scaled = core::size_of(layout.tensor("state").dtype) == 1;
  if (!scaled && !layout.numbers.stochastic_state) return "";
  const char* what = scaled ? "an 8-bit state" : "a state that is rounded by chance";
  if (!by_token) {
    return fmt::format(
        "{} on {}: pools.state is {}{}, and no kernel of whole sequences has {}: it rounds what it stores to nearest, "
        "without scales, which is another state than decode's. Let decode take the tokens one by one; or keep the "
        "state of sequences under way in 16 or 32 bits, rounded to nearest, and convert it for decode",
        operation, target.name, core::to_string(layout.tensor("state").dtype), scaled ? "" : ", rounded by chance",
        what);
  }
  if (scaled || target.family != Family::kCpu || runs_along_a_channel(layout.tensor("state"))) return "";
  return fmt::format(
      "{} on {}: rounding.state = stochastic takes one block of random bits for eight neighbours of a row, and "
      "neighbours of pools.state are of different heads: put key_dim or value_dim last, or round to nearest",
      operation, target.name);
}

}  // namespace

std::string unavailable(const layout::Layout& layout, std::string_view operation, const Target& target) {
  if (std::string reason = why_not(layout, operation); !reason.empty()) return reason;
  if (std::string reason = output_refused(layout, operation, target); !reason.empty()) return reason;
  if (std::string reason = state_refused(layout, operation, target); !reason.empty()) return reason;
  if (operation != "conv_pack" || target.family == Family::kCpu) return "";
  return fmt::format("conv_pack on {}: there is no GPU kernel that packs; GPU kernels read weights in any order",
                     target.name);
}

}  // namespace gdn::plan
