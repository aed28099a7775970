#include "probe/probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.h"
#include "error.h"

namespace gdn::runtime {
namespace {

// Integers up to 256 are exact in bf16 and all wider types, up to 16 in e4m3.
constexpr std::int64_t kBase = 255, kBaseOfFp8 = 15;
constexpr std::int64_t kNoNumber = -1;

bool is_fp8(core::DType dtype) { return dtype == core::DType::kE4m3fn || dtype == core::DType::kE4m3fnuz; }

// A small positive integer in a dtype's own bits.
std::uint32_t bits_of(std::int64_t value, core::DType dtype) {
  const auto number = static_cast<float>(value);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &number, sizeof(bits));
  const std::uint32_t exponent = (bits >> 23) - 127;
  const std::uint32_t fraction = bits & 0x7fffffu;
  switch (dtype) {
    case core::DType::kFp32:
      return bits;
    case core::DType::kBf16:
      return bits >> 16;
    case core::DType::kFp16:
      return (exponent + 15) << 10 | fraction >> 13;
    case core::DType::kE4m3fn:
      return (exponent + 7) << 3 | fraction >> 20;
    case core::DType::kE4m3fnuz:
      return (exponent + 8) << 3 | fraction >> 20;
    case core::DType::kInt32:
    case core::DType::kInt64:
    case core::DType::kUint8:
      return static_cast<std::uint32_t>(value);
  }
  return 0;
}

}  // namespace

Probe::Probe(const core::KernelPlan& plan, int rows, const Views& views) : plan_(plan), rows_(rows), base_(kBase) {
  if (rows < 1) throw Error(Code::kBadArgument, fmt::format("a probe of {} rows: there must be at least 1", rows));
  if (views.size() != plan.operands.size()) {
    throw Error(Code::kBadArgument, fmt::format("{}: {} views given for a probe, the kernel has {} operands",
                                                plan.symbol, views.size(), plan.operands.size()));
  }
  std::int64_t number = 0;
  for (std::size_t i = 0; i < plan.operands.size(); ++i) {
    const core::Operand& operand = plan.operands[i];
    const View& view = views[i];
    const bool indices = operand.role == core::Role::kSlots || operand.role == core::Role::kOffsets ||
                         operand.role == core::Role::kFlags || operand.role == core::Role::kCounts ||
                         operand.role == core::Role::kScale || operand.role == core::Role::kSeed ||
                         operand.role == core::Role::kSnapshots;
    const bool take = !indices && view.data != nullptr;
    data_.push_back(take ? view.data : nullptr);
    first_.push_back(number);
    stride_.push_back(operand.inner);
    if (!take) continue;
    if (view.dtype != operand.dtype) {
      throw Error(Code::kDtypeMismatch,
                  fmt::format("{}: operand {}: the kernel was made for {} and the view is {}", plan.symbol,
                              operand.name, core::to_string(operand.dtype), core::to_string(view.dtype)));
    }
    if (operand.leading != core::Leading::kNone) {
      if (view.sizes.empty() || view.strides.empty() || view.sizes[0] < rows) {
        throw Error(Code::kSizeMismatch, fmt::format("{}: operand {}: a probe of {} rows needs a view with as many",
                                                     plan.symbol, operand.name, rows));
      }
      if (view.sizes[0] > 1) stride_.back() = view.strides[0];
    }
    if (is_fp8(operand.dtype)) base_ = kBaseOfFp8;
    number += rows_of(i) * operand.inner;
  }
  first_.push_back(number);
  for (std::int64_t rest = std::max<std::int64_t>(number - 1, 0); passes_ == 0 || rest > 0; rest /= base_) ++passes_;
  for (Part& part : parts_of(plan)) {
    if (data_[static_cast<std::size_t>(part.map.operand)] != nullptr) parts_.push_back(std::move(part));
  }
  seen_.resize(parts_.size());
  passes_read_.resize(parts_.size());
}

std::int64_t Probe::rows_of(std::size_t operand) const {
  return plan_.operands[operand].leading == core::Leading::kNone ? 1 : rows_;
}

std::size_t Probe::size_of(const Part& part) const {
  return static_cast<std::size_t>(rows_of(static_cast<std::size_t>(part.map.operand)) * part.elements());
}

