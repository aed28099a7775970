#include "sequences.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>

#include "check.h"
#include "error.h"

namespace gdn::runtime {
namespace {

using core::KernelPlan;
using core::Rollback;

[[noreturn]] void fail(Code code, const KernelPlan& plan, const std::string& text) {
  throw Error(code, plan.symbol + ": " + text);
}

class Reader {
 public:
  Reader(const KernelPlan& plan, const Args& args, const OperandReader& reader, Moment moment)
      : plan_(plan),
        args_(args),
        reader_(reader),
        moment_(moment),
        offsets_(numbers(plan.facts.offsets_operand, args.sequences + 1)) {
    accepted_ = numbers(plan.facts.accepted_operand, args.sequences);
  }

  std::vector<DraftedSequence> run() {
    std::vector<DraftedSequence> sequences;
    for (int i = 0; i < args_.sequences; ++i) sequences.push_back(sequence(i));
    check_repeated(sequences);
    return sequences;
  }

 private:
  // `count` integers, a stride apart.
  std::vector<std::int64_t> numbers(int operand, int count) const {
    if (operand < 0) return {};
    const auto& info = plan_.operands[static_cast<std::size_t>(operand)];
    std::vector<std::int64_t> values;
    for (int i = 0; i < count; ++i) values.push_back(number(operand, info.dtype, i * args_.stride[operand]));
    return values;
  }

  std::int64_t number(int operand, core::DType dtype, std::int64_t at) const {
    const auto* from =
        static_cast<const std::uint8_t*>(args_.operand[operand]) + at * static_cast<std::int64_t>(core::size_of(dtype));
    std::int64_t value = 0;
    reader_.read(&value, from, core::size_of(dtype));
    return core::index_at(dtype, &value, 0);
  }

  std::int64_t slot(int sequence, int step) const {
    const int operand = plan_.facts.slots_operand;
    return number(operand, plan_.facts.slot_dtype, sequence * args_.stride[operand] + step);
  }

  DraftedSequence sequence(int i) const {
    const core::Facts& facts = plan_.facts;
    DraftedSequence result;
    if (!offsets_.empty()) {
      const std::int64_t begin = offsets_[static_cast<std::size_t>(i)], end = offsets_[static_cast<std::size_t>(i) + 1];
      if ((i == 0 && begin != 0) || end < begin || end > args_.rows) {
        fail(Code::kBadArgument, plan_,
             fmt::format("sequence {} has rows {} to before {} by cu_seqlens: offsets ascend from 0 to at most the {} "
                         "rows of the launch",
                         i, begin, end, args_.rows));
      }
      if (end - begin > facts.tokens) {
        fail(Code::kBadArgument, plan_,
             fmt::format("sequence {} has {} tokens: the kernel was made for at most {} (speculative.tokens)", i,
                         end - begin, facts.tokens));
      }
      result.first = static_cast<int>(begin), result.tokens = static_cast<int>(end - begin);
    }
    result.window = slot(i, 0);
    result.padding = is_padding(facts.padding, result.window);
    if (result.padding) return result;
    if (!accepted_.empty()) {
      const std::int64_t counted = accepted_[static_cast<std::size_t>(i)];
      const std::int64_t tokens = std::max<std::int64_t>(counted + (facts.counts == core::Counts::kDrafts ? 1 : 0), 0);
      if (tokens > facts.tokens) {
        fail(Code::kBadArgument, plan_,
             fmt::format("sequence {} accepted {} tokens (accepted = {}), and a launch has at most {}", i, tokens,
                         counted, facts.tokens));
      }
      result.accepted = static_cast<int>(tokens);
    }
    const bool commits = offsets_.empty();
    if (facts.rollback == Rollback::kSlots) {
      result.read = {expect_slot(i, std::max(result.accepted - 1, 0))};
      for (int step = 0; step < (commits ? 1 : result.tokens); ++step) result.written.push_back(expect_slot(i, step));
      expect_slot(i, 0);
    } else {
      result.read = {expect_slot(i, 0)};
      if (commits || facts.rollback == Rollback::kReplay) result.written = result.read;
    }
    if (facts.rollback == Rollback::kReplay && result.accepted > 0 && moment_ == Moment::kBefore)
      expect_record(i, result);
    return result;
  }

  std::int64_t expect_slot(int sequence, int step) const {
    const std::int64_t value = slot(sequence, step);
    if (value >= 0 && value < args_.slots) return value;
    fail(Code::kSlotOutOfRange, plan_,
         fmt::format("sequence {} has slot {} for its token {}, and the pools have slots 0 to {}", sequence, value,
                     step, args_.slots - 1));
  }

  // The last accepted token must have been one of the launch that left the records.
  void expect_record(int i, const DraftedSequence& sequence) const {
    const core::Map& map = plan_.facts.record_decay;
    const std::int64_t at =
        sequence.window * args_.stride[map.operand] + map.offset + (sequence.accepted - 1) * map.tap_stride;
    float decay = 0;
    reader_.read(&decay, static_cast<const float*>(args_.operand[map.operand]) + at, sizeof(decay));
    if (decay >= 0) return;
    fail(Code::kBadArgument, plan_,
         fmt::format("sequence {} accepted {} tokens, and slot {} has no record of so many: its last launch had fewer",
                     i, sequence.accepted, sequence.window));
  }

