// How long one launch over whole sequences takes, and how far that is from moving its operands once.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "layout/layout.h"
#include "plan/plan.h"
#include "spec/spec.h"

namespace gdn::verify {

// `sequences` sequences of `tokens` tokens each, in one launch.
struct Lengths {
  int tokens = 0, sequences = 1;
};

// "32768", "8192x4". Throws std::invalid_argument for anything else, or more tokens in all than an int holds.
Lengths parse_lengths(std::string_view text);
std::string to_string(const Lengths& lengths);

struct PrefillRow {
  std::string spec, operation, target, on;
  Lengths lengths;
  double time_us = 0;      // median of one launch, all its kernels
  std::int64_t bytes = 0;  // every operand once; a sequence's state and window read and written
  double gb_per_s = 0;     // bytes / time
  double floor_us = 0;     // bytes / copy bandwidth
  double ratio = 0;        // time / floor
  std::string form;        // how chunk_delta on Hopper is spread over the GPU (core/prefill.h); empty: in no such way
  double chain_us = 0, prepare_us = 0;  // what the plan took the form for: its estimates
};

struct PrefillBench {
  std::string device;
  double copy_gb_per_s = 0;  // measured in the same run: a large copy, bytes read and written
  std::vector<PrefillRow> rows;
};

// `operation` is conv_prefill, chunk_delta or prefill; `place` is cuda (launches recorded in a graph, operands of
// several launches in turn where one's would stay in the L2 cache) or cpu. Sequences start from states that are not
// zero. `tell` hears what is being measured. Throws runtime::Error where the place is not to be had, plan::Unplannable
// where the target has no such kernel.
PrefillBench bench_prefill(const spec::Spec& spec, const layout::Layout& layout, const std::string& operation,
                           std::string_view place, const std::vector<Lengths>& lengths,
                           const std::function<void(const std::string&)>& tell,
                           const plan::TuningTable& tuning = plan::TuningTable::built_in());

}  // namespace gdn::verify
