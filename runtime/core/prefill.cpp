#include "core/prefill.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "gdn/sm90/record.h"

namespace gdn::core {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t chunk_numbers(const PrefillWork& work) {
  return sm90::chunk_numbers(work.tokens, work.sequences + work.snapshots);
}

std::int64_t slices_of_head(const PrefillWork& work) { return ceil_div(work.value_dim, 64); }

std::int64_t slices(const PrefillWork& work) { return work.sequences * work.value_heads * slices_of_head(work); }

std::int64_t longest_chunks(const PrefillWork& work) {
  const std::int64_t longest =
      work.longest > 0 ? work.longest : ceil_div(work.tokens, std::max<std::int64_t>(1, work.sequences));
  return ceil_div(longest, sm90::kChunk);
}

// Blocks of equal speed that take one chunk after the other: the longest of them, or all of them in turns. A block has
// its multiprocessor to the end, so chains of one length take whole turns.
double turns(const PrefillWork& work, std::int64_t blocks_of_sequence, int multiprocessors) {
  const std::int64_t longest = longest_chunks(work), blocks = work.sequences * blocks_of_sequence;
  if (work.longest == 0 || work.longest * work.sequences == work.tokens) {
    return static_cast<double>(longest * ceil_div(blocks, multiprocessors));
  }
  const double all =
      std::ceil(static_cast<double>(work.tokens) / sm90::kChunk) * static_cast<double>(blocks_of_sequence);
  return std::max(static_cast<double>(longest), all / multiprocessors);
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

const PrefillCosts& prefill_costs_h200(bool by_channel) {
  static const PrefillCosts by_head = {132, 1.19, 1.45, 1.05, 1.65, 2.3, 1.36, 1.33, 1.5, 8.0, 0.0272};
  static const PrefillCosts each = {132, 1.32, 1.6, 1.12, 1.9, 2.6, 1.55, 1.48, 1.5, 8.0, 0.043};
  return by_channel ? each : by_head;
}

const PrefillMachine* find_prefill_machine(std::string_view target) {
  // Pairs and segments are for warp groups alone. A chunk takes a warp 232 products (one) or 464 (two) of 16x8x16, so
  // many cycles each as a quarter of a multiprocessor needs for it, and half as long again for what is not a product.
  // Prep is what memory takes.
  const auto costs = [](int multiprocessors, double one, double two, double prepare) {
    return PrefillCosts{multiprocessors, one, one, kNever, two, two, kNever, kNever, 0, 0, prepare};
  };
  static const PrefillMachine machines[] = {
      {"sm_80", 163 * 1024, costs(108, 2.0, 3.7, 0.064)},
      {"sm_90a", 227 * 1024, costs(132, 1.4, 2.6, 0.030)},
      {"sm_100a", 227 * 1024, costs(148, 1.4, 2.6, 0.022)},
      {"sm_120a", 99 * 1024, costs(170, 4.0, 7.4, 0.055)},
  };
  const auto* const found = std::find_if(std::begin(machines), std::end(machines),
                                         [&](const PrefillMachine& machine) { return machine.target == target; });
  return found == std::end(machines) ? nullptr : found;
}

double prefill_prepare_us(const PrefillWork& work, const PrefillCosts& costs) {
  const double chunks = std::ceil(static_cast<double>(work.tokens) / sm90::kChunk);
  if (work.by_channel) return chunks * work.value_heads * costs.prepare;
  const double group = static_cast<double>(work.value_heads) / work.key_heads;
  return chunks * work.key_heads * (group + 1) / 3 * costs.prepare;
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
  best.prepare_us = prefill_prepare_us(work, costs);
  return best;
}

std::string describe(const PrefillChoice& choice) {
  std::string text(to_string(choice.form));
  if (choice.form == PrefillForm::kSegments) text += " " + std::to_string(choice.segments);
  return text;
}

std::int64_t prefill_records_bytes(const PrefillWork& work) {
  return chunk_numbers(work) *
         sm90::RecordSizes{work.key_heads, work.value_heads, work.key_dim, work.by_channel}.bytes();
}

std::int64_t prefill_workspace_bytes(const PrefillWork& work, int segments) {
  const std::int64_t ends =
      segments <= 1 ? 0
                    : work.sequences * work.value_heads * segments * 4 * sm90::end_floats(work.key_dim, work.value_dim);
  return prefill_records_bytes(work) + ends;
}

PrefillLaunches prefill_launches(const PrefillWork& work, const PrefillChoice& choice) {
  const auto u = [](std::int64_t n) { return static_cast<unsigned>(n); };
  const std::int64_t heads = work.sequences * work.value_heads, of_head = slices_of_head(work);
  PrefillLaunches launches;
  const auto add = [&](std::string_view kernel, std::int64_t x, std::int64_t y) {
    launches.list[static_cast<std::size_t>(launches.count++)] = {kernel, u(x), u(y)};
  };
  add("prep", chunk_numbers(work) * (work.by_channel ? work.value_heads : work.key_heads), 1);
  switch (choice.form) {
    case PrefillForm::kOne:
      add("one", heads * of_head, 1);
      break;
    case PrefillForm::kTwo:
      add("two", heads * of_head / 2, 1);
      break;
    case PrefillForm::kPair:
      add("pair", 2 * heads * of_head, 1);
      break;
    case PrefillForm::kSegments:
      add("carry", heads, work.value_dim / 128 * (choice.segments - 1) + work.key_dim / 128 * (choice.segments - 2));
      add("combine", heads, work.value_dim / sm90::kCombineRows);
      add("segment", heads * of_head, choice.segments);
      break;
  }
  return launches;
}

}  // namespace gdn::core
