// How long one launch of decode, decode_spec or state_commit takes when nothing of its state is in a cache, and how far
// that is from the floor.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "layout/layout.h"
#include "plan/plan.h"
#include "spec/spec.h"

namespace gdn::verify {

// How the launches of a graph stand to each other. Programmatic: each may begin before the one ahead of it is through;
// it waits for that itself before it reads anything but parameters, slot indices and states, which the benchmark
// promises to have stood before (Args::promises): no two launches of a graph share them.
using core::Edge;

struct BenchRow {
  std::string spec, operation, target, on, edges, state_dtype;
  int batch = 0;
  double time_us = 0;      // median of one launch
  std::int64_t bytes = 0;  // every operand once: see floor_bytes
  double gb_per_s = 0;     // bytes / time
  double floor_us = 0;     // bytes / copy bandwidth
  double ratio = 0;        // time / floor
  double scaling_us = 0;   // on a CPU: scaling the same states in place, same threads, same run; elsewhere 0
};

struct Bench {
  std::string device;
  double copy_gb_per_s = 0;  // measured in the same run: a large copy, bytes read and written
  double fan_gb_per_s = 0;   // decode_spec: one large read and as many writes as a launch has tokens; 0: not measured
  std::vector<BenchRow> rows;
};

// The fewest bytes that a launch of `rows` rows (sequences of facts.tokens tokens each, in decode_spec) can move:
// inputs, slots and parameters read once, outputs written once, the recurrent state read and written once, and of each
// conv window the width - 1 rows that the step needs read and written once. decode_spec with a slot for each token
// writes as many states as it has tokens; with records it reads and writes those of all tokens. Memory moves whole
// sectors of 32 bytes: where what the step needs of a window shares its sectors with what it does not, all of it
// counts.
std::int64_t floor_bytes(const core::KernelPlan& plan, int rows);

// Elements of an operand's row or of all of it that a kernel can need: of a row of the projections the parts that it
// reads, which without an output norm are all but z.
std::int64_t needed_elements(const core::KernelPlan& plan, std::size_t operand);

// `place` is cuda or cpu. CUDA: launches recorded in a graph, one for each layer, over as many layers as a model has
// and so many that no state is still in the L2 cache when its layer comes round again (graph_layers in bench_parts.h);
// random slots, the same for all layers, as an engine has them; the median over replays, divided by the layers. CPU:
// calls over a pool of about 1 GiB (or four batches, if those are larger), each batch on other slots, in turn with
// scaling the states of such a batch in place; `edges` mean nothing there. `tell` hears what is being measured. Throws
// runtime::Error where the place is not to be had.
Bench bench_launch(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation,
                   std::string_view place, const std::vector<int>& batches, const std::vector<Edge>& edges,
                   const std::function<void(const std::string&)>& tell,
                   const plan::TuningTable& tuning = plan::TuningTable::built_in());

// What was found for one way to launch an operation at one batch size.
struct Trial {
  plan::Choices choices;
  double time_us = 0;
};

struct Tuned {
  std::string device, target;

  // What launches on one kind of edges came to.
  struct OnEdges {
    Edge edge = Edge::kPlain;
    std::vector<plan::Band> bands;           // one a batch size, the last for any number of rows
    std::vector<std::vector<Trial>> trials;  // of each batch size, fastest first
  };
  std::vector<OnEdges> edges;
};

// Times sensible choices for decode or decode_spec, and those that `known` has, at each batch size on the CUDA device,
// as bench_launch does, each after the oracle has judged it; those within 5% of the best in a second turn too. A band
// keeps the choices of the next larger batch where those are at most 1.5% behind the best. Throws runtime::Error where
// there is no device, std::runtime_error for a candidate that computes wrong results.
Tuned tune(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation, std::vector<int> batches,
           const std::vector<Edge>& edges, const std::function<void(const std::string&)>& tell,
           const plan::TuningTable& known = plan::TuningTable::built_in());

}  // namespace gdn::verify
