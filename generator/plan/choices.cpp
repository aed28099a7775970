#include "plan/choices.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/prefill.h"

namespace gdn::plan {
namespace {

constexpr int kMostOfCluster = 8;  // blocks of a cluster that every device of a target with clusters can place
constexpr int kConvChannels = 4;   // channels that a thread may convolve at once: a part has whole groups of them
constexpr int kStaticShared = 48 * 1024;
constexpr int kReservedShared = 2048;  // what alignment and mailboxes take at most
constexpr int kTurnNumbers = 6144;     // of templates/gdn/delta.h: what a turn keeps in shared memory

// Without clusters: what a block that has a multiprocessor to itself reads and writes of the state, and what it costs
// to hand o over in memory: 0.5 us until the state's stores are acknowledged (measured on an H200,
// tests/bench/NOTES.md), and some 0.7 us for the counter and for o to come back from the L2.
constexpr double kBlockBytesPerUs = 64e3;
constexpr double kHandOverUs = 1.2;

// Whether the state's memory has the key channel innermost: (V, K). The body deals such a state out by rows; any other
// one by columns or element by element.
bool key_channel_innermost(const core::Facts& facts) { return facts.state.inner_stride == 1; }

struct Shape {
  int threads = 256;
  int rows_per_pass = 4;
  int head_parts = 1;
  int row_parts = 1;
  bool heads_first = true;
  int resident = 0;
};

Choices choices_of(const Shape& shape) {
  return {{"threads", shape.threads},     {"rows_per_pass", shape.rows_per_pass},     {"head_parts", shape.head_parts},
          {"row_parts", shape.row_parts}, {"heads_first", shape.heads_first ? 1 : 0}, {"resident", shape.resident}};
}

// Whether `parts` blocks can share `group` value heads so that none is without.
bool divides(int group, int parts) { return (parts - 1) * ((group + parts - 1) / parts) < group; }

// Whether a part takes its heads in one turn, as parts of a key head have to.
bool takes_one_turn(const core::Facts& facts, int parts) {
  const int numbers = 3 * facts.value_dim + (facts.rule == core::Rule::kKda ? facts.key_dim : 0);
  return (facts.group + parts - 1) / parts * numbers <= std::max(kTurnNumbers, numbers);
}

// The same of decode_spec, whose parts keep all tokens' numbers.
bool tokens_take_one_turn(const core::Facts& facts, int parts, bool products) {
  return shared_bytes_of_tokens(facts, (facts.group + parts - 1) / parts, products) <= kStaticShared;
}

// Why decode_spec can't take products of warps; empty: it can.
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

// Why a block of decode_spec can't have its states come to shared memory at once; empty: it can.
std::string inbox_fault(const Target& target, const core::Facts& facts, const Choices& choices) {
  const core::Map& state = facts.state;
  const auto bytes = static_cast<std::int64_t>(core::size_of(state.dtype));
  const auto parts = static_cast<int>(choice_of(choices, "head_parts", 1));
  const core::PrefillMachine* const machine = core::find_prefill_machine(target.name);
  if (!target.clusters || machine == nullptr) {
    return fmt::format("{} has no requests for whole runs of memory", target.name);
  }
  if (choice_of(choices, "products", 0) != 0) return "products take their operands from memory";
  if (bytes == 1) return "the rows of an 8-bit state have scales beside them";
  if (!key_channel_innermost(facts) || state.outer_stride != facts.key_dim || state.align * bytes % 16 != 0 ||
      facts.key_dim * bytes % 16 != 0) {
    return "a head's state is no run of rows of key channels in pieces of 16 bytes";
  }
  if (!tokens_take_one_turn(facts, parts, false)) return "a block's value heads take several turns";
  const int heads = (facts.group + parts - 1) / parts;
  const std::int64_t all = inbox_bytes(facts, choices) + shared_bytes_of_tokens(facts, heads) + kReservedShared;
  if (all <= machine->shared_bytes) return "";
  return fmt::format("states and tokens need {} bytes of shared memory, and a block has {}", all,
                     machine->shared_bytes);
}

// Whether two such blocks have room on a multiprocessor: it takes 1 KB of each, and has 1 KB more than a block may
// have.
bool two_inboxes_fit(const Target& target, const core::Facts& facts) {
  constexpr int kSystem = 1024, kMailboxes = 256;
  const core::PrefillMachine* const machine = core::find_prefill_machine(target.name);
  if (machine == nullptr) return false;
  const std::int64_t each =
      inbox_bytes(facts, {{"inbox", 1}}) + shared_bytes_of_tokens(facts, facts.group) + kMailboxes + kSystem;
  return 2 * each <= machine->shared_bytes + kSystem;
}

// The most blocks, up to `most`, that can share the value heads of a key head.
int head_parts(const core::Facts& facts, int most) {
  int parts = std::min(facts.group, most);
  while (!divides(facts.group, parts)) --parts;
  return parts;
}

// States of 8 bits have scales to make, states rounded by chance a random word for each number: more registers for the
// same part of a state.
bool works_hard(const core::Facts& facts) {
  return core::size_of(facts.state.dtype) == 1 || (facts.stochastic_state && facts.seed_operand >= 0);
}

// Whether a thread has the registers it needs where a wish for resident blocks bounds them: for Blackwell's 16-bit
// states the compiler spills.
bool wishes_fit(const Target& target, const core::Facts& facts) {
  const bool half = core::size_of(facts.state.dtype) == 2;
  return !works_hard(facts) && (!half || (target.name != "sm_100a" && target.name != "sm_120a"));
}

// Where nothing is wished for: without a wish for one block, NVIDIA's compilers may keep to fewer registers and spill.
int least_resident(const core::Facts& facts) { return works_hard(facts) ? 1 : 0; }

// One block serves a key head, whatever the number of rows.
Shape whole_heads(const Target& target, const core::Facts& facts) {
  Shape shape;
  if (works_hard(facts) && key_channel_innermost(facts)) shape.rows_per_pass = 2;
  if (target.family != Family::kCuda) return shape;
  const bool half = core::size_of(facts.state.dtype) == 2;
  if (key_channel_innermost(facts)) {
    // As much of the state under way as registers hold; 16-bit states take twice the arithmetic a byte and want more
    // blocks instead.
    shape = {half ? 256 : 512, 4};
    shape.resident = half ? 3 : 2;
  } else {
    shape = {128, 16};
    shape.resident = 4;
  }
  if (works_hard(facts)) {
    shape.threads = std::min(shape.threads, 256);
    if (key_channel_innermost(facts)) shape.rows_per_pass = 2;
  }
  if (!wishes_fit(target, facts)) shape.resident = least_resident(facts);
  return shape;
}

// Few rows leave multiprocessors idle when one block serves a key head. Value heads are split first, for that costs
// nothing but reading q and k twice; their value channels only if that is not enough, for then o has to be gathered.
// All figures were measured on an H200 (tests/bench/NOTES.md); what is written here are numbers of blocks.
std::vector<Band> decode_bands(const Target& target, const core::Facts& facts) {
  std::vector<Band> bands;
  const bool rows = key_channel_innermost(facts);
  const bool half = core::size_of(facts.state.dtype) == 2;
  const bool hard = works_hard(facts);
  const bool wishes = wishes_fit(target, facts);
  // Launches of so many rows that there are at most `most` blocks.
  const auto up_to = [&](int most, const Shape& shape) {
    const int blocks = facts.key_heads * shape.head_parts * shape.row_parts;
    const int max_rows = most / blocks;
    if (max_rows == 0 || (!bands.empty() && bands.back().max_rows >= max_rows)) return;
    if (facts.value_dim % (shape.row_parts * kConvChannels) != 0 || !takes_one_turn(facts, shape.head_parts)) return;
    Shape held = shape;
    if (!wishes) held.resident = least_resident(facts);
    if (hard && rows) held.rows_per_pass = 2;
    bands.push_back({max_rows, choices_of(held)});
  };
  const int one_each = target.processors;
  Shape shape;
  shape.row_parts = rows ? 4 : 2;
  shape.head_parts = head_parts(facts, kMostOfCluster / shape.row_parts);
  shape.rows_per_pass = rows ? 4 : 16;
  up_to(one_each, shape);
  // A thread of so large a block has the registers for one piece of a row.
  if (rows && !half && !hard && facts.key_dim % 128 == 0) {
    Shape large{512, 4};
    large.row_parts = 2;
    up_to(one_each, large);
  }
  shape.row_parts = 1;
  shape.head_parts = head_parts(facts, kMostOfCluster);
  shape.rows_per_pass = !rows ? 16 : half || facts.key_dim % 128 != 0 ? 4 : 8;
  // A slab needs more registers than two such blocks leave each other, and more than the compiler takes unasked.
  shape.resident = rows ? 2 : 1;
  up_to(rows ? 2 * one_each : one_each, shape);
  if (rows && shape.head_parts > 1) {
    // Small blocks that fit four at a time even out better, until there are some 16 for each multiprocessor.
    shape.rows_per_pass = 4;
    shape.resident = 4;
    up_to(16 * one_each, shape);
  }
  Shape many = whole_heads(target, facts);
  if (!rows && takes_one_turn(facts, shape.head_parts)) many.head_parts = shape.head_parts;
  bands.push_back({0, choices_of(many)});
  return bands;
}

// Where blocks can't be a cluster they meet in memory. A meeting of readers alone costs nothing that anybody waits for,
// so value heads part as long as multiprocessors would be idle; value channels do while half of those would be, where a
// shorter stream of the state saves more than handing o over costs.
std::vector<Band> memory_bands(const Target& target, const core::Facts& facts) {
  std::vector<Band> bands;
  const bool rows = key_channel_innermost(facts);
  Shape shape;
  shape.rows_per_pass = !rows ? 16 : works_hard(facts) ? 2 : 4;
  shape.resident = 1;  // without the wish NVIDIA's compilers keep to fewer registers, and spill
  shape.head_parts = head_parts(facts, kMostOfCluster);
  const auto add = [&](int row_parts) {
    shape.row_parts = row_parts;
    const int parts = shape.head_parts * row_parts;
    const int most_blocks = row_parts > 1 ? 2 * target.processors : target.processors;
    const int max_rows = most_blocks / (facts.key_heads * parts);
    if (parts == 1 || max_rows == 0 || (!bands.empty() && bands.back().max_rows >= max_rows)) return;
    if (facts.value_dim % (row_parts * kConvChannels) != 0 || !takes_one_turn(facts, shape.head_parts)) return;
    bands.push_back({max_rows, choices_of(shape)});
  };
  const int heads = (facts.group + shape.head_parts - 1) / shape.head_parts;
  const double stream_us = 2.0 * heads * facts.key_dim * facts.value_dim *
                           static_cast<double>(core::size_of(facts.state.dtype)) / kBlockBytesPerUs;
  for (const int parts : {4, 2}) {
    if (stream_us / parts + kHandOverUs < stream_us) add(parts);
  }
  add(1);
  bands.push_back({0, choices_of(whole_heads(target, facts))});
  return bands;
}

// Several tokens a state: q and k come from shared memory for each, and the state stays in registers as fp32. Sums over
// lanes are what a multiprocessor is slowest at: at 32 lanes a row, 10 shuffles for each row and token, 4 tokens of 16
// sequences of 16/32 heads would keep an H200 at them for 11 us; at 8 lanes it is a sixth of that, and a thread still
// has the registers for two rows under way. Few sequences leave multiprocessors idle unless their value heads part. Two
// blocks a multiprocessor, which NVIDIA's compilers miss by a few registers unless they are told. Replay has little to
// write and much to read from shared memory, in 16 bits at every other 16 bytes: sums of several tokens and records in
// fp32 keep a multiprocessor busier than memory does, so that warps multiply matrices where they can.
std::vector<Band> draft_bands(const Target& target, const core::Facts& facts) {
  const int resident = key_channel_innermost(facts) && wishes_fit(target, facts) ? 2 : least_resident(facts);
  const bool half =
      target.family == Family::kCuda && key_channel_innermost(facts) && core::size_of(facts.state.dtype) == 2;
  const bool replays = facts.rollback == core::Rollback::kReplay, slots = facts.rollback == core::Rollback::kSlots;
  const bool products = products_fault(target, facts).empty();
  // Slots are all stores, which go best in longer runs of a row, and where few sequences are at work at a time: one
  // block of 512 threads fills a multiprocessor as two of 256 do, with half as many (measured on an H200,
  // tests/bench/NOTES.md).
  const bool wide = slots && target.family == Family::kCuda;
  const bool fills = wide && resident == 2;
  // With more sequences than two rounds of such blocks take, all of a block's states are asked for at once: 1 to
  // 2% in 16 bits and up to 1% in 32 for 32 and 64 sequences on an H200, where fewer would lose 1% on programmatic
  // edges.
  const bool inbox = fills && inbox_fault(target, facts, {{"inbox", 1}}).empty();
  // In 16 bits that goes for smaller blocks too, two of them beside each other, as long as all are at work at once and
  // one large block a multiprocessor is not enough: 4 to 5% for 16 sequences on an H200.
  const bool pairs = half && inbox && two_inboxes_fit(target, facts);
  const auto choices = [&](int parts, bool large) {
    if (products) {
      // One request for a whole pass, which sm_90a and sm_100a have, pays (measured on an H200); one for each line
      // doesn't.
      return Choices{{"threads", 256}, {"head_parts", parts}, {"row_parts", 1},
                     {"resident", 2},  {"products", 1},       {"ahead", target.clusters ? 1 : 0}};
    }
    const bool runs = wide && parts == 1;
    Choices made = {{"threads", large ? 512 : 256}, {"rows_per_pass", 4}, {"row_lanes", runs ? 16 : 8},
                    {"head_parts", parts},          {"row_parts", 1},     {"resident", large ? 1 : resident}};
    if (half && (replays || slots)) made.emplace_back("interleave", replays || runs ? 1 : 0);
    return made;
  };
  std::vector<Band> bands;
  const int parts = target.clusters ? head_parts(facts, kMostOfCluster) : 1;
  const int sequences = 2 * target.processors / (facts.key_heads * parts);
  if (parts > 1 && sequences > 0 && tokens_take_one_turn(facts, parts, products)) {
    bands.push_back({sequences * facts.tokens, choices(parts, false)});
  }
  // 16-bit states, whose blocks compute more for each byte, want others beside them once they take turns, unless their
  // loads are ahead of everything.
  const int together = 2 * target.processors / facts.key_heads;
  if (fills && (half || inbox) && together > (bands.empty() ? 0 : sequences)) {
    const int alone = target.processors / facts.key_heads;
    if (pairs && alone > (bands.empty() ? 0 : sequences)) bands.push_back({alone * facts.tokens, choices(1, true)});
    bands.push_back({together * facts.tokens, choices(1, !pairs)});
  }
  bands.push_back({0, choices(1, fills && (!half || inbox))});
  // What a form leaves out is the last one's.
  for (Band& band : bands) {
    const bool asks = band.max_rows == 0 || (pairs && band.max_rows == together * facts.tokens);
    if (inbox) band.choices.emplace_back("inbox", asks ? 1 : 0);
  }
  return bands;
}

// A thread per value head, or for kda per four key channels of one: their gates are all there is to compute.
std::int64_t gating_threads(const Target& target, const core::Facts& facts) {
  const int decays = facts.rule == core::Rule::kKda ? facts.group * facts.key_dim : 1;
  int threads = target.wave;
  while (threads < 128 && threads * 4 < decays) threads *= 2;
  return threads;
}

// Value heads of a block of a norm: whole groups of a quantised output, one head a wave if there are so few.
int norm_heads(const Target& target, const core::Facts& facts, int threads) {
  const int unit = facts.quant_group > 0 ? std::lcm(facts.quant_group, facts.value_dim) / facts.value_dim : 1;
  int heads = unit;
  for (int more = unit; more <= std::min(threads / target.wave, facts.value_heads); more += unit) {
    if (facts.value_heads % more == 0) heads = more;
  }
  return heads;
}

// The plain bodies of prefill: a few lanes share a value channel's state, each so many key channels of it as registers
// hold; the rest of a block goes to neighbouring value channels.
Choices prefill_choices(const Target& target, std::string_view operation, const core::Facts& facts) {
  constexpr int kThreads = 128;
  // AMD's compilers fetch so far ahead that half as many key channels a thread are all that fits beside it.
  const int most_channels = target.family == Family::kHip ? 16 : 32;
  const std::int64_t lanes = facts.key_dim > 4 * most_channels && facts.key_dim % 32 == 0 ? 8 : 4;
  // One block at least on a multiprocessor: without the wish, NVIDIA's compilers keep to fewer registers and spill.
  Choices choices = {{"threads", kThreads}, {"columns", kThreads / lanes}, {"resident", 1}};
  if (operation == "prefill" && facts.norm_w.present()) {
    // Of the norm behind it: several for a wave, so that finding a row's sequence counts for less. Where groups
    // straddle heads a wave with several would compute each of them twice.
    const bool straddles = facts.quant_group > 0 && facts.value_dim % facts.quant_group != 0;
    choices.emplace_back("heads_per_block", norm_heads(target, facts, straddles ? kThreads : 4 * kThreads));
  }
  return choices;
}

// Rows that a thread walks: a mask of lanes for each of them, of which AMD's compilers keep too many in scalar
// registers.
Choices convolution_choices(const Target& target) {
  if (target.family == Family::kHip) return {{"threads", 128}, {"tile_rows", 64}, {"rows_per_pass", 4}};
  return {{"threads", 128}, {"tile_rows", 64}, {"rows_per_pass", 8}, {"resident", 4}};
}

constexpr int kNormThreads = 256;

// A block of norm_quant takes a head a wave, but never a part of a group: whole units of as many heads as a whole
// number of groups fills, and a number of them that divides the row.
// The CPU's chunks. Whole tiles: dimensions and the last chunk are padded with zeros to them. Two parts where roundings
// add up over a chunk's tokens: tests/bench/NOTES.md has what each costs and brings.
Choices chunk_choices(const core::Facts& facts) {
  Choices choices = {{"tile_rows", 16}, {"tile_bytes", 64}, {"inverse_parts", 2}, {"output_parts", 2}};
  if (facts.rule == core::Rule::kKda) choices.emplace_back("decayed_key_parts", 2);
  return choices;
}

}  // namespace

std::int64_t shared_bytes_of_tokens(const core::Facts& facts, int heads, bool products) {
  const bool replays = facts.rollback == core::Rollback::kReplay;
  const int decays = facts.rule == core::Rule::kKda ? facts.key_dim : 1;
  const int of_keys = facts.key_dim * (replays ? 3 : 2) + 1;
  const int of_values = facts.value_dim * (replays ? 3 : 2) + decays * (replays ? 2 : 1) + 1;
  // Operands and factors of products (tokens_shared.h).
  const std::int64_t of_products = products ? 16 * facts.key_dim + heads * 84 : 0;
  return 4 * (std::int64_t{facts.tokens} * (of_keys + heads * of_values) + of_products + 64);
}

std::int64_t inbox_bytes(const core::Facts& facts, const Choices& choices) {
  if (choice_of(choices, "inbox", 0) == 0) return 0;
  const std::int64_t parts = choice_of(choices, "head_parts", 1);
  const auto bytes = static_cast<std::int64_t>(core::size_of(facts.state.dtype));
  return (facts.group + parts - 1) / parts * facts.key_dim * facts.value_dim * bytes;
}

std::int64_t shared_bytes_of_groups(const Target& target, const core::Facts& facts) {
  const int piece = std::gcd(facts.quant_group, facts.value_dim);
  const std::int64_t channels = std::int64_t{norm_heads(target, facts, kNormThreads)} * facts.value_dim;
  return 4 * (channels / piece + channels / facts.quant_group);
}

// Parts of a value head's state that blocks of state_commit take: some 4096 numbers each for few sequences, for they
// need not meet, and one sequence can have as many as fill a GPU. Many sequences have enough blocks of whole heads, and
// where a block waits for records before its first number is there larger ones wait less often.
std::vector<Band> commit_bands(const Target& target, const core::Facts& facts) {
  constexpr int kHeadsEach = 2;  // of a multiprocessor, beyond which parts of them no longer pay
  int parts = 1;
  while (parts < 16 && facts.key_dim * facts.value_dim > 4096 * parts &&
         facts.value_dim % (2 * parts * kConvChannels) == 0) {
    parts *= 2;
  }
  // NVIDIA's compilers spill for targets without clusters where four blocks have to fit (80 registers are 8% slower on
  // an H200), and for works_hard() where they are told nothing.
  const bool replays = facts.rollback == core::Rollback::kReplay;
  const int wished = replays && target.clusters ? 4 : 3;
  const int resident = target.family != Family::kCuda ? 0 : works_hard(facts) ? 1 : wished;
  const auto choices = [&](int row_parts) -> Choices {
    return {{"threads", 256},
            {"rows_per_pass", 1},
            {"head_parts", facts.group},
            {"row_parts", row_parts},
            {"resident", resident}};
  };
  std::vector<Band> bands;
  const int sequences = kHeadsEach * target.processors / facts.value_heads;
  if (replays && parts > 1 && sequences > 0) bands.push_back({sequences, choices(parts)});
  bands.push_back({0, choices(replays ? 1 : parts)});
  return bands;
}

std::vector<Band> model_bands(const Target& target, std::string_view operation, const core::Facts& facts) {
  if (target.family == Family::kCpu) {
    if (operation == "chunk_delta" || operation == "prefill") return {{0, chunk_choices(facts)}};
    return {{}};
  }
  if (operation == "chunk_delta" || operation == "prefill") return {{0, prefill_choices(target, operation, facts)}};
  // Rows of a block: what it reads of the tile before is little, and there are blocks enough.
  if (operation == "conv_prefill") return {{0, convolution_choices(target)}};
  if (operation == "decode_spec") return draft_bands(target, facts);
  if (operation == "state_commit") return commit_bands(target, facts);
  if (facts.state.present()) {
    if (operation == "decode") return target.clusters ? decode_bands(target, facts) : memory_bands(target, facts);
    return {{0, choices_of(whole_heads(target, facts))}};
  }
  if (operation == "norm_quant") {
    const int heads = norm_heads(target, facts, kNormThreads);
    return {{0, {{"threads", std::min(kNormThreads, heads * target.wave)}, {"heads_per_block", heads}}}};
  }
  // The other operations move a few kilobytes a block: more threads than channels only idle.
  const int channels = 2 * facts.key_dim + facts.group * facts.value_dim;
  const std::int64_t threads = operation == "gating" ? gating_threads(target, facts) : channels <= 128 ? 128 : 256;
  return {{0, {{"threads", std::min<std::int64_t>(threads, target.max_threads)}, {"rows_per_pass", 4}}}};
}

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
  const std::int64_t weights = choice_of(choices, "weights_ahead", 0);
  if (weights != 0 && (weights != 1 || operation != "decode")) {
    return fmt::format("weights_ahead = {}: 0 or 1, of decode", weights);
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
    if (inbox != 1 || operation != "decode_spec") return fmt::format("inbox = {}: 0 or 1, of decode_spec", inbox);
    if (const std::string fault = inbox_fault(target, facts, choices); !fault.empty()) {
      return fmt::format("inbox = 1: {}", fault);
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
