#include "core/prefill.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gdn/sm90/record.h"

namespace gdn::core {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t slices_of_head(const PrefillWork& work) { return ceil_div(work.value_dim, 64); }

std::int64_t slices(const PrefillWork& work) { return work.sequences * work.value_heads * slices_of_head(work); }

std::int64_t longest_chunks(const PrefillWork& work) {
  const std::int64_t longest =
      work.longest > 0 ? work.longest : ceil_div(work.tokens, std::max<std::int64_t>(1, work.sequences));
  return ceil_div(longest, sm90::kChunk);
}

// Blocks of equal speed that take one chunk after the other: the longest of them, or all of them in turns.
double turns(const PrefillWork& work, std::int64_t blocks_of_sequence, int multiprocessors) {
  const auto longest = static_cast<double>(longest_chunks(work));
  const double all =
      std::ceil(static_cast<double>(work.tokens) / sm90::kChunk) * static_cast<double>(blocks_of_sequence);
  return std::max(longest, all / multiprocessors);
}

double segments_us(const PrefillWork& work, const PrefillCosts& costs, int segments) {
  const std::int64_t chunks = longest_chunks(work), heads = work.sequences * work.value_heads;
  if (work.key_dim % 128 != 0 || work.value_dim % 128 != 0) return kNever;
  if (segments < 3 || segments * slices(work) > costs.multiprocessors || chunks / segments < 16) return kNever;
  const std::int64_t carried = heads * (work.value_dim / 128 * (segments - 1) + work.key_dim / 128 * (segments - 2));
  const double waves = static_cast<double>(ceil_div(carried, costs.multiprocessors));
  return static_cast<double>(ceil_div(chunks, segments)) * (costs.segment + costs.carry * waves) +
         (segments - 1) * costs.combine + costs.cut;
}

}  // namespace

std::string_view to_string(PrefillForm form) {
  switch (form) {
    case PrefillForm::kOne:
      return "one";
    case PrefillForm::kTwo:
      return "two";
    case PrefillForm::kPair:
      return "pair";
    case PrefillForm::kSegments:
      return "segments";
  }
  return "?";
}

const PrefillCosts& prefill_costs_h200() {
  static const PrefillCosts costs = {132, 1.19, 1.45, 1.05, 1.65, 2.3, 1.36, 1.33, 1.5, 8.0, 0.0272};
  return costs;
}

double prefill_chain_us(const PrefillWork& work, const PrefillCosts& costs, PrefillForm form, int segments) {
  const std::int64_t all = slices(work), of_head = slices_of_head(work);
  const auto crowded = [&](std::int64_t blocks) { return 4 * blocks > 3 * costs.multiprocessors; };
  switch (form) {
    case PrefillForm::kOne:
      return turns(work, work.value_heads * of_head, costs.multiprocessors) *
             (crowded(all) ? costs.one_crowded : costs.one);
    case PrefillForm::kTwo:
      if (of_head % 2 != 0) return kNever;
      return turns(work, work.value_heads * of_head / 2, costs.multiprocessors) *
             (crowded(all / 2) ? costs.two_crowded : costs.two);
    case PrefillForm::kPair:
      // Clusters of two fill a GPU but for a multiprocessor in clusters of odd size; with more blocks than that the
      // second half would wait.
      if (2 * all > costs.multiprocessors) return kNever;
      return static_cast<double>(longest_chunks(work)) * costs.pair;
    case PrefillForm::kSegments:
      return segments_us(work, costs, segments);
  }
  return kNever;
}

PrefillChoice choose_prefill(const PrefillWork& work, const PrefillCosts& costs) {
  PrefillChoice best;
  best.chain_us = kNever;
  const auto consider = [&](PrefillForm form, int segments) {
    const double us = prefill_chain_us(work, costs, form, segments);
    if (us < best.chain_us) best.form = form, best.segments = segments, best.chain_us = us;
  };
  consider(PrefillForm::kOne, 1);
  consider(PrefillForm::kTwo, 1);
  consider(PrefillForm::kPair, 1);
  for (int segments = 3; segments * slices(work) <= costs.multiprocessors; ++segments) {
    consider(PrefillForm::kSegments, segments);
  }
  const double group = static_cast<double>(work.value_heads) / work.key_heads;
  best.prepare_us =
      std::ceil(static_cast<double>(work.tokens) / sm90::kChunk) * work.key_heads * (group + 1) / 3 * costs.prepare;
  return best;
}

std::int64_t prefill_records_bytes(const PrefillWork& work) {
  return sm90::chunk_numbers(work.tokens, work.sequences) *
         sm90::record_bytes(work.key_heads, work.value_heads, work.key_dim);
}

std::int64_t prefill_workspace_bytes(const PrefillWork& work, int segments) {
  const std::int64_t ends =
      segments <= 1 ? 0
                    : work.sequences * work.value_heads * segments * 4 * sm90::end_floats(work.key_dim, work.value_dim);
  return prefill_records_bytes(work) + ends;
}

}  // namespace gdn::core
