#include "oracle/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "oracle/convert.h"
#include "oracle/fill.h"
#include "oracle/random.h"

namespace gdn::oracle {
namespace {

// A chunk and one more, none, a few, two chunks and a rest, one.
std::vector<int> usual_lengths(int chunk) { return {chunk + 1, 0, 7, 2 * chunk + 5, 1}; }

Options complete(const Operands& operands, Options options) {
  if (operands.prefills()) {
    if (options.lengths.empty()) options.lengths = usual_lengths(*operands.spec().prefill.chunk);
    for (const int length : options.lengths) {
      if (length < 0) throw std::invalid_argument("a sequence has no less than 0 tokens");
    }
    options.rows = static_cast<int>(options.lengths.size());
  }
  if (options.rows < 1) throw std::invalid_argument("a problem has at least one row");
  if (options.excess_rows < 0) throw std::invalid_argument("excess_rows is not negative");
  if (options.extra_stride < 0) throw std::invalid_argument("extra_stride is not negative");
  if (!operands.has_slots()) {
    options.padding_rows = 0;
    options.slots = std::max(options.slots, 1);
    return options;
  }
  const core::Padding padding = *operands.spec().slots.padding;
  if (options.padding_rows < 0 || options.padding_rows > options.rows) {
    throw std::invalid_argument(fmt::format("{} padding rows of {}", options.padding_rows, options.rows));
  }
  if (options.padding_rows > 0 && padding == core::Padding::kNone) {
    throw std::invalid_argument("slots.padding is none: this spec has no padding rows");
  }
  const int reserved = padding == core::Padding::kZeroOrNegative ? 1 : 0;
  const int needed = options.rows - options.padding_rows + reserved;
  if (options.slots == 0) options.slots = needed + 2;
  if (options.slots < needed) {
    throw std::invalid_argument(
        fmt::format("{} slots are too few, {} rows need {}", options.slots, options.rows, needed));
  }
  return options;
}

// Distinct slots in random order; padding in the middle, with more than one of the values that mark it.
std::vector<std::int64_t> choose_slots(const Operands& operands, const Options& options) {
  const bool zero_is_padding = *operands.spec().slots.padding == core::Padding::kZeroOrNegative;
  std::vector<std::int64_t> free;
  for (int slot = zero_is_padding ? 1 : 0; slot < options.slots; ++slot) free.push_back(slot);
  Random random(options.seed, "slots", 0, 0);
  for (int i = static_cast<int>(free.size()) - 1; i > 0; --i) std::swap(free[i], free[random.below(i + 1)]);

  const int first_padding = (options.rows - options.padding_rows) / 2;
  std::vector<std::int64_t> chosen;
  for (int row = 0; row < options.rows; ++row) {
    const int padding = row - first_padding;
    if (padding >= 0 && padding < options.padding_rows) {
      chosen.push_back(zero_is_padding ? -(padding % 2) : -1 - padding);
    } else {
      chosen.push_back(free.back());
      free.pop_back();
    }
  }
  return chosen;
}

bool marks_padding(core::Padding padding, std::int64_t slot) {
  return (padding == core::Padding::kNegative && slot < 0) || (padding == core::Padding::kZeroOrNegative && slot <= 0);
}

}  // namespace

Problem::Problem(const spec::Spec& spec, std::string_view operation, const Options& options, const Tag* tag)
    : operands_(std::make_shared<const Operands>(spec, operation)), options_(complete(*operands_, options)) {
  if (tag) {
    tagged_ = true;
    tag_ = *tag;
  }
  rows_ = options_.rows;
  if (operands_->prefills()) {
    rows_ = std::accumulate(options_.lengths.begin(), options_.lengths.end(), kExcessRows);
  }
  for (std::size_t i = 0; i < operands_->list().size(); ++i) {
    const OperandInfo& info = operands_->list()[i];
    const TensorMap& map = operands_->map(static_cast<int>(i));
    Buffer buffer;
    buffer.name = info.name;
    buffer.kind = info.kind;
    buffer.dtype = info.dtype;
    buffer.leading = map.leading;
    buffer.written = info.written;
    buffer.inner = map.inner;
    buffer.stride = map.inner + (map.launch_stride ? options_.extra_stride : 0);
    const int excess = info.kind == Kind::kOutput ? options_.excess_rows : 0;
    if (map.leading == Leading::kToken || map.leading == Leading::kScaleGroup) buffer.rows = rows_ + excess;
    if (map.leading == Leading::kSequence) {
      buffer.rows = options_.rows + (static_cast<int>(i) == operands_->offsets() ? 1 : 0);
    }
    if (map.leading == Leading::kSlot) buffer.rows = options_.slots;
    std::int64_t elements = buffer.rows * buffer.stride;
    if (map.leading == Leading::kScaleGroup) {
      buffer.stride = buffer.rows + options_.extra_stride;
      elements = buffer.inner * buffer.stride;
    }
    buffer.bytes = AlignedBytes(static_cast<std::size_t>(elements) * core::size_of(buffer.dtype));
    buffers_.push_back(std::move(buffer));
  }
  if (operands_->has_slots()) {
    Buffer& slots = buffers_[static_cast<std::size_t>(operands_->slots())];
    const std::vector<std::int64_t> chosen = choose_slots(*operands_, options_);
    for (int row = 0; row < options_.rows; ++row) {
      store(slots.dtype, slots.row(row), static_cast<double>(chosen[static_cast<std::size_t>(row)]));
    }
  }
  if (operands_->prefills()) lay_out_sequences();
  fill_constants(*this);
  if (tagged_) fill_tags(*this, tag_, Kind::kPool);
  fill_tokens();
}

void Problem::fill_tokens() {
  if (tagged_) {
    fill_tags(*this, tag_, Kind::kInput);
  } else {
    fill_inputs(*this);
  }
}

Buffer& Problem::buffer(std::string_view name) {
  return const_cast<Buffer&>(static_cast<const Problem*>(this)->buffer(name));
}

const Buffer& Problem::buffer(std::string_view name) const {
  std::string known;
  for (const Buffer& candidate : buffers_) {
    if (candidate.name == name) return candidate;
    known += (known.empty() ? "" : ", ") + candidate.name;
  }
  throw std::out_of_range(fmt::format("{} has no operand '{}': {}", operation(), name, known));
}

// Every third sequence has no initial state where sequences are flagged.
void Problem::lay_out_sequences() {
  const Buffer& slots = buffers_[static_cast<std::size_t>(operands_->slots())];
  Buffer& offsets = buffers_[static_cast<std::size_t>(operands_->offsets())];
  int first = 0;
  for (int i = 0; i < options_.rows; ++i) {
    TokenRun sequence;
    sequence.first = first;
    sequence.tokens = options_.lengths[static_cast<std::size_t>(i)];
    sequence.slot = static_cast<std::int64_t>(load(slots.dtype, slots.row(i)));
    sequence.padding = marks_padding(*spec().slots.padding, sequence.slot);
    sequence.initial = *spec().prefill.initial_states == core::InitialStates::kAll;
    if (operands_->flags() >= 0) {
      Buffer& flags = buffers_[static_cast<std::size_t>(operands_->flags())];
      sequence.initial = i % 3 != 1;
      store(flags.dtype, flags.row(i), sequence.initial ? 1 : 0);
    }
    store(offsets.dtype, offsets.row(i), first);
    first += sequence.tokens;
    sequences_.push_back(sequence);
  }
  store(offsets.dtype, offsets.row(options_.rows), first);
}

const TokenRun* Problem::sequence_of(int row) const {
  for (const TokenRun& sequence : sequences_) {
    if (row >= sequence.first && row < sequence.first + sequence.tokens) return &sequence;
  }
  return nullptr;
}

std::int64_t Problem::row_slot(int row) const {
  if (!operands_->has_slots()) throw std::logic_error(fmt::format("{} takes no slots", operation()));
  if (!sequences_.empty()) {
    const TokenRun* sequence = sequence_of(row);
    if (sequence == nullptr) throw std::logic_error(fmt::format("row {} belongs to no sequence", row));
    return sequence->slot;
  }
  const Buffer& slots = buffers_[static_cast<std::size_t>(operands_->slots())];
  return static_cast<std::int64_t>(load(slots.dtype, slots.row(row)));
}

bool Problem::padding(int row) const {
  if (!operands_->has_slots()) return false;
  if (!sequences_.empty() && sequence_of(row) == nullptr) return true;
  return marks_padding(*spec().slots.padding, row_slot(row));
}

void Problem::next_step() {
  ++step_;
  for (Buffer& buffer : buffers_) {
    if (buffer.kind == Kind::kOutput) {
      std::memset(buffer.data(), std::to_integer<int>(kPoison), buffer.size_bytes());
    }
  }
  fill_tokens();
}

Problem make_problem(const spec::Spec& spec, std::string_view operation, const Options& options) {
  return Problem(spec, operation, options, nullptr);
}

Problem make_tagged(const spec::Spec& spec, std::string_view operation, const Options& options, Tag tag) {
  return Problem(spec, operation, options, &tag);
}

namespace {
constexpr double kEightBit = 4e-2, kSixteenBit = 5e-3, kThirtyTwoBit = 1e-5;
}

double output_tolerance(const spec::Spec& spec) {
  const spec::Rounding& rounding = spec.rounding;
  for (const core::DType dtype : {*rounding.qk, *rounding.o, *rounding.norm, *spec.output_quant.from}) {
    if (dtype != core::DType::kFp32) return kSixteenBit;
  }
  return kThirtyTwoBit;
}

double tolerance(const spec::Spec& spec, const Buffer& buffer) {
  if (buffer.dtype == core::DType::kE4m3fn || buffer.dtype == core::DType::kE4m3fnuz) return kEightBit;
  if (buffer.dtype != core::DType::kFp32) return kSixteenBit;
  if (buffer.name == "out_scale") return output_tolerance(spec);
  const bool rounds_qk = *spec.rounding.qk != core::DType::kFp32;
  const bool rounds_o = *spec.rounding.o != core::DType::kFp32;
  const bool rounds_norm = *spec.rounding.norm != core::DType::kFp32;
  const bool after_qk = buffer.name == "state" || buffer.name == "handover.o" || buffer.name == "out";
  const bool after_o = buffer.name == "handover.o" || buffer.name == "out";
  const bool after_norm = buffer.name == "out";
  if ((after_qk && rounds_qk) || (after_o && rounds_o) || (after_norm && rounds_norm)) return kSixteenBit;
  return kThirtyTwoBit;
}

double prefill_tolerance(const spec::Spec& spec, Keys keys) {
  return *spec.beta.factor > 1 || keys == Keys::kRepeated ? 1e-2 : 6e-3;
}

}  // namespace gdn::oracle
