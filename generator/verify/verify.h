// One operation of one spec, run step after step on an executor and judged by the oracle after each.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "oracle/compare.h"
#include "verify/executor.h"

namespace gdn::verify {

struct Options {
  std::uint64_t seed = 1;
  int steps = 3;  // each from the state that the step before stored
  int rows = 4;
  int padding_rows = 1;      // ignored where the spec or the operation has none
  std::vector<int> lengths;  // of the sequences of prefill's operations; empty: a few of each kind
  int excess_rows = 2;       // of output buffers, beyond the launch's rows: to stay as they are
  plan::TuningTable tuning = plan::TuningTable::built_in();
  core::Edge edge = core::Edge::kPlain;  // of the launches, which nothing is ahead of
  std::int64_t extra_stride = 64;        // elements between rows that belong to nobody; 64 keeps every alignment
};

struct Result {
  std::string operation;
  std::vector<oracle::Deviation> deviations;  // per written operand the worst of all steps, findings of all steps
  double compile_seconds = 0;
  bool good = false;

  double worst_error() const;
};

// Throws what the plan and the executor throw.
Result verify(Executor& executor, const spec::Spec& spec, const layout::Layout& layout, const std::string& operation,
              const Options& options);

}  // namespace gdn::verify
