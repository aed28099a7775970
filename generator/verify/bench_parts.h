// What the measurements of all places share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "oracle/problem.h"
#include "verify/bench.h"
#include "view.h"

namespace gdn::verify {

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// A pool of about this many bytes is in no cache when its first slot comes round again.
constexpr std::size_t kGiB = std::size_t{1} << 30;

inline int slots_of_row(const spec::Spec& spec, std::string_view operation) {
  const bool drafts = operation == "decode_spec" || operation == "state_commit";
  return drafts && *spec.speculative.scheme == core::Rollback::kSlots ? *spec.speculative.tokens : 1;
}

inline int tokens_of_row(const spec::Spec& spec, std::string_view operation) {
  return operation == "decode_spec" ? *spec.speculative.tokens : 1;
}

// A small problem whose rows and slots are repeated to fill a batch: realistic numbers at the price of a few rows.
struct Tile {
  explicit Tile(const spec::Spec& spec, std::string_view operation, int batch)
      : problem(oracle::make_problem(spec, operation, options(spec, operation, batch))) {
    if (problem.sequences().empty()) return;
    // All tokens that there can be, all of them accepted: the most that a launch does.
    const std::vector<int> all(problem.sequences().size(), *spec.speculative.tokens);
    problem.arrange(all, all);
  }
  static oracle::Options options(const spec::Spec& spec, std::string_view operation, int batch) {
    oracle::Options options;
    options.rows = std::min(batch, 8);
    options.slots = options.rows * slots_of_row(spec, operation) + 2;
    return options;
  }
  oracle::Problem problem;
};

// How many rows of an operand a launch of so many rows, of so many tokens each, has.
inline std::int64_t rows_in_launch(const oracle::Problem& problem, std::size_t operand, int batch, int tokens,
                                   int pool_slots) {
  switch (problem.buffers()[operand].leading) {
    case oracle::Leading::kNone:
      return 1;
    case oracle::Leading::kSlot:
      return pool_slots;
    case oracle::Leading::kToken:
      return std::int64_t{batch} * tokens;
    default:
      return batch + (static_cast<int>(operand) == problem.operands().offsets() ? 1 : 0);
  }
}

// Distinct slots in random order, as a pool looks after a while of serving.
template <class Int>
std::vector<std::byte> slot_bytes(const std::vector<std::int64_t>& slots) {
  std::vector<Int> values(slots.begin(), slots.end());
  std::vector<std::byte> bytes(values.size() * sizeof(Int));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}
inline std::vector<std::byte> slot_bytes(core::DType dtype, const std::vector<std::int64_t>& slots) {
  return dtype == core::DType::kInt64 ? slot_bytes<std::int64_t>(slots) : slot_bytes<std::int32_t>(slots);
}

// Bytes of one slot in all pools of a problem.
inline std::size_t slot_bytes_of(const oracle::Problem& problem) {
  std::size_t bytes = 0;
  for (const oracle::Buffer& buffer : problem.buffers()) {
    if (buffer.leading == oracle::Leading::kSlot) {
      bytes += static_cast<std::size_t>(buffer.stride) * core::size_of(buffer.dtype);
    }
  }
  return bytes;
}

// More than twice the largest L2 of a current GPU: a layer's state is gone before the graph reaches it again.
constexpr std::size_t kColdBytes = 400'000'000;

// Launches in a graph whose layers have so large states each. A graph takes some 3 us to begin, which its launches
// share: here as many as Qwen3-Next has layers of this kind, fewer where those took more than a quarter of the device's
// memory, never fewer than it takes for no state to be in the L2 when its turn comes again.
constexpr int graph_layers(std::size_t state_bytes, std::size_t memory_bytes) {
  constexpr std::size_t kModelLayers = 36;
  const std::size_t cold = (kColdBytes + state_bytes - 1) / state_bytes;
  return static_cast<int>(std::max(cold, std::min(kModelLayers, memory_bytes / 4 / state_bytes)));
}

// A pool's slot 0 can be padding by the spec, so batches use slots from 1 on.
constexpr int kFirstSlot = 1;

// The same operand somewhere else; with another number of rows.
inline runtime::View placed(runtime::View view, void* data) {
  view.data = data;
  return view;
}
inline runtime::View resized(const runtime::View& view, void* data, std::int64_t leading) {
  runtime::View result = placed(view, data);
  result.sizes.at(0) = leading;
  return result;
}

// Bandwidth of a large copy on this CPU, bytes read and written.
double cpu_copy_gb_per_s(unsigned threads);

// Medians of one launch and of scaling the states that it starts from in place by the same threads, in turn.
struct CpuTimes {
  double launch_us = 0, scaling_us = 0;
};
CpuTimes cpu_launch_times(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation, int batch,
                          const plan::TuningTable& tuning, core::KernelPlan& plan_out);

}  // namespace gdn::verify
