#include "plan/choices.h"

#include <algorithm>
#include <numeric>

#include "core/prefill.h"
#include "plan/block_limits.h"

namespace gdn::plan {
namespace {

// Without clusters: what a block that has a multiprocessor to itself reads and writes of the state, and what it costs
// to hand o over in memory: 0.5 us until the state's stores are acknowledged (measured on an H200,
// tests/bench/NOTES.md), and some 0.7 us for the counter and for o to come back from the L2.
constexpr double kBlockBytesPerUs = 64e3;
constexpr double kHandOverUs = 1.2;

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

// Whether two blocks with inboxes have room on a multiprocessor: it takes 1 KB of each, and has 1 KB more than a block
// may have.
bool two_inboxes_fit(const Target& target, const core::Facts& facts, int inbox) {
  constexpr int kSystem = 1024, kMailboxes = 256;
  const core::PrefillMachine* const machine = core::find_prefill_machine(target.name);
  if (machine == nullptr) return false;
  const std::int64_t each =
      inbox_bytes(facts, {{"inbox", inbox}}) + shared_bytes_of_tokens(facts, facts.group) + kMailboxes + kSystem;
  return 2 * each <= machine->shared_bytes + kSystem;
}

// The most blocks, up to `most`, that can share the value heads of a key head.
int head_parts(const core::Facts& facts, int most) {
  int parts = std::min(facts.group, most);
  while (!divides(facts.group, parts)) --parts;
  return parts;
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

// States of 16 bits with the value channel innermost: a slab takes so many registers that two blocks of them fill a
// multiprocessor, while heads that come to shared memory leave room for twice as many blocks. On an H200 8 to 256 rows
// take 4 to 10% less on plain edges, up to 15% on programmatic ones; states of 32 bits gain nothing.
std::vector<Band> inbox_bands(const Target& target, const core::Facts& facts) {
  constexpr int kBeside = 12 * 1024;  // of a block, beside its states
  constexpr int kMostResident = 4;    // beyond which a thread has too few registers
  Shape shape{256, 16};
  shape.head_parts = head_parts(facts, kMostOfCluster);
  const Choices inbox = {{"head_parts", shape.head_parts}, {"inbox", 1}};
  if (key_channel_innermost(facts) || core::size_of(facts.state.dtype) != 2 || works_hard(facts) ||
      !wishes_fit(target, facts) || !inbox_fault(target, "decode", facts, inbox).empty()) {
    return {};
  }
  std::vector<Band> bands;
  const auto add = [&](int max_rows, int resident) {
    shape.resident = resident;
    bands.push_back({max_rows, choices_of(shape)});
    for (const char* const name : {"weights_ahead", "norm_ahead", "inbox"}) bands.back().choices.emplace_back(name, 1);
  };
  const std::int64_t fit =
      core::find_prefill_machine(target.name)->shared_bytes / (inbox_bytes(facts, inbox) + kBeside);
  // Where two blocks a multiprocessor are enough for all rows, a thread may have the registers for them.
  if (fit > 2) add(2 * target.processors / (facts.key_heads * shape.head_parts), 2);
  if (fit > 0) add(0, static_cast<int>(std::min<std::int64_t>(kMostResident, fit)));
  return bands;
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
  if (std::vector<Band> inboxes = inbox_bands(target, facts); !inboxes.empty()) {
    // What a form leaves out is the last one's.
    for (Band& band : bands) {
      band.choices.insert(band.choices.end(), {{"weights_ahead", 1}, {"norm_ahead", 1}, {"inbox", 0}});
    }
    for (Band& band : inboxes) {
      if (band.max_rows == 0 || bands.empty() || band.max_rows > bands.back().max_rows) bands.push_back(band);
    }
    return bands;
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
  const bool inbox = fills && inbox_fault(target, "decode_spec", facts, {{"inbox", 1}}).empty();
  // In 16 bits that goes for smaller blocks too, two of them beside each other, as long as all are at work at once and
  // one large block a multiprocessor is not enough: 4 to 5% for 16 sequences on an H200.
  const bool pairs = half && inbox && two_inboxes_fit(target, facts, 1);
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
  // In 32 bits two smaller blocks have room for all but half a head each, which comes to registers: 1 to 3% less, but
  // for so few sequences that many of them have a multiprocessor to themselves.
  Choices small = choices(1, false);
  small.emplace_back("inbox", 2);
  const bool beside =
      !half && inbox && two_inboxes_fit(target, facts, 2) && inbox_fault(target, "decode_spec", facts, small).empty();
  std::vector<Band> bands;
  const int parts = target.clusters ? head_parts(facts, kMostOfCluster) : 1;
  const int sequences = 2 * target.processors / (facts.key_heads * parts);
  if (parts > 1 && sequences > 0 && tokens_take_one_turn(facts, parts, products)) {
    bands.push_back({sequences * facts.tokens, choices(parts, false)});
  }
  // 16-bit states, whose blocks compute more for each byte, want others beside them once they take turns, unless their
  // loads are ahead of everything.
  const int together = (beside ? 7 * target.processors / 4 : 2 * target.processors) / facts.key_heads;
  if (fills && (half || inbox) && together > (bands.empty() ? 0 : sequences)) {
    const int alone = target.processors / facts.key_heads;
    if (pairs && alone > (bands.empty() ? 0 : sequences)) bands.push_back({alone * facts.tokens, choices(1, true)});
    bands.push_back({together * facts.tokens, choices(1, !pairs)});
  }
  bands.push_back({0, choices(1, fills && (!half || inbox) && !beside)});
  // What a form leaves out is the last one's. What two blocks store while states come to shared memory makes room for
  // them: of one large block that costs 2% on programmatic edges.
  for (Band& band : bands) {
    const bool asks = band.max_rows == 0 || (pairs && band.max_rows == together * facts.tokens);
    if (inbox) band.choices.emplace_back("inbox", !asks ? 0 : beside ? 2 : 1);
    if (inbox) band.choices.emplace_back("evict_first", asks && (beside || band.max_rows > 0) ? 1 : 0);
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

}  // namespace

std::int64_t shared_bytes_of_groups(const Target& target, const core::Facts& facts) {
  const int piece = std::gcd(facts.quant_group, facts.value_dim);
  const std::int64_t channels = std::int64_t{norm_heads(target, facts, kNormThreads)} * facts.value_dim;
  return 4 * (channels / piece + channels / facts.quant_group);
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

}  // namespace gdn::plan
