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

// Rows of a prefill whose states are kept: of each sequence one inside and the last, of long ones the end of the first
// chunk; and a row of no sequence.
std::vector<int> usual_snapshots(const Options& options, int chunk) {
  std::vector<int> rows;
  int first = 0;
  for (std::size_t i = 0; i < options.lengths.size(); ++i) {
    const int length = options.lengths[i];
    if (length > 1)
      rows.push_back(first + Random(options.seed, "snapshot", static_cast<std::int64_t>(i), 0).below(length - 1));
    if (length > chunk && rows.back() != first + chunk - 1) rows.push_back(first + chunk - 1);
    if (length > 0) rows.push_back(first + length - 1);
    first += length;
  }
  rows.push_back(first);
  std::sort(rows.begin(), rows.end());
  return rows;
}

Options complete(const Operands& operands, Options options) {
  if (operands.prefills()) {
    if (options.lengths.empty()) options.lengths = usual_lengths(*operands.spec().prefill.chunk);
    for (const int length : options.lengths) {
      if (length < 0) throw std::invalid_argument("a sequence has no less than 0 tokens");
    }
    options.rows = static_cast<int>(options.lengths.size());
    if (operands.snapshot_rows() >= 0 && options.snapshots.empty()) {
      options.snapshots = usual_snapshots(options, *operands.spec().prefill.chunk);
    }
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
  const int each = operands.map(operands.slots()).inner > 1 ? *operands.spec().speculative.tokens : 1;
  const int kept = operands.snapshot_rows() >= 0 ? static_cast<int>(options.snapshots.size()) : 0;
  const int needed = (options.rows - options.padding_rows) * each + reserved + kept;
  if (options.slots == 0) options.slots = needed + 2;
  if (options.slots < needed) {
    throw std::invalid_argument(
        fmt::format("{} slots are too few, {} rows need {}", options.slots, options.rows, needed));
  }
  return options;
}

// Distinct slots in random order; padding in the middle, with more than one of the values that mark it. `free` gets the
// slots that are left.
std::vector<std::int64_t> choose_slots(const Operands& operands, const Options& options,
                                       std::vector<std::int64_t>& free) {
  const bool zero_is_padding = *operands.spec().slots.padding == core::Padding::kZeroOrNegative;
  for (int slot = zero_is_padding ? 1 : 0; slot < options.slots; ++slot) free.push_back(slot);
  Random random(options.seed, "slots", 0, 0);
  for (int i = static_cast<int>(free.size()) - 1; i > 0; --i) std::swap(free[i], free[random.below(i + 1)]);

  const int first_padding = (options.rows - options.padding_rows) / 2;
  std::vector<std::int64_t> chosen;
  const std::int64_t each = operands.map(operands.slots()).inner;
  for (int row = 0; row < options.rows; ++row) {
    const int padding = row - first_padding;
    for (std::int64_t i = 0; i < each; ++i) {
      if (padding >= 0 && padding < options.padding_rows) {
        chosen.push_back(zero_is_padding ? -(padding % 2) : -1 - padding);
      } else {
        chosen.push_back(free.back());
        free.pop_back();
      }
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
  int most_rows = rows_;
  if (operands_->prefills()) {
    most_rows = rows_ = std::accumulate(options_.lengths.begin(), options_.lengths.end(), kExcessRows);
  } else if (operands_->offsets() >= 0) {
    most_rows = rows_ * *spec.speculative.tokens;
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
    if (map.leading == Leading::kToken || map.leading == Leading::kScaleGroup) buffer.rows = most_rows + excess;
    if (map.leading == Leading::kSequence) {
      buffer.rows = options_.rows + (static_cast<int>(i) == operands_->offsets() ? 1 : 0);
    }
    if (map.leading == Leading::kSlot) buffer.rows = options_.slots;
    if (map.leading == Leading::kSnapshot) buffer.rows = static_cast<std::int64_t>(options_.snapshots.size());
    std::int64_t elements = buffer.rows * buffer.stride;
    if (map.leading == Leading::kScaleGroup) {
      buffer.stride = buffer.rows + options_.extra_stride;
      elements = buffer.inner * buffer.stride;
    }
    buffer.bytes = AlignedBytes(static_cast<std::size_t>(elements) * core::size_of(buffer.dtype));
    buffers_.push_back(std::move(buffer));
  }
  std::vector<std::int64_t> free;
  if (operands_->has_slots()) {
    Buffer& slots = buffers_[static_cast<std::size_t>(operands_->slots())];
    const std::vector<std::int64_t> chosen = choose_slots(*operands_, options_, free);
    const std::size_t each = static_cast<std::size_t>(slots.inner);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      std::byte* to = slots.row(static_cast<std::int64_t>(i / each)) + i % each * core::size_of(slots.dtype);
      store(slots.dtype, to, static_cast<double>(chosen[i]));
    }
  }
  if (operands_->prefills()) {
    lay_out_sequences();
    draw_snapshots(std::move(free));
  } else {
    draw_sequences();
  }
  fill_constants(*this);
  if (tagged_) fill_tags(*this, tag_, Kind::kPool);
  fill_tokens();
}

void Problem::fill_tokens() {
  if (operands_->seed() >= 0) {
    Buffer& seed = buffers_[static_cast<std::size_t>(operands_->seed())];
    store(seed.dtype, seed.data(), static_cast<double>(options_.seed * 1000003 + static_cast<std::uint64_t>(step_)));
  }
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
    sequence.slots = {sequence.slot};
    sequences_.push_back(sequence);
  }
  store(offsets.dtype, offsets.row(options_.rows), first);
}

// One of them with a slot that is padding, where there are such slots.
void Problem::draw_snapshots(std::vector<std::int64_t> free) {
  if (operands_->snapshot_rows() < 0) return;
  Buffer& rows = buffers_[static_cast<std::size_t>(operands_->snapshot_rows())];
  Buffer& slots = buffers_[static_cast<std::size_t>(operands_->snapshot_slots())];
  for (std::size_t i = 0; i < options_.snapshots.size(); ++i) {
    Snapshot snapshot;
    snapshot.row = options_.snapshots[i];
    snapshot.padding = i == 1 && *spec().slots.padding != core::Padding::kNone;
    snapshot.slot = snapshot.padding ? -1 : free.back();
    if (!snapshot.padding) free.pop_back();
    store(rows.dtype, rows.row(static_cast<std::int64_t>(i)), snapshot.row);
    store(slots.dtype, slots.row(static_cast<std::int64_t>(i)), static_cast<double>(snapshot.slot));
    snapshots_.push_back(snapshot);
  }
}

const TokenRun* Problem::sequence_of(int row) const {
  for (const TokenRun& sequence : sequences_) {
    if (row >= sequence.first && row < sequence.first + sequence.tokens) return &sequence;
  }
  return nullptr;
}

// Sequences keep their slots. A launch accepts no more tokens than the one before had; where a sequence was left out of
// that one, what it accepted before still stands.
void Problem::draw_sequences() {
  if (!operands_->drafts()) return;
  const int most = *spec().speculative.tokens;
  const bool first = sequences_.empty();
  if (first) {
    sequences_.resize(static_cast<std::size_t>(options_.rows));
    const Buffer& slots = buffers_[static_cast<std::size_t>(operands_->slots())];
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      for (std::int64_t j = 0; j < slots.inner; ++j) {
        const std::byte* from =
            slots.row(static_cast<std::int64_t>(i)) + static_cast<std::size_t>(j) * core::size_of(slots.dtype);
        sequences_[i].slots.push_back(static_cast<std::int64_t>(load(slots.dtype, from)));
      }
      sequences_[i].slot = sequences_[i].slots[0];
      sequences_[i].padding = marks_padding(*spec().slots.padding, sequences_[i].slot);
    }
  }
  int rows = 0;
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    TokenRun& sequence = sequences_[i];
    Random random(options_.seed, "sequence", static_cast<std::int64_t>(i), step_);
    const int before = first ? most : sequence.tokens;
    if (before > 0) sequence.accepted = random.below(before + 1);
    const bool left_out = sequences_.size() > 2 && random.below(7) == 0;
    sequence.tokens = operands_->offsets() < 0 ? most : left_out ? 0 : 1 + random.below(most);
    rows += sequence.tokens;
  }
  if (rows == 0) sequences_.back().tokens = 1;
  write_indices();
}

