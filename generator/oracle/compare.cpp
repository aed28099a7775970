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
    deviation_.tolerance = info_.copies ? 0 : allowed();
    for (std::int64_t row = 0; row < buffer_.rows; ++row) compare_row(row);
    if (!buffer_.bytes.guards_intact()) deviation_.findings.push_back("bytes outside the buffer were written");
    finish();
    return std::move(deviation_);
  }

 private:
  void compare_row(std::int64_t row) {
    compare_gap(row);
    sums_ = &norms_[owner_of(row)];
    const RowRule rule = expected_.rows[static_cast<std::size_t>(row)];
    for (std::size_t i = 0; i < static_cast<std::size_t>(buffer_.inner); ++i) {
      const std::size_t offset = buffer_.offset(row, static_cast<std::int64_t>(i));
      const std::byte* got = buffer_.data() + offset;
      const std::byte* want = expected_.image.data() + offset;
      if (rule == RowRule::kZero) {
        if (load(buffer_.dtype, got) != 0) count(not_zero_, [&] { return place(row, i); });
      } else if (rule == RowRule::kValues && (all_written_ || expected_.written[i])) {
        compare_value(row, i, load(buffer_.dtype, got), load(buffer_.dtype, want));
        if (!expected_.exact.empty()) {
          if (core::size_of(buffer_.dtype) == 1) {
            compare_code(row, i, got, want);
          } else {
            compare_chance(row, i, got);
          }
        }
      } else if (std::memcmp(got, want, core::size_of(buffer_.dtype)) != 0) {
        count(untouched_, [&] { return place(row, i); });
        if (rule == RowRule::kUntouched) return;  // a row counts once
      }
    }
  }

  // What lies between two rows, or between two groups of scales, belongs to nobody.
  void compare_gap(std::int64_t row) {
    const std::size_t size = core::size_of(buffer_.dtype);
    const auto compare = [&](std::int64_t first, std::int64_t last) {
      const std::size_t from = static_cast<std::size_t>(first) * size,
                        bytes = static_cast<std::size_t>(last - first) * size;
      if (std::memcmp(buffer_.data() + from, expected_.image.data() + from, bytes) == 0) return;
      count(gaps_, [&] { return fmt::format("row {}", row); });
    };
    if (!buffer_.by_group()) {
      compare(row * buffer_.stride + buffer_.inner, (row + 1) * buffer_.stride);
    } else if (row == 0) {
      for (std::int64_t group = 0; group < buffer_.inner; ++group) {
        compare(group * buffer_.stride + buffer_.rows, (group + 1) * buffer_.stride);
      }
    }
  }

  // A code in the order of the numbers, both zeros one.
  static int rank(std::byte code) {
    const int bits = std::to_integer<int>(code);
    return (bits & 0x80) != 0 ? -(bits & 0x7f) : bits;
  }

  // What is stored as codes, or by chance: the output or the state. Its relative error before that, and the largest
  // code.
  double error_before() const {
    if (buffer_.kind == Kind::kOutput) {
      const double rounded = output_tolerance(problem_.spec());
      if (problem_.operation() != "prefill") return rounded;
      return std::hypot(rounded, prefill_tolerance(problem_.spec(), problem_.options().keys));  // its products' too
    }
    return *problem_.spec().rounding.qk == core::DType::kFp32 ? 1e-5 : 5e-3;
  }
  double largest() const {
    if (buffer_.kind == Kind::kOutput) return *problem_.spec().output_quant.max;
    return buffer_.dtype == core::DType::kE4m3fn ? 448 : 240;
  }

  // Rounded by chance: one of the two numbers on both sides of the exact one.
  void compare_chance(std::int64_t row, std::size_t position, const std::byte* got) {
    const double value = load(buffer_.dtype, got);
    const double exact = expected_.exact[static_cast<std::size_t>(row * buffer_.inner) + position];
    const bool bf16 = buffer_.dtype == core::DType::kBf16;
    const int exponent = std::max(std::ilogb(std::max(std::fabs(value), std::fabs(exact))), bf16 ? -126 : -14);
    const double step = std::ldexp(1.0, exponent - (bf16 ? 7 : 10));
    if (std::fabs(value - exact) <= step + error_before() * (std::fabs(exact) + 1)) return;
    count(wrong_chances_, [&] { return fmt::format("{}: got {:.7g} for {:.7g}", place(row, position), value, exact); });
  }

  // The oracle's code, or the next one where the number lies so near to the tie between the two that the error which a
  // kernel's output may have before it is quantised leads across.
  void compare_code(std::int64_t row, std::size_t position, const std::byte* got, const std::byte* want) {
    const double value = load(buffer_.dtype, got), wanted = load(buffer_.dtype, want);
    const int apart = std::abs(rank(*got) - rank(*want));
    if (apart == 0 && std::isnan(value) == std::isnan(wanted)) return;
    const double exact = expected_.exact[static_cast<std::size_t>(row * buffer_.inner) + position];
    // The largest number of a group is about three times its mean one, of which the error is a part; roundings before
    // to 16 bits move a number, and the scale, by up to 2^-7 of itself.
    const double error = error_before();
    const double slack = error * largest() / 3 + std::fabs(exact) * (error > 1e-4 ? 0x1p-6 : 3e-5);
    if (apart == 1 && std::fabs(exact - (value + wanted) / 2) <= slack) return;
    // Products of 16 bits err by more than a step between the smallest codes: half a step and the error, then.
    const bool products = problem_.operation() == "prefill";
    if (products && std::fabs(exact - value) <= slack + std::fabs(value) / 16 + 0x1p-10) return;
    count(wrong_codes_,
          [&] { return fmt::format("{}: got {}, want {} from {:.7g}", place(row, position), value, wanted, exact); });
  }

  void compare_value(std::int64_t row, std::size_t position, double got, double want) {
    const double difference = got - want;
    values_ = true;
    const double weight =
        expected_.weight.empty() ? 1 : expected_.weight[static_cast<std::size_t>(row * buffer_.inner) + position];
    sums_->squares += weight * weight * difference * difference;
    sums_->reference += weight * weight * want * want;
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
    report(wrong_codes_, "codes are neither the oracle's nor its neighbour across a near tie");
    report(wrong_chances_, "numbers are not next to the one that was rounded");
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
    for (const Snapshot& snapshot : problem_.snapshots()) {
      ++number;
      if (buffer_.leading == Leading::kSlot && !snapshot.padding && snapshot.slot == row) return number;
    }
    return 0;
  }

  double allowed() const {
    const bool rule = problem_.operands().prefills() && problem_.operation() != "conv_prefill";
    if (!rule) return tolerance(problem_.spec(), buffer_);
    const double products = prefill_tolerance(problem_.spec(), problem_.options().keys);
    const bool whole = problem_.operation() == "prefill" && buffer_.kind == Kind::kOutput;
    // Behind the products, o is rounded and what the norm makes of it: ties that go the other way count on top.
    return whole ? std::hypot(products, tolerance(problem_.spec(), buffer_)) : products;
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

  std::string place(std::int64_t row, std::size_t position) const {
    std::string text;
    if (buffer_.leading == Leading::kToken || buffer_.by_group()) text = fmt::format("row {}", row);
    if (buffer_.leading == Leading::kSlot) {
      text = fmt::format("slot {}", row);
      for (std::size_t i = 0; i < problem_.sequences().size(); ++i) {
        if (problem_.sequences()[i].slot == row) text += fmt::format(" (sequence {})", i);
      }
      for (const Snapshot& snapshot : problem_.snapshots()) {
        if (!snapshot.padding && snapshot.slot == row) text += fmt::format(" (snapshot behind row {})", snapshot.row);
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
  Tally wrong_copies_, wrong_codes_, wrong_chances_, not_zero_, untouched_, gaps_;
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
