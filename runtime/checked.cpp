#include "checked.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "error.h"
#include "sequences.h"

namespace gdn::runtime {
namespace {

using core::KernelPlan;
using core::Operand;

// Exponent bits all set and a fraction: integers compare faster than conversions.
template <class Bits>
std::int64_t first_nan(const std::vector<std::uint8_t>& bytes, Bits magnitude, Bits infinity) {
  for (std::size_t at = 0; at + sizeof(Bits) <= bytes.size(); at += sizeof(Bits)) {
    Bits value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof(Bits));
    if (static_cast<Bits>(value & magnitude) > infinity) return static_cast<std::int64_t>(at / sizeof(Bits));
  }
  return -1;
}

// The first element that is NaN; -1 for none.
std::int64_t first_nan(const std::vector<std::uint8_t>& bytes, core::DType dtype) {
  switch (dtype) {
    case core::DType::kFp32:
      return first_nan<std::uint32_t>(bytes, 0x7fffffffu, 0x7f800000u);
    case core::DType::kBf16:
      return first_nan<std::uint16_t>(bytes, 0x7fff, 0x7f80);
    case core::DType::kFp16:
      return first_nan<std::uint16_t>(bytes, 0x7fff, 0x7c00);
    case core::DType::kE4m3fn:
      return first_nan<std::uint8_t>(bytes, 0x7f, 0x7e);
    case core::DType::kE4m3fnuz:
      for (std::size_t at = 0; at < bytes.size(); ++at) {
        if (bytes[at] == 0x80) return static_cast<std::int64_t>(at);
      }
      return -1;
    case core::DType::kInt32:
    case core::DType::kInt64:
    case core::DType::kUint8:
      return -1;
  }
  return -1;
}

[[noreturn]] void fail_nan(const KernelPlan& plan, const Operand& operand, Moment moment, const std::string& whose,
                           std::int64_t slot, std::int64_t element) {
  throw Error(Code::kNanInState,
              fmt::format("{}: operation {}: operand {} holds NaN {} the launch: {}, slot {}, element {} of {} in {}{}",
                          plan.symbol, plan.operation, operand.name, moment == Moment::kBefore ? "before" : "after",
                          whose, slot, element, operand.inner, operand.layout.text,
                          moment == Moment::kBefore ? ". Nothing was launched"
                                                    : ": an input of this row was not finite, or overflowed"));
}

// The same of operations that draft: the states that sequences start from before the launch, and those that they wrote
// after it. Inputs of tokens in a window may be those of rejected ones, and are nobody's business.
void check_drafts(const KernelPlan& plan, const Args& args, const OperandReader& reader, Moment moment) {
  const std::vector<DraftedSequence> sequences = read_sequences(plan, args, reader, moment);
  const int index = plan.facts.state.operand;
  const Operand& operand = plan.operands[static_cast<std::size_t>(index)];
  const auto element = static_cast<std::int64_t>(core::size_of(operand.dtype));
  std::vector<std::uint8_t> contents(static_cast<std::size_t>(operand.inner * element));
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    if (sequences[i].padding) continue;
    for (const std::int64_t slot : moment == Moment::kBefore ? sequences[i].read : sequences[i].written) {
      const auto* base = static_cast<const std::uint8_t*>(args.operand[index]);
      reader.read(contents.data(), base + slot * args.stride[index] * element, contents.size());
      const std::int64_t found = first_nan(contents, operand.dtype);
      if (found >= 0) fail_nan(plan, operand, moment, fmt::format("sequence {}", i), slot, found);
    }
  }
}

}  // namespace

void HostReader::read(void* to, const void* from, std::size_t bytes) const { std::memcpy(to, from, bytes); }

bool checked_mode() {
  const char* value = std::getenv("GDN_CHECK");
  if (value == nullptr || *value == 0 || std::strcmp(value, "0") == 0) return false;
  if (std::strcmp(value, "1") == 0) return true;
  throw Error(Code::kBadArgument, fmt::format("GDN_CHECK={}: it is 0 (off) or 1 (on)", value));
}

void check_contents(const KernelPlan& plan, const Args& args, const OperandReader& reader, Moment moment) {
  if (moment == Moment::kBefore) check_snapshots(plan, args, reader);
  const int operand_of_slots = plan.facts.slots_operand;
  if (operand_of_slots < 0 || args.operand[operand_of_slots] == nullptr) return;
  if (plan.facts.rollback != core::Rollback::kNone) {
    check_drafts(plan, args, reader, moment);
    return;
  }
  const int rows = slot_rows(plan, args);
  const core::DType dtype = plan.facts.slot_dtype;
  std::vector<std::uint8_t> indices(static_cast<std::size_t>(rows) * core::size_of(dtype));
  reader.read(indices.data(), args.operand[operand_of_slots], indices.size());
  if (moment == Moment::kBefore) check_slots(plan, rows, args.slots, indices.data());

  // A new sequence of prefill does not read what its slot's last owner left.
  const bool read = plan.facts.chunk == 0 || plan.facts.initial_states == core::InitialStates::kAll;
  if (moment == Moment::kBefore && !read) return;
  std::vector<std::uint8_t> contents;
  for (std::size_t i = 0; i < plan.operands.size(); ++i) {
    const Operand& operand = plan.operands[i];
    if (operand.role != core::Role::kPool || args.operand[i] == nullptr) continue;
    const auto element = static_cast<std::int64_t>(core::size_of(operand.dtype));
    contents.resize(static_cast<std::size_t>(operand.inner * element));
    for (int row = 0; row < rows; ++row) {
      const std::int64_t slot = core::index_at(dtype, indices.data(), row);
      if (is_padding(plan.facts.padding, slot)) continue;
      const auto* base = static_cast<const std::uint8_t*>(args.operand[i]);
      reader.read(contents.data(), base + slot * args.stride[i] * element, contents.size());
      const std::int64_t found = first_nan(contents, operand.dtype);
      if (found >= 0) fail_nan(plan, operand, moment, fmt::format("row {}", row), slot, found);
    }
  }
}

}  // namespace gdn::runtime