void Problem::arrange(const std::vector<int>& tokens, const std::vector<int>& accepted) {
  const int most = *spec().speculative.tokens;
  const auto legal = [most](int count) { return count >= 0 && count <= most; };
  if (tokens.size() != sequences_.size() || accepted.size() != sequences_.size() ||
      !std::all_of(tokens.begin(), tokens.end(), legal) || !std::all_of(accepted.begin(), accepted.end(), legal)) {
    throw std::invalid_argument(fmt::format("{} sequences, each with 0 to {} tokens", sequences_.size(), most));
  }
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    sequences_[i].tokens = tokens[i];
    sequences_[i].accepted = accepted[i];
  }
  write_indices();
  fill_tokens();
}

// Rows, offsets and counts of the sequences as they are now.
void Problem::write_indices() {
  rows_ = operands_->offsets() >= 0 ? 0 : options_.rows;
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    sequences_[i].first = operands_->offsets() >= 0 ? rows_ : static_cast<int>(i);
    if (operands_->offsets() >= 0) rows_ += sequences_[i].tokens;
  }
  if (operands_->offsets() >= 0) {
    Buffer& offsets = buffers_[static_cast<std::size_t>(operands_->offsets())];
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      store(offsets.dtype, offsets.row(static_cast<std::int64_t>(i)), sequences_[i].first);
    }
    store(offsets.dtype, offsets.row(static_cast<std::int64_t>(sequences_.size())), rows_);
  }
  if (operands_->accepted() < 0) return;
  Buffer& accepted = buffers_[static_cast<std::size_t>(operands_->accepted())];
  const int uncounted = *spec().speculative.counts == core::Counts::kDrafts ? 1 : 0;
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    store(accepted.dtype, accepted.row(static_cast<std::int64_t>(i)), sequences_[i].accepted - uncounted);
  }
}