  // A slot that one sequence writes is no other's.
  void check_repeated(const std::vector<DraftedSequence>& sequences) const {
    std::map<std::int64_t, std::size_t> owner;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      if (sequences[i].padding) continue;
      std::vector<std::int64_t> written = sequences[i].written;
      written.push_back(sequences[i].window);  // its windows are written whatever becomes of the states
      std::sort(written.begin(), written.end());
      for (std::size_t j = 0; j < written.size(); ++j) {
        const auto [at, first] = owner.emplace(written[j], i);
        if (first || at->second == i) continue;
        fail(Code::kSlotRepeated, plan_,
             fmt::format("sequences {} and {} both write slot {}: each needs slots of its own", at->second, i,
                         written[j]));
      }
    }
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      for (const std::int64_t slot : sequences[i].read) {
        const auto at = owner.find(slot);
        if (at == owner.end() || at->second == i) continue;
        fail(Code::kSlotRepeated, plan_,
             fmt::format("sequence {} starts from slot {}, which sequence {} writes", i, slot, at->second));
      }
    }
  }

  const KernelPlan& plan_;
  const Args& args_;
  const OperandReader& reader_;
  Moment moment_;
  std::vector<std::int64_t> offsets_, accepted_;
};

}  // namespace

bool is_padding(core::Padding padding, std::int64_t slot) {
  return (padding == core::Padding::kNegative && slot < 0) || (padding == core::Padding::kZeroOrNegative && slot <= 0);
}

std::vector<DraftedSequence> read_sequences(const KernelPlan& plan, const Args& args, const OperandReader& reader,
                                            Moment moment) {
  return Reader(plan, args, reader, moment).run();
}

namespace {

// `count` integers side by side.
std::vector<std::int64_t> read_numbers(const OperandReader& reader, core::DType dtype, const void* from, int count) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count) * core::size_of(dtype));
  reader.read(bytes.data(), from, bytes.size());
  std::vector<std::int64_t> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(core::index_at(dtype, bytes.data(), i));
  return numbers;
}

}  // namespace

void check_snapshots(const KernelPlan& plan, const Args& args, const OperandReader& reader) {
  const core::Facts& facts = plan.facts;
  if (!facts.snapshots || args.operand[facts.snapshot_rows_operand] == nullptr ||
      args.operand[facts.snapshot_slots_operand] == nullptr) {
    return;
  }
  const auto count = static_cast<int>(args.stride[facts.snapshot_rows_operand]);
  const std::vector<std::int64_t> rows =
      read_numbers(reader, facts.offset_dtype, args.operand[facts.snapshot_rows_operand], count);
  const std::vector<std::int64_t> slots =
      read_numbers(reader, facts.slot_dtype, args.operand[facts.snapshot_slots_operand], count);
  std::map<std::int64_t, std::string> owner;
  if (const void* own = args.operand[facts.slots_operand]; own != nullptr) {
    const std::vector<std::int64_t> of = read_numbers(reader, facts.slot_dtype, own, args.sequences);
    for (std::size_t i = 0; i < of.size(); ++i) owner.emplace(of[i], fmt::format("sequence {}", i));
  } else {
    for (int i = 0; i < args.sequences; ++i) owner.emplace(i, fmt::format("sequence {}", i));
  }
  std::int64_t before = -1;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] <= before || rows[i] >= args.rows) {
      fail(
          Code::kBadArgument, plan,
          fmt::format("snapshot {} is behind row {}, and the one before behind row {}: rows ascend, and the launch has "
                      "rows 0 to {}",
                      i, rows[i], before, args.rows - 1));
    }
    before = rows[i];
    if (is_padding(facts.padding, slots[i])) continue;
    if (slots[i] < 0 || slots[i] >= args.slots) {
      fail(Code::kSlotOutOfRange, plan,
           fmt::format("snapshot {} has slot {}, and the pools have slots 0 to {}", i, slots[i], args.slots - 1));
    }
    const auto [at, first] = owner.emplace(slots[i], fmt::format("snapshot {}", i));
    if (first) continue;
    fail(Code::kSlotRepeated, plan,
         fmt::format("snapshot {} has slot {}, which {} has: a snapshot needs a slot of its own", i, slots[i],
                     at->second));
  }
}

void check_indices(const KernelPlan& plan, const Args& args, const OperandReader& reader) {
  check_snapshots(plan, args, reader);
  const int operand = plan.facts.slots_operand;
  if (operand < 0 || args.operand[operand] == nullptr) return;
  if (plan.facts.rollback != Rollback::kNone) {
    read_sequences(plan, args, reader, Moment::kBefore);
    return;
  }
  const int rows = slot_rows(plan, args);
  std::vector<std::uint8_t> values(static_cast<std::size_t>(rows) * core::size_of(plan.facts.slot_dtype));
  reader.read(values.data(), args.operand[operand], values.size());
  check_slots(plan, rows, args.slots, values.data());
}

}  // namespace gdn::runtime
