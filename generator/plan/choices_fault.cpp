#include <fmt/format.h>

#include <algorithm>

#include "plan/block_limits.h"
#include "plan/choices.h"

namespace gdn::plan {

std::string choices_fault(const Target& target, std::string_view operation, const core::Facts& facts,
                          const Choices& choices) {
  if (target.family == Family::kCpu) return "";
  const std::int64_t threads = choice_of(choices, "threads", 0);
  // Larger blocks leave a thread too few registers to hold its part of the state.
  const bool streams = facts.state.present() && facts.chunk == 0;
  const int most_streaming = key_channel_innermost(facts) ? 512 : 256;
  const std::int64_t most = streams ? std::min(target.max_threads, most_streaming) : target.max_threads;
  if (threads < target.wave || threads > most || threads % target.wave != 0) {
    return fmt::format("threads = {} must be a multiple of {} and at most {}", threads, target.wave, most);
  }
  if (choice_of(choices, "rows_per_pass", 1) < 1) return "rows_per_pass must be at least 1";
  const std::int64_t heads = choice_of(choices, "head_parts", 1);
  const std::int64_t rows = choice_of(choices, "row_parts", 1);
  if (heads < 1 || heads > facts.group || !divides(facts.group, static_cast<int>(heads))) {
    return fmt::format("head_parts = {} leaves a block without one of the {} value heads of a key head", heads,
                       facts.group);
  }
  if (rows < 1 || facts.value_dim % (rows * (rows > 1 ? kConvChannels : 1)) != 0) {
    return fmt::format("row_parts = {} must divide dims.value = {} into multiples of {}", rows, facts.value_dim,
                       kConvChannels);
  }
  if (rows > 1 && operation != "decode" && operation != "state_commit")
    return fmt::format("row_parts = {}: only decode gathers its output", rows);
  if (operation == "decode_spec") {
    const std::int64_t lanes = choice_of(choices, "row_lanes", 0);
    if (lanes < 0 || lanes > 32 || (lanes & (lanes - 1)) != 0) {
      return fmt::format("row_lanes = {} must be a power of two up to 32, or 0", lanes);
    }
    if (heads > 1 && !target.clusters) {
      return fmt::format("head_parts = {}: {} has no clusters, so one block must serve a key head", heads, target.name);
    }
    if (heads > kMostOfCluster) {
      return fmt::format("head_parts = {}: a cluster has at most {} blocks", heads, kMostOfCluster);
    }
    const std::int64_t products = choice_of(choices, "products", 0);
    if (products != 0 && products != 1) return fmt::format("products = {} must be 0 or 1", products);
    if (const std::string fault = products_fault(target, facts); products != 0 && !fault.empty()) {
      return fmt::format("products = 1: {}", fault);
    }
    if (heads > 1 && !tokens_take_one_turn(facts, static_cast<int>(heads), products != 0)) {
      return fmt::format("head_parts = {}: the tokens of a block's value heads need more shared memory than it has",
                         heads);
    }
  }
  const std::int64_t arrivals = choice_of(choices, "arrivals", 0);
  if (arrivals != 0 && (arrivals != 1 || operation != "decode")) {
    return fmt::format("arrivals = {}: 0 or 1, and only parts of decode can meet in memory", arrivals);
  }
  if (operation == "decode" && heads * rows > 1) {
    if (target.clusters && arrivals == 0 && heads * rows > kMostOfCluster) {
      return fmt::format(
          "head_parts * row_parts = {}: a cluster has at most {} blocks; with arrivals = 1 they are none", heads * rows,
          kMostOfCluster);
    }
    if (!takes_one_turn(facts, static_cast<int>(heads))) {
      return fmt::format("head_parts = {}: a block's value heads need more shared memory than it has", heads);
    }
  }
  if (const std::int64_t skew = choice_of(choices, "skew", 0); skew != 0 && skew != 1) {
    return fmt::format("skew = {} must be 0 or 1", skew);
  }
  const std::int64_t evicts = choice_of(choices, "evict_first", 0);
  if (evicts != 0 && (evicts != 1 || operation != "decode_spec")) {
    return fmt::format("evict_first = {}: 0 or 1, of decode_spec", evicts);
  }
  if (evicts != 0 && choice_of(choices, "products", 0) != 0) {
    return "evict_first = 1: products store their states without hints";
  }
  for (const char* const name : {"fixed_heads", "in_turns"}) {
    const std::int64_t chosen = choice_of(choices, name, 0);
    if (chosen != 0 && (chosen != 1 || operation != "decode" || facts.group % heads != 0 ||
                        !takes_one_turn(facts, static_cast<int>(heads)))) {
      return fmt::format("{} = {}: 0 or 1, and only where decode's blocks take as many value heads in one turn", name,
                         chosen);
    }
  }
  if (choice_of(choices, "in_turns", 0) != 0 && !key_channel_innermost(facts)) {
    return "in_turns = 1: only for a state with the key channel innermost";
  }
  const std::int64_t at_once = choice_of(choices, "at_once", 0);
  if (at_once != 0 && (at_once != 1 || operation != "decode" || !key_channel_innermost(facts) ||
                       core::size_of(facts.state.dtype) != 2 || works_hard(facts))) {
    return fmt::format(
        "at_once = {}: 0 or 1, of decode over a state of 16 bits with the key channel innermost that is "
        "rounded to nearest",
        at_once);
  }
  for (const char* const name : {"weights_ahead", "norm_ahead"}) {
    const std::int64_t weights = choice_of(choices, name, 0);
    if (weights != 0 && (weights != 1 || operation != "decode")) {
      return fmt::format("{} = {}: 0 or 1, of decode", name, weights);
    }
  }
  const std::int64_t order = choice_of(choices, "row_order", 0);
  if (order < 0 || order > 3 || (order > 0 && (operation != "decode" || !key_channel_innermost(facts)))) {
    return fmt::format("row_order = {}: 0 to 3, and only of decode over a state with the key channel innermost", order);
  }
  const std::int64_t ahead = choice_of(choices, "ahead", 0);
  if (ahead < 0 || ahead > 64 || (ahead > 0 && (!streams || !key_channel_innermost(facts)))) {
    return fmt::format("ahead = {}: 0 to 64, and only for a state with the key channel innermost", ahead);
  }
  if (ahead > 0 && order > 0) return "ahead is of passes that are runs of rows, which those of row_order are not";
  const std::int64_t interleave = choice_of(choices, "interleave", 0);
  if (interleave != 0 && (interleave != 1 || operation != "decode_spec" || !key_channel_innermost(facts))) {
    return fmt::format("interleave = {}: 0 or 1, and only of decode_spec over a state with the key channel innermost",
                       interleave);
  }
  if (const std::int64_t inbox = choice_of(choices, "inbox", 0); inbox != 0) {
    if (inbox < 0 || inbox > 2 || (operation != "decode_spec" && (operation != "decode" || inbox > 1))) {
      return fmt::format("inbox = {}: 0 to 2 of decode_spec, 0 or 1 of decode", inbox);
    }
    if (const std::string fault = inbox_fault(target, operation, facts, choices); !fault.empty()) {
      return fmt::format("inbox = {}: {}", inbox, fault);
    }
  }
  const std::int64_t resident = choice_of(choices, "resident", 0);
  if (resident < 0 || resident * threads > 2048) {
    return fmt::format("resident = {}: a multiprocessor holds at most 2048 threads, and a block has {}", resident,
                       threads);
  }
  return "";
}

}  // namespace gdn::plan
