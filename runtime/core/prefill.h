// How a chunked prefill is spread over an NVIDIA GPU, and the memory that it needs between its kernels: pure functions
// of sizes that the caller knows before a launch. There are two sets of kernels: templates/gdn/sm90, by products of
// warp groups, and templates/gdn/mma, by products of single warps.
//
// A slice is 64 value columns of one value head of one sequence: a chain of chunks that only its own state connects.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/plan.h"

namespace gdn::core {

struct PrefillWork {
  int key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  std::int64_t tokens = 0;  // of all sequences
  std::int64_t sequences = 1;
  std::int64_t longest = 0;    // tokens of the longest sequence; 0: not known, all are taken to be of equal length
  bool by_channel = false;     // a value head's key channels decay each at its own rate (kda)
  std::int64_t snapshots = 0;  // states kept on the way: each ends a chunk early
};

enum class PrefillForm : std::uint8_t {
  kOne,       // a block a slice
  kTwo,       // a block two slices of a head
  kPair,      // two blocks a slice: recurrence and outputs on two multiprocessors
  kSegments,  // sequences cut in pieces that are worked through side by side, then again with the right first states
};

std::string_view to_string(PrefillForm form);

// What the kernels take, in microseconds, measured on one GPU (tests/bench/NOTES.md).
struct PrefillCosts {
  int multiprocessors = 0;
  double one = 0, one_crowded = 0;  // a chunk; crowded: more than three quarters of the multiprocessors busy
  double pair = 0;
  double two = 0, two_crowded = 0;
  double carry = 0, segment = 0;  // a chunk of the first and the second pass over segments
  double combine = 0, cut = 0;    // a segment's join; the launches that cutting adds
  double prepare = 0;             // a chunk and key head of one value head, with all multiprocessors at it
};

// One H200. Where key channels decay each at its own rate, predicted.
const PrefillCosts& prefill_costs_h200(bool by_channel = false);

struct PrefillChoice {
  PrefillForm form = PrefillForm::kOne;
  int segments = 1;
  double chain_us = 0, prepare_us = 0;  // estimates
};

// What the products of single warps take on a target's usual GPU, predicted from the matrix units' rate
// (tests/bench/NOTES.md), and the shared memory that a block can have there.
struct PrefillMachine {
  std::string_view target;
  int shared_bytes;
  PrefillCosts costs;  // of K = 128
};

// Null for a target that has no such kernels.
const PrefillMachine* find_prefill_machine(std::string_view target);

// The form that the estimates call fastest, among those that can hold the work: two slices a block need an even number
// of slices a head, segments K and V of whole pairs of slices.
PrefillChoice choose_prefill(const PrefillWork& work, const PrefillCosts& costs);

// The estimate of one form; infinity where it can't hold the work. `segments` counts for kSegments alone.
double prefill_chain_us(const PrefillWork& work, const PrefillCosts& costs, PrefillForm form, int segments = 1);
// And of what comes before the chain, for all of the launch.
double prefill_prepare_us(const PrefillWork& work, const PrefillCosts& costs);

// Bytes of the workspace; its start is a multiple of 128. Records of all chunks, then the ends of the segments.
std::int64_t prefill_workspace_bytes(const PrefillWork& work, int segments = 1);
std::int64_t prefill_records_bytes(const PrefillWork& work);

// ---- of a plan that takes a workspace
//
// Its last operand has the role kWorkspace. It is one of two:
//   chunk_delta, prefill    on NVIDIA, where a set of kernels holds them; it may be left out: the launch is then the
//   one
//                           kernel of the plan's symbol. With it the launch is several kernels, whose symbols begin
//                           with the plan's. prefill has rows of v and o before what chunk_delta's kernels have in
//                           it, unless `out` can hold them, as it must where no norm follows
//   prefill, by GPUs        o on its way to the norm, where `out` can't hold it (8 bits, or fewer than rounding.o has):
//                           such a workspace can't be left out
// Rows come first in it; in Args they are the operand behind the workspace.

// Index of that operand; -1: the plan takes none.
int workspace_operand(const KernelPlan& plan);

// The kernels that a launch with the workspace is.
enum class PrefillSet : std::uint8_t {
  kNone,        // the plan's one kernel
  kWarpGroups,  // templates/gdn/sm90
  kWarps,       // templates/gdn/mma
};

// By the plan's choice "warps", if it is not 0, those of single warps wherever both hold the work.
PrefillSet prefill_set(const KernelPlan& plan);

// What a target has for an operation (chunk_delta, or prefill) of these facts: warp groups before single warps.
PrefillSet prefill_set(std::string_view target, std::string_view operation, const Facts& facts);

// Whether `out` can't hold o of a GPU's prefill, whose workspace then does: [row][value head][value channel] as
// rounding.o. Bytes of one row; bytes of all rows of a prefill with a workspace, a multiple of 128, 0 of other plans.
bool holds_o(const KernelPlan& plan);

// Whether the kernels of a prefill with a workspace pass v, and then o, in rows of `out`: 16-byte pieces of 16 bits.
bool rows_in_out(const KernelPlan& plan);
std::int64_t held_row_bytes(const Facts& facts);
std::int64_t held_bytes(const KernelPlan& plan, int rows);

// Whether Hopper's kernels can hold chunk_delta of these facts: chunks of 64, K up to 128, q, k, v and o in 16 bits and
// 16-byte pieces.
bool holds_hopper_prefill(const Facts& facts);

// The same of prefill: q, k and v of the projections so, and the conv's results and o rounded to 16 bits; where no norm
// follows, `out` so as well.
bool holds_hopper_layer(const Facts& facts);

// The same of kernels of single warps, but with K up to 256 and as far as a block's shared memory goes.
bool holds_warp_prefill(const PrefillMachine& machine, const Facts& facts);
bool holds_warp_layer(const PrefillMachine& machine, const Facts& facts);

PrefillWork prefill_work(const KernelPlan& plan, int rows, int sequences, int snapshots = 0);

// Snapshots that a launch takes: as many as its list of rows has, if it has one of slots as well.
int snapshots_of(const KernelPlan& plan, const Args& args);

// What a launch does: choose_prefill with the costs of an H200, or of the target's machine, or what the plan's choice
// "form" says: 1 one, 2 two, 3 pair, 4 and more that many less 1 segments. It depends on the numbers of rows and
// sequences alone, so a workspace can be kept for the largest launch. Estimates are those of the form that is taken.
PrefillChoice prefill_choice(const KernelPlan& plan, int rows, int sequences);

// The same on a device whose blocks can have so much shared memory: code for sm_80 runs on GPUs with 99 KB too (sm_86,
// sm_89). Such a device takes the forms that fit, and the plan's one kernel where none does.
PrefillChoice prefill_choice(const KernelPlan& plan, int rows, int sequences, int shared_bytes);
bool prefill_fits(const KernelPlan& plan, int shared_bytes);

// "pair", "segments 8".
std::string describe(const PrefillChoice& choice);

// Bytes of the workspace operand for a launch; 0 where the plan takes none. A decode's is that of arrivals.h.
std::int64_t workspace_bytes(const KernelPlan& plan, int rows, int sequences, int snapshots = 0);

// The most that a launch of so many rows needs, however many sequences they are in, at most `most_sequences`, among
// them snapshots if the plan keeps any; of a decode the most that a launch of up to so many rows needs.
std::int64_t most_workspace_bytes(const KernelPlan& plan, int rows, int most_sequences);

// A kernel of the module: its symbol is the plan's, an underscore and this name; its body gdn::<body>.
struct PrefillKernel {
  std::string_view name, body;
  int threads, blocks_per_processor, cluster, shared_bytes;
};

// All that a spec's sizes allow; none where the plan has no such set.
std::vector<PrefillKernel> prefill_kernels(const KernelPlan& plan);

struct PrefillLaunch {
  std::string_view kernel;
  unsigned grid_x, grid_y;
};

// In order. Allocates nothing.
struct PrefillLaunches {
  std::array<PrefillLaunch, 4> list;
  int count = 0;
};
PrefillLaunches prefill_launches(const PrefillWork& work, const PrefillChoice& choice);

// Whether the launches of a plan behind its first one, stages among them, begin before the one ahead of them has ended:
// their kernels then wait for what they need, and say when the next may begin.
bool prefill_overlaps(const KernelPlan& plan, const PrefillChoice& choice);

}  // namespace gdn::core
