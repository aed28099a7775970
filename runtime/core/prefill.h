// How a chunked prefill is spread over a GPU of the family sm_90a, and the memory that it needs between its kernels:
// pure functions of sizes that the caller knows before a launch. templates/gdn/sm90 holds the kernels.
//
// A slice is 64 value columns of one value head of one sequence: a chain of chunks that only its own state connects.
#pragma once

#include <cstdint>
#include <string_view>

namespace gdn::core {

struct PrefillWork {
  int key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  std::int64_t tokens = 0;  // of all sequences
  std::int64_t sequences = 1;
  std::int64_t longest = 0;  // tokens of the longest sequence; 0: not known, all are taken to be of equal length
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

// One H200.
const PrefillCosts& prefill_costs_h200();

struct PrefillChoice {
  PrefillForm form = PrefillForm::kOne;
  int segments = 1;
  double chain_us = 0, prepare_us = 0;  // estimates
};

// The form that the estimates call fastest, among those that can hold the work: two slices a block need an even number
// of slices a head, segments K and V of whole pairs of slices.
PrefillChoice choose_prefill(const PrefillWork& work, const PrefillCosts& costs);

// The estimate of one form; infinity where it can't hold the work. `segments` counts for kSegments alone.
double prefill_chain_us(const PrefillWork& work, const PrefillCosts& costs, PrefillForm form, int segments = 1);

// Bytes of the workspace; its start is a multiple of 128. Records of all chunks, then the ends of the segments.
std::int64_t prefill_workspace_bytes(const PrefillWork& work, int segments = 1);
std::int64_t prefill_records_bytes(const PrefillWork& work);

}  // namespace gdn::core
