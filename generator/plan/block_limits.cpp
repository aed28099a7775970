#include "plan/block_limits.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/prefill.h"

namespace gdn::plan {
namespace {

constexpr int kStaticShared = 48 * 1024;
constexpr int kReservedShared = 2048;  // what alignment and mailboxes take at most
constexpr int kTurnNumbers = 6144;     // of templates/gdn/delta.h: what a turn keeps in shared memory
constexpr int kNumbersOfPass = 32;     // of templates/gdn/token_rows.h: what a thread has of a pass at most

}  // namespace

bool key_channel_innermost(const core::Facts& facts) { return facts.state.inner_stride == 1; }

bool divides(int group, int parts) { return (parts - 1) * ((group + parts - 1) / parts) < group; }

bool takes_one_turn(const core::Facts& facts, int parts) {
  const int numbers = 3 * facts.value_dim + (facts.rule == core::Rule::kKda ? facts.key_dim : 0);
  return (facts.group + parts - 1) / parts * numbers <= std::max(kTurnNumbers, numbers);
}

bool tokens_take_one_turn(const core::Facts& facts, int parts, bool products) {
  return shared_bytes_of_tokens(facts, (facts.group + parts - 1) / parts, products) <= kStaticShared;
}

std::string products_fault(const Target& target, const core::Facts& facts) {
  const core::Map& state = facts.state;
  if (target.family != Family::kCuda) return "only NVIDIA's warps multiply matrices here";
  if (facts.rollback != core::Rollback::kReplay || facts.rule != core::Rule::kGdn) return "only gdn's replay";
  if (facts.tokens > 4) return "a launch has more than 4 tokens";
  if (state.dtype != core::DType::kBf16) return "the state is not in bf16";
  if (state.inner_stride != 1 || facts.key_dim % 32 != 0) return "rows of the state are no runs of 32 key channels";
  if (facts.value_dim % 16 != 0) return "dims.value is no multiple of a product's 16 rows";
  if (state.align % 8 != 0 || state.outer_stride % 8 != 0) return "rows of the state do not begin at 16 bytes";
  if (shared_bytes_of_tokens(facts, 1, true) > kStaticShared) return "the operands need more shared memory than it has";
  return "";
}

std::string inbox_fault(const Target& target, std::string_view operation, const core::Facts& facts,
                        const core::Choices& choices) {
  const core::Map& state = facts.state;
  const bool drafts = operation == "decode_spec";
  const auto bytes = static_cast<std::int64_t>(core::size_of(state.dtype));
  const auto parts = static_cast<int>(core::choice_of(choices, "head_parts", 1));
  const core::PrefillMachine* const machine = core::find_prefill_machine(target.name);
  if (!target.clusters || machine == nullptr) {
    return fmt::format("{} has no requests for whole runs of memory", target.name);
  }
  if (core::choice_of(choices, "products", 0) != 0) return "products take their operands from memory";
  if (bytes == 1) return "the rows of an 8-bit state have scales beside them";
  const bool of_keys = key_channel_innermost(facts) && state.outer_stride == facts.key_dim;
  const bool of_values = !drafts && state.outer_stride == 1 && state.inner_stride == facts.value_dim;
  const int row = of_keys ? facts.key_dim : facts.value_dim;
  if ((!of_keys && !of_values) || state.align * bytes % 16 != 0 || row * bytes % 16 != 0) {
    return fmt::format("a head's state is no run of rows{} in pieces of 16 bytes", drafts ? " of key channels" : "");
  }
  for (const char* const name : {"in_turns", "at_once", "ahead"}) {
    if (!drafts && core::choice_of(choices, name, 0) != 0) {
      return fmt::format("{} is of states that come to registers", name);
    }
  }
  if (!drafts && core::choice_of(choices, "row_parts", 1) != 1) return "a block has parts of value heads";
  if (drafts ? !tokens_take_one_turn(facts, parts, false) : !takes_one_turn(facts, parts)) {
    return "a block's value heads take several turns";
  }
  if (core::choice_of(choices, "inbox", 0) == 2) {
    const std::int64_t lanes = core::choice_of(choices, "row_lanes", 0);
    const std::int64_t teams = core::choice_of(choices, "threads", 0) / std::max<std::int64_t>(lanes, 1);
    const std::int64_t most = std::max<std::int64_t>(1, kNumbersOfPass * lanes / facts.key_dim);
    const std::int64_t rows = teams * std::min(core::choice_of(choices, "rows_per_pass", 1), most);
    if (lanes == 0 || facts.key_dim % (lanes * 16 / bytes) != 0 || rows == 0 || facts.value_dim % (2 * rows) != 0) {
      return "half a value head is no whole number of passes";
    }
  }
  const int heads = (facts.group + parts - 1) / parts;
  const std::int64_t beside = drafts ? shared_bytes_of_tokens(facts, heads) : kStaticShared;  // at most
  const std::int64_t all = inbox_bytes(facts, choices) + beside + kReservedShared;
  if (all <= machine->shared_bytes) return "";
  return fmt::format("states and {} need {} bytes of shared memory, and a block has {}", drafts ? "tokens" : "a token",
                     all, machine->shared_bytes);
}

bool works_hard(const core::Facts& facts) {
  return core::size_of(facts.state.dtype) == 1 || (facts.stochastic_state && facts.seed_operand >= 0);
}

std::int64_t shared_bytes_of_tokens(const core::Facts& facts, int heads, bool products) {
  const bool replays = facts.rollback == core::Rollback::kReplay;
  const int decays = facts.rule == core::Rule::kKda ? facts.key_dim : 1;
  const int of_keys = facts.key_dim * (replays ? 3 : 2) + 1;
  const int of_values = facts.value_dim * (replays ? 3 : 2) + decays * (replays ? 2 : 1) + 1;
  // Operands and factors of products (tokens_shared.h).
  const std::int64_t of_products = products ? 16 * facts.key_dim + heads * 84 : 0;
  return 4 * (std::int64_t{facts.tokens} * (of_keys + heads * of_values) + of_products + 64);
}

std::int64_t inbox_bytes(const core::Facts& facts, const core::Choices& choices) {
  if (core::choice_of(choices, "inbox", 0) == 0) return 0;
  const std::int64_t parts = core::choice_of(choices, "head_parts", 1);
  const auto bytes = static_cast<std::int64_t>(core::size_of(facts.state.dtype));
  const std::int64_t head = facts.key_dim * facts.value_dim * bytes;
  const std::int64_t beside = core::choice_of(choices, "inbox", 0) == 2 ? head / 2 : 0;
  return (facts.group + parts - 1) / parts * head - beside;
}

}  // namespace gdn::plan
