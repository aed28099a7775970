// A kernel's plan: what is compiled, which operands it takes in which order, and how it is launched.
//
// The plan stage makes it, the emit stage prints source from it, the runtime checks views against it and launches by
// it. It is a plain value; to_text and parse_plan turn it into text and back (bundles, disk cache, goldens).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/facts.h"
#include "core/identity.h"
#include "gdn/args.h"

namespace gdn::core {

constexpr int kPlanFormat = 6;   // of to_text
constexpr int kTemplateAbi = 5;  // must equal gdn::kTemplateAbi of templates/gdn/element.h

enum class Access : std::uint8_t { kRead, kWrite, kReadWrite };

// What an operand is to the layer; places for later operations (records, scales, workspace) are here from the start.
enum class Role : std::uint8_t {
  kInput,      // per-token rows
  kParameter,  // weights and gate parameters
  kPool,       // state kept between calls, indexed by slot
  kSlots,      // slot index per row
  kOutput,     // per-token rows
  kScale,      // quantisation scales
  kRecord,     // replay records and intermediate states of speculative decoding
  kWorkspace,
  kCounts,     // accepted tokens per sequence
  kOffsets,    // where each sequence's tokens begin: sequences + 1 numbers, ascending, the first of them 0
  kFlags,      // per sequence: 0 is no
  kSeed,       // one number that a launch's random roundings start from
  kSnapshots,  // rows whose states prefill keeps, and the slots that it keeps them in
};

enum class Leading : std::uint8_t {
  kNone,
  kToken,
  kSlot,
  kSequence,
  kScaleGroup,  // scales that lie group by group: `inner` groups, and in each a number a token, side by side
  kSnapshot,    // as many as the launch takes snapshots
};

// "none", "token", "slot", "sequence", "scale_group", "snapshot": as a dimension list names it.
std::string_view to_string(Leading leading);

struct Operand {
  std::string name;  // as the spec names the tensor: "qkvz", "conv_state", ...
  Role role = Role::kInput;
  Access access = Access::kRead;
  DType dtype = DType::kFp32;
  Leading leading = Leading::kNone;  // the dimension whose size only the caller knows
  bool launch_stride = false;        // its stride is given at launch; otherwise it is exactly `inner`
  std::int64_t inner = 0;            // elements below the leading dimension, dense and in the layout's order
  std::int64_t align = 1;            // bytes: the base address and the leading stride must be multiples of it
  bool optional = false;             // may be null
  Identity layout;
};

// What a launch has a row of blocks for.
enum class Grid : std::uint8_t { kTokens, kSequences };

// Blocks: grid.x = tokens or sequences of the launch, grid.y = blocks_per_row; or both multiplied in grid.x. CPU
// kernels take items [0, grid.x * blocks_per_row).
struct LaunchRule {
  int threads = 0;  // of a block; 1 on the CPU
  int blocks_per_row = 0;
  int shared_bytes = 0;  // dynamic shared memory; static shared memory is the compiler's business
  Grid grid = Grid::kTokens;
  bool one_dimension = false;  // all blocks in grid.x
  int cluster = 1;             // neighbouring blocks in grid.x that run at the same time
  int rows_per_block = 1;      // of grid.x
};

using Choices = std::vector<std::pair<std::string, std::int64_t>>;

// The value of a choice, or `missing` without it.
std::int64_t choice_of(const Choices& choices, std::string_view name, std::int64_t missing);

// How a launch stands to what is ahead of it in its stream.
enum class Edge : std::uint8_t {
  kPlain,         // it begins when that is through
  kProgrammatic,  // it may begin before, and waits for it itself; Args::promises says what it may read until then
};
std::string_view to_string(Edge edge);  // "plain", "programmatic"

// The edges that something is for.
enum class Edges : std::uint8_t { kBoth, kPlain, kProgrammatic };
std::string_view to_string(Edges edges);  // "both", "plain", "programmatic"
Edges only(Edge edge);
bool has(Edges edges, Edge edge);

// The same kernel made for launches of few rows, or for those on one kind of edge: its own entry point, launch rule and
// choices, everything else the plan's. Variants of equal choices are one form: they share an entry point, which may be
// the plan's.
struct Variant {
  int max_rows = 0;  // 0: any number
  std::string symbol;
  LaunchRule launch;
  Choices choices;
  Edges edges = Edges::kBoth;
};

// grid.x of a launch. Rows of the output that are to be zeroed beyond those of the launch have blocks as if they were
// its own; where a launch has blocks for sequences, some more follow, of kExcessRows rows each.
inline int grid_rows(const LaunchRule& rule, const Args& args) {
  if (rule.grid == Grid::kSequences) {
    return (args.sequences + rule.rows_per_block - 1) / rule.rows_per_block +
           (args.out_rows + kExcessRows - 1) / kExcessRows;
  }
  const int rows = args.rows > args.out_rows ? args.rows : args.out_rows;
  return (rows + rule.rows_per_block - 1) / rule.rows_per_block;
}

// A kernel of a launch behind its first one: another body over the same facts and the same block of arguments.
struct Stage {
  std::string body;    // function template: gdn::<body><Facts>(args)
  std::string symbol;  // <plan's symbol>_<body>
  LaunchRule launch;
  int resident = 0;  // blocks that have to fit on a multiprocessor: bounds a thread's registers; 0: unsaid
};

struct KernelPlan {
  std::string symbol;     // gdn_<spec>_<operation>_<target>
  std::string spec;       // qwen3_next_80b
  std::string spec_file;  // specs/qwen3_next_80b.yaml: as the emitted banner names it
  std::string operation;  // decode, unpack, conv_update, gating, delta_update, norm_quant
  std::string target;     // sm_90a, gfx942, avx512bf16, ...
  Identity identity;      // of the kernel: operation, every operand's layout, the numbers
  std::vector<Operand> operands;
  LaunchRule launch;
  Choices choices;                // tuning: ("threads", 256), ...; in the emitted facts too
  std::vector<Variant> variants;  // by max_rows, increasing, those for any number last; a launch takes the first that
                                  // it fits, or the plan's own (variant_of in arrivals.h)
  std::vector<Stage> stages;      // run behind the kernel of `symbol`, in this order
  Facts facts;
};

// One "key: value" line per field, in a fixed order, operands indented under theirs.
std::string to_text(const KernelPlan& plan);

// The inverse. Throws std::runtime_error naming the line for text that is not a plan of this format.
KernelPlan parse_plan(std::string_view text);

// The variants with an entry point of their own: of each form but the plan's the first.
std::vector<const Variant*> distinct_forms(const KernelPlan& plan);

// Whether an operation's kernel waits by itself for the launch ahead of it (wait_for_previous in templates/gdn/decode.h
// and decode_spec.h), so that it may stand on a programmatic edge.
bool waits_for_previous(std::string_view operation);

}  // namespace gdn::core