int Problem::window_offset(const TokenRun& sequence) const {
  if (operands_->accepted() < 0) return 0;
  return *spec().speculative.scheme == core::Rollback::kSlots ? std::max(sequence.accepted - 1, 0) : sequence.accepted;
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
    if (buffer.kind == Kind::kOutput || (buffer.kind == Kind::kInput && !sequences_.empty())) {
      std::memset(buffer.data(), std::to_integer<int>(kPoison), buffer.size_bytes());
    }
  }
  draw_sequences();
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
  const bool rounds_norm = *spec.out_norm.enabled && *spec.rounding.norm != core::DType::kFp32;
  const bool after_qk = buffer.name == "state" || buffer.name == "state_scale" || buffer.name == "intermediate_state" ||
                        buffer.name == "record_k" || buffer.name == "record_u" || buffer.name == "handover.o" ||
                        buffer.name == "out";
  const bool after_o = buffer.name == "handover.o" || buffer.name == "out";
  const bool after_norm = buffer.name == "out";
  if ((after_qk && rounds_qk) || (after_o && rounds_o) || (after_norm && rounds_norm)) return kSixteenBit;
  return kThirtyTwoBit;
}

double prefill_tolerance(const spec::Spec& spec, Keys keys) {
  return *spec.beta.factor > 1 || keys == Keys::kRepeated ? 1e-2 : 6e-3;
}

}  // namespace gdn::oracle
