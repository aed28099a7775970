#include "dispatch/dispatch.h"

#include <fmt/format.h>

#include <limits>

#include "error.h"

namespace gdn::runtime {
namespace {

std::vector<Rows> merged(const std::vector<Rows>& batch) {
  std::vector<Rows> runs;
  int total = 0;
  for (const Rows& rows : batch) {
    if (rows.rows < 1) {
      throw Error(Code::kBadArgument,
                  fmt::format("a run of {} {} rows: there must be at least 1", rows.rows, to_string(rows.kind)));
    }
    if (rows.rows > std::numeric_limits<int>::max() - total) {
      throw Error(Code::kBadArgument, "a batch of more rows than an int holds");
    }
    total += rows.rows;
    if (!runs.empty() && runs.back().kind == rows.kind) {
      runs.back().rows += rows.rows;
    } else {
      runs.push_back(rows);
    }
  }
  if (runs.empty()) throw Error(Code::kBadArgument, "a batch without rows");
  return runs;
}

// The operations for one kind of rows; empty, and `why` filled, when there are none.
std::vector<std::string_view> operations_for(RowKind kind, const Availability& unavailable, std::string& why) {
  const std::string_view fused = fused_operation(kind);
  const std::string reason = unavailable(fused);
  if (reason.empty()) return {fused};
  why = fmt::format("{} rows: {}: {}", to_string(kind), fused, reason);
  const std::vector<std::string_view>& parts = operation_parts(kind);
  if (parts.empty()) {
    why += "; it has no parts that could stand for it";
    return {};
  }
  for (const std::string_view part : parts) {
    const std::string missing = unavailable(part);
    if (missing.empty()) continue;
    why += fmt::format("; of its parts {}: {}", part, missing);
    return {};
  }
  return parts;
}

}  // namespace

std::string_view to_string(RowKind kind) {
  switch (kind) {
    case RowKind::kDecode:
      return "decode";
    case RowKind::kSpeculative:
      return "speculative";
    case RowKind::kPrefill:
      return "prefill";
  }
  return "?";
}

std::string_view fused_operation(RowKind kind) {
  switch (kind) {
    case RowKind::kDecode:
      return "decode";
    case RowKind::kSpeculative:
      return "decode_spec";
    case RowKind::kPrefill:
      return "prefill";
  }
  return "?";
}

const std::vector<std::string_view>& operation_parts(RowKind kind) {
  static const std::vector<std::string_view> decode = {"conv_update", "gating", "delta_update", "norm_quant"};
  // Rolling back a rejected token takes the fused kernel's records: no list of parts does it.
  static const std::vector<std::string_view> speculative;
  static const std::vector<std::string_view> prefill = {"conv_prefill", "gating", "chunk_delta", "norm_quant"};
  switch (kind) {
    case RowKind::kDecode:
      return decode;
    case RowKind::kSpeculative:
      return speculative;
    case RowKind::kPrefill:
      return prefill;
  }
  return speculative;
}

Decision dispatch(const std::vector<Rows>& batch, const Availability& unavailable) {
  Decision decision;
  int first = 0;
  for (const Rows& run : merged(batch)) {
    std::string why;
    const std::vector<std::string_view> operations = operations_for(run.kind, unavailable, why);
    if (operations.empty()) return {{}, why};
    for (const std::string_view operation : operations) {
      decision.steps.push_back({std::string(operation), run.kind, first, run.rows});
    }
    first += run.rows;
  }
  return decision;
}

}  // namespace gdn::runtime
