#include "oracle/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <optional>

#include "oracle/convert.h"

namespace gdn::oracle {
namespace {

// Compares one operand.
class Comparison {
 public:
  Comparison(const Problem& problem, std::size_t index, const Expectation& expectation)
      : problem_(problem),
        expectation_(expectation),
        info_(problem.operands().list()[index]),
        buffer_(problem.buffers()[index]),
        expected_(expectation.buffers[index]),
        all_written_(std::all_of(expected_.written.begin(), expected_.written.end(), [](bool b) { return b; })) {
    for (std::size_t i = 0; i < problem.buffers().size() && *problem.spec().output_quant.given; ++i) {
      if (problem.buffers()[i].name == "out_scale") scales_ = i;
      if (problem.buffers()[i].name == "out") codes_ = i;
    }
    if (!codes_) return;
    double squares = 0;
    const std::vector<double>& divisors = expectation.buffers[*codes_].divisors;
    for (const double divisor : divisors) squares += divisor * divisor;
    if (squares > 0) usual_divisor_ = std::sqrt(squares / static_cast<double>(divisors.size()));
  }

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
        const double value = load(buffer_.dtype, got), wanted = load(buffer_.dtype, want);
        if (expected_.exact.empty()) {
          compare_value(row, i, value, wanted);
        } else if (is_scale()) {
          compare_power(row, i, value, wanted);
        } else if (core::size_of(buffer_.dtype) != 1) {
          compare_value(row, i, value, wanted);
          compare_chance(row, i, got);
        } else if (const double twice = doubled_scale(row, i); twice != 1) {
          compare_value(row, i, value * twice, wanted);
          compare_code_of(row, i, value, expected_.exact[exact_place(row, i)] / twice);
        } else {
          compare_value(row, i, value, wanted);
          compare_code(row, i, got, want);
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

  std::size_t exact_place(std::int64_t row, std::size_t position) const {
    return static_cast<std::size_t>(row * buffer_.inner) + position;
  }

  bool is_scale() const { return scales_ && &buffer_ == &problem_.buffers()[*scales_]; }

  // What the scale of a group may be times the oracle's: 2 or 1/2 where it is a power of two and the number that it was
  // made of lies so near to one that the error which a kernel's output may have before leads across; else 1.
  double doubled(std::int64_t row, std::size_t group) const {
    if (!scales_) return 1;
    const Buffer& scales = problem_.buffers()[*scales_];
    const ExpectedBuffer& expected = expectation_.buffers[*scales_];
    if (expected.exact.empty()) return 1;
    const std::size_t offset = scales.offset(row, static_cast<std::int64_t>(group));
    const double got = load(scales.dtype, scales.data() + offset);
    const double want = load(scales.dtype, expected.image.data() + offset);
    if (!(got == 2 * want || got == want / 2) || want == 0) return 1;
    const double boundary = std::min(got, want);
    const double before = expected.exact[static_cast<std::size_t>(row * scales.inner) + group];
    const std::size_t channels = static_cast<std::size_t>(channels_of_group(problem_.spec()));
    double error = largest() / 3;
    for (std::size_t i = 0; i < channels; ++i) error = std::max(error, magnified(row, group * channels + i));
    error *= error_before() / largest();
    const bool near = std::fabs(before - boundary) <= boundary * (error + slack_of_roundings());
    return near ? got / want : 1;
  }
  double doubled_scale(std::int64_t row, std::size_t position) const {
    if (buffer_.kind != Kind::kOutput) return 1;
    return doubled(row, position / static_cast<std::size_t>(channels_of_group(problem_.spec())));
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
  // How far that may have moved a number before it became a code: an error of the largest number of a group, which is
  // about three times its mean one; and what an error of the usual o makes of one, where norm and gate magnify it.
  double error_in_codes(std::int64_t row, std::size_t position) const {
    double usual = largest() / 3;
    if (buffer_.kind == Kind::kOutput) usual = std::max(usual, magnified(row, position));
    return error_before() * usual;
  }
  // Twice: the tolerance is that of a mean over a sequence, and of its thousands of numbers some err by twice as much.
  double magnified(std::int64_t row, std::size_t position) const {
    if (!codes_ || usual_divisor_ == 0) return 0;
    const std::size_t channels = static_cast<std::size_t>(problem_.buffers()[*codes_].inner);
    return 2 * usual_divisor_ *
           expectation_.buffers[*codes_].slope[static_cast<std::size_t>(row) * channels + position];
  }
  double largest() const {
    if (buffer_.kind == Kind::kOutput) return *problem_.spec().output_quant.max;
    return buffer_.dtype == core::DType::kE4m3fn ? 448 : 240;
  }

  // Roundings to 16 bits move a number, and a scale, by up to 2^-7 of itself.
  double slack_of_roundings() const { return error_before() > 1e-4 ? 0x1p-6 : 3e-5; }

  // A scale that is a power of two: the oracle's, or the next one near a tie. A mean over all scales hides small ones.
  void compare_power(std::int64_t row, std::size_t group, double value, double wanted) {
    const double as_wanted = value / doubled(row, group);
    compare_value(row, group, as_wanted, wanted);
    if (as_wanted == wanted) return;
    count(wrong_scales_, [&] { return fmt::format("{}: got {}, want {}", place(row, group), value, wanted); });
  }

  // Of a code under another scale than the oracle's: half a step and the error.
  void compare_code_of(std::int64_t row, std::size_t position, double value, double exact) {
    const double slack = error_in_codes(row, position) + std::fabs(exact) * slack_of_roundings();
    if (std::fabs(exact - value) <= slack + std::fabs(value) / 16 + 0x1p-10) return;
    count(wrong_codes_, [&] { return fmt::format("{}: got {} for {:.7g}", place(row, position), value, exact); });
  }

  // Rounded by chance: one of the two numbers on both sides of the exact one.
  void compare_chance(std::int64_t row, std::size_t position, const std::byte* got) {
    const double value = load(buffer_.dtype, got);
    const double exact = expected_.exact[exact_place(row, position)];
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
    const double exact = expected_.exact[exact_place(row, position)];
    const double slack = error_in_codes(row, position) + std::fabs(exact) * slack_of_roundings();
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
    const double weight = expected_.weight.empty() ? 1 : expected_.weight[exact_place(row, position)];
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
    report(wrong_scales_, "scales are neither the oracle's power of two nor the next one near a tie");
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
    const bool whole =
        problem_.operation() == "prefill" && buffer_.kind == Kind::kOutput && *problem_.spec().out_norm.enabled;
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
  const Expectation& expectation_;
  std::optional<std::size_t> codes_, scales_;  // operands of a quantised output
  double usual_divisor_ = 0;                   // of its norm, where that is known
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
  Tally wrong_copies_, wrong_codes_, wrong_scales_, wrong_chances_, not_zero_, untouched_, gaps_;
};

}  // namespace

std::vector<Deviation> compare(const Expectation& expectation, const Problem& problem) {
  std::vector<Deviation> deviations;
  for (std::size_t i = 0; i < problem.buffers().size(); ++i) {
    Deviation deviation = Comparison(problem, i, expectation).run();
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