void Probe::fill(int pass, const Write& write) const {
  std::int64_t unit = 1;
  for (int i = 0; i < pass; ++i) unit *= base_;
  std::vector<std::uint8_t> row;
  for (std::size_t i = 0; i < plan_.operands.size(); ++i) {
    if (data_[i] == nullptr) continue;
    const core::Operand& operand = plan_.operands[i];
    const std::size_t bytes = core::size_of(operand.dtype);
    row.resize(static_cast<std::size_t>(operand.inner) * bytes);
    for (std::int64_t r = 0; r < rows_of(i); ++r) {
      for (std::int64_t e = 0; e < operand.inner; ++e) {
        const std::int64_t digit = (first_[i] + r * operand.inner + e) / unit % base_;
        const std::uint32_t bits = bits_of(digit + 1, operand.dtype);  // little-endian, like every target
        std::memcpy(row.data() + static_cast<std::size_t>(e) * bytes, &bits, std::min(bytes, sizeof(bits)));
      }
      const std::int64_t offset = r * stride_[i] * static_cast<std::int64_t>(bytes);
      write(static_cast<std::uint8_t*>(data_[i]) + offset, row.data(), row.size());
    }
  }
}

void Probe::read(std::size_t part, int pass, const float* values) {
  std::vector<std::int64_t>& seen = seen_[part];
  seen.resize(size_of(parts_[part]), 0);
  std::int64_t unit = 1;
  for (int i = 0; i < pass; ++i) unit *= base_;
  for (std::size_t n = 0; n < seen.size(); ++n) {
    const float value = values[n];
    const bool digit = value >= 1 && value <= static_cast<float>(base_) && value == std::floor(value);
    if (!digit) seen[n] = kNoNumber;
    if (seen[n] != kNoNumber) seen[n] += (static_cast<std::int64_t>(value) - 1) * unit;
  }
  ++passes_read_[part];
}

std::int64_t Probe::number_of(const Part& part, std::int64_t n) const {
  const auto operand = static_cast<std::size_t>(part.map.operand);
  const std::int64_t row = n / part.elements();
  return first_[operand] + row * plan_.operands[operand].inner + address_of(plan_.facts, part, n % part.elements());
}

Probe::Source Probe::source_of(std::int64_t number) const {
  std::size_t operand = 0;
  while (operand + 1 < plan_.operands.size() && number >= first_[operand + 1]) ++operand;
  const std::int64_t inner = plan_.operands[operand].inner;
  const std::int64_t below = number - first_[operand];
  return {static_cast<int>(operand), below / inner, below % inner};
}

std::string Probe::element_text(std::int64_t number) const {
  const Source source = source_of(number);
  const core::Operand& operand = plan_.operands[static_cast<std::size_t>(source.operand)];
  if (operand.leading == core::Leading::kNone) return fmt::format("element {} of {}", source.element, operand.name);
  return fmt::format("element {} of {} {} of {}", source.element,
                     operand.leading == core::Leading::kToken ? "row" : core::to_string(operand.leading), source.row,
                     operand.name);
}

std::string Probe::kernels_name(std::int64_t number) const {
  const Source source = source_of(number);
  for (const Part& part : parts_) {
    if (part.map.operand != source.operand) continue;
    for (std::int64_t n = 0; n < part.elements(); ++n) {
      if (address_of(plan_.facts, part, n) == source.element) return coordinates_text(part, source.row, n);
    }
  }
  return "nothing";
}

std::string Probe::engines_name(std::int64_t number) const {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const auto found = std::find(seen_[i].begin(), seen_[i].end(), number);
    if (passes_read_[i] != passes_ || found == seen_[i].end()) continue;
    const std::int64_t n = found - seen_[i].begin();
    return coordinates_text(parts_[i], n / parts_[i].elements(), n % parts_[i].elements());
  }
  return "nothing";
}

std::string Probe::difference() const {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (passes_read_[i] != passes_) continue;
    const Part& part = parts_[i];
    for (std::size_t at = 0; at < seen_[i].size(); ++at) {
      const auto n = static_cast<std::int64_t>(at);
      const std::int64_t right = number_of(part, n), got = seen_[i][at];
      if (got == right) continue;
      const std::string where = coordinates_text(part, n / part.elements(), n % part.elements());
      const std::string engine =
          got < 0 || got >= first_.back()
              ? std::string("something that is in none of the operands")
              : fmt::format("{}, which the kernel calls {}", element_text(got), kernels_name(got));
      return fmt::format(
          "{}: the engine's layout is not the kernel's. They differ first at {}\n"
          "  kernel: {}, which the engine calls {}\n  engine: {}\n  the kernel's layout of {}: {}",
          plan_.symbol, where, element_text(right), engines_name(right), engine,
          plan_.operands[static_cast<std::size_t>(part.map.operand)].name,
          plan_.operands[static_cast<std::size_t>(part.map.operand)].layout.text);
    }
  }
  return {};
}

}  // namespace gdn::runtime
