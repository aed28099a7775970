#include "oracle/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "oracle/convert.h"

namespace gdn::oracle {
namespace {

// Compares one operand.
class Comparison {
 public:
  Comparison(const Problem& problem, std::size_t index, const ExpectedBuffer& expected)
      : problem_(problem),
        info_(problem.operands().list()[index]),
        buffer_(problem.buffers()[index]),
        expected_(expected),
        all_written_(std::all_of(expected.written.begin(), expected.written.end(), [](bool b) { return b; })) {}

  Deviation run() {
    deviation_.name = buffer_.name;
    deviation_.tolerance = info_.copies                         ? 0
                           : problem_.operands().prefills() ? prefill_tolerance(problem_.spec(), problem_.options().keys)
                                                            : tolerance(problem_.spec(), buffer_);
    for (std::int64_t row = 0; row < buffer_.rows; ++row) compare_row(row);
    if (!buffer_.bytes.guards_intact()) deviation_.findings.push_back("bytes outside the buffer were written");
    finish();
    return std::move(deviation_);
  }

 private:
  void compare_row(std::int64_t row) {
    const std::size_t size = core::size_of(buffer_.dtype);
    const std::size_t inner = static_cast<std::size_t>(buffer_.inner) * size;
    const std::size_t stride = static_cast<std::size_t>(buffer_.stride) * size;
    const std::byte* got = buffer_.row(row);
    const std::byte* want = expected_.image.data() + buffer_.row_offset(row);
    if (std::memcmp(got + inner, want + inner, stride - inner) != 0) {
      count(gaps_, [&] { return fmt::format("row {}", row); });
    }
    sums_ = &norms_[owner_of(row)];
    switch (expected_.rows[static_cast<std::size_t>(row)]) {
      case RowRule::kUntouched:
        if (std::memcmp(got, want, inner) != 0) {
          count(untouched_, [&] { return place(row, first_difference(got, want, inner) / size); });
        }
        return;
      case RowRule::kZero:
        for (std::size_t i = 0; i < static_cast<std::size_t>(buffer_.inner); ++i) {
          if (load(buffer_.dtype, got + i * size) != 0) count(not_zero_, [&] { return place(row, i); });
        }
        return;
      case RowRule::kValues:
        break;
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(buffer_.inner); ++i) {
      if (all_written_ || expected_.written[i]) {
        compare_value(row, i, load(buffer_.dtype, got + i * size), load(buffer_.dtype, want + i * size));
      } else if (std::memcmp(got + i * size, want + i * size, size) != 0) {
        count(untouched_, [&] { return place(row, i); });
      }
    }
  }

  void compare_value(std::int64_t row, std::size_t position, double got, double want) {
    const double difference = got - want;
    values_ = true;
    sums_->squares += difference * difference;
    sums_->reference += want * want;
    // The comparison is written so that a NaN counts as the largest difference.
    if (difference != 0 && !(std::fabs(difference) <= worst_)) {
      if (!std::isnan(worst_)) {
        worst_ = std::fabs(difference);
        worst_row_ = row;
        worst_position_ = position;
        deviation_.got = got;
        deviation_.want = want;
      }
    }
    if (info_.copies && !(difference == 0)) {
      count(wrong_copies_, [&] { return fmt::format("{}: got {}, want {}", place(row, position), got, want); });
    }
  }

  void finish() {
    for (const auto& [owner, sums] : norms_) {
      if (!values_ || sums.squares == 0) continue;
      const double error = std::sqrt(sums.squares / sums.reference);
      const bool number = !std::isnan(error);
      deviation_.error = number ? std::max(deviation_.error, error) : std::numeric_limits<double>::infinity();
      if (!number) break;
    }
    if (worst_row_ >= 0) deviation_.worst = place(worst_row_, worst_position_);
    report(wrong_copies_, "copied elements arrived wrong");
    report(not_zero_, "elements of padding rows are not zero");
    report(untouched_, "rows or elements changed that the operation must not touch");
    report(gaps_, "gaps between rows were written");
  }

  // Whose row, or slot, this is: the number of a sequence; 0 for all where there are none.
  std::int64_t owner_of(std::int64_t row) const {
    std::int64_t number = 0;
    for (const TokenRun& sequence : problem_.sequences()) {
      ++number;
      const bool its_slot = buffer_.leading == Leading::kSlot && !sequence.padding && sequence.slot == row;
      const bool its_row =
          buffer_.leading == Leading::kToken && row >= sequence.first && row < sequence.first + sequence.tokens;
      if (its_slot || its_row) return number;
    }
    return 0;
  }

  struct Sums {
    double squares = 0, reference = 0;
  };

  struct Tally {
    std::int64_t count = 0;
    std::string first;
  };

  template <class Where>
  static void count(Tally& tally, const Where& where) {
    if (tally.count++ == 0) tally.first = where();
  }

  void report(const Tally& tally, const char* what) {
    if (tally.count > 0) deviation_.findings.push_back(fmt::format("{} {}; first: {}", tally.count, what, tally.first));
  }

  static std::size_t first_difference(const std::byte* a, const std::byte* b, std::size_t size) {
    return static_cast<std::size_t>(std::mismatch(a, a + size, b).first - a);
  }

  std::string place(std::int64_t row, std::size_t position) const {
    std::string text;
    if (buffer_.leading == Leading::kToken) text = fmt::format("row {}", row);
    if (buffer_.leading == Leading::kSlot) {
      text = fmt::format("slot {}", row);
      for (std::size_t i = 0; i < problem_.sequences().size(); ++i) {
        if (problem_.sequences()[i].slot == row) text += fmt::format(" (sequence {})", i);
      }
      for (int r = 0; r < problem_.rows() && problem_.sequences().empty(); ++r) {
        if (problem_.row_slot(r) == row) text += fmt::format(" (row {})", r);
      }
    }
    if (!info_.tensor) return text;
    const std::string element = describe(problem_.spec(), *info_.tensor, static_cast<std::int64_t>(position));
    return text.empty() ? element : text + ", " + element;
  }

  const Problem& problem_;
  const OperandInfo& info_;
  const Buffer& buffer_;
  const ExpectedBuffer& expected_;
  const bool all_written_;
  Deviation deviation_;
  bool values_ = false;
  std::map<std::int64_t, Sums> norms_;  // by owner
  Sums* sums_ = nullptr;                // of the row at hand
  double worst_ = 0;
  std::int64_t worst_row_ = -1;
  std::size_t worst_position_ = 0;
  Tally wrong_copies_, not_zero_, untouched_, gaps_;
};

}  // namespace

std::vector<Deviation> compare(const Expectation& expectation, const Problem& problem) {
  std::vector<Deviation> deviations;
  for (std::size_t i = 0; i < problem.buffers().size(); ++i) {
    Deviation deviation = Comparison(problem, i, expectation.buffers[i]).run();
    if (problem.buffers()[i].written || !deviation.findings.empty()) deviations.push_back(std::move(deviation));
  }
  return deviations;
}

bool all_good(const std::vector<Deviation>& deviations) {
  return std::all_of(deviations.begin(), deviations.end(), [](const Deviation& d) { return d.good(); });
}

std::string describe(const std::vector<Deviation>& deviations) {
  std::string text;
  for (const Deviation& d : deviations) {
    if (d.good()) continue;
    if (d.error > d.tolerance) {
      text += fmt::format("{}: error {:.3g}, allowed {:.3g}", d.name, d.error, d.tolerance);
      if (!d.worst.empty()) text += fmt::format("; worst at {}: got {:.9g}, want {:.9g}", d.worst, d.got, d.want);
      text += "\n";
    }
    for (const std::string& finding : d.findings) text += fmt::format("{}: {}\n", d.name, finding);
  }
  return text;
}

}  // namespace gdn::oracle
