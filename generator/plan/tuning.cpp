#include "plan/tuning.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace gdn::plan {

extern const char* const kTuningText;  // tuning.txt, made into a source by the build

namespace {

constexpr std::string_view kHeader = "gdn-gen tuning 2";

[[noreturn]] void fail(int line, const std::string& what) {
  throw std::runtime_error(fmt::format("tuning table, line {}: {}", line, what));
}

template <class Number>
bool read_number(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

// Any number of rows comes last.
int order_of(const Band& band) { return band.max_rows == 0 ? std::numeric_limits<int>::max() : band.max_rows; }

}  // namespace

TuningTable TuningTable::parse(std::string_view text) {
  TuningTable table;
  std::istringstream lines{std::string(text)};
  std::string line;
  int number = 0;
  bool header = false;
  while (std::getline(lines, line)) {
    ++number;
    line.resize(std::min(line.size(), line.find('#')));
    std::istringstream words(line);
    Row row;
    if (!(words >> row.target)) continue;
    if (!header) {
      if (std::string_view(line).substr(0, kHeader.size()) != kHeader) {
        fail(number, fmt::format("the first line must be \"{}\"", kHeader));
      }
      header = true;
      continue;
    }
    std::string rows;
    if (!(words >> row.operation >> row.spec >> rows)) {
      fail(number, "a row is: target operation spec rows choice=integer ...");
    }
    if (rows != "*" && (!read_number(rows, row.band.max_rows) || row.band.max_rows < 1)) {
      fail(number, fmt::format("\"{}\" is no number of rows: an integer from 1, or * for any number", rows));
    }
    for (std::string word; words >> word;) {
      const std::size_t equals = std::min(word.find('='), word.size());
      std::int64_t value = 0;
      if (equals == 0 || equals == word.size() || !read_number(std::string_view(word).substr(equals + 1), value)) {
        fail(number, fmt::format("\"{}\" is not choice=integer", word));
      }
      row.band.choices.emplace_back(word.substr(0, equals), value);
    }
    if (row.band.choices.empty()) fail(number, "a row without choices says nothing: delete it");
    table.rows_.push_back(std::move(row));
  }
  if (!header) fail(1, fmt::format("the first line must be \"{}\"", kHeader));
  return table;
}

const TuningTable& TuningTable::built_in() {
  static const TuningTable table = [] {
    TuningTable parsed = parse(kTuningText);
    parsed.passes_over_misfits_ = true;
    return parsed;
  }();
  return table;
}

const TuningTable& TuningTable::none() {
  static const TuningTable table;
  return table;
}

std::vector<Band> TuningTable::find(std::string_view target, std::string_view operation, std::string_view spec) const {
  std::vector<Band> bands;
  for (const bool own : {true, false}) {
    for (const Row& row : rows_) {
      if (row.target != target || row.operation != operation || row.spec != (own ? spec : "*")) continue;
      const bool known =
          std::any_of(bands.begin(), bands.end(), [&](const Band& band) { return band.max_rows == row.band.max_rows; });
      if (!known) bands.push_back(row.band);
    }
  }
  std::sort(bands.begin(), bands.end(), [](const Band& a, const Band& b) { return order_of(a) < order_of(b); });
  return bands;
}

void TuningTable::set(std::string_view target, std::string_view operation, std::string_view spec,
                      const std::vector<Band>& bands) {
  rows_.erase(std::remove_if(rows_.begin(), rows_.end(),
                             [&](const Row& row) {
                               return row.target == target && row.operation == operation && row.spec == spec;
                             }),
              rows_.end());
  for (const Band& band : bands) {
    rows_.push_back({std::string(target), std::string(operation), std::string(spec), band});
  }
}

std::string TuningTable::to_text() const {
  std::string text = std::string(kHeader) + "\n";
  for (const Row& row : rows_) {
    const std::string rows = row.band.max_rows == 0 ? "*" : std::to_string(row.band.max_rows);
    text += fmt::format("{} {} {} {}", row.target, row.operation, row.spec, rows);
    for (const auto& [name, value] : row.band.choices) text += fmt::format(" {}={}", name, value);
    text += "\n";
  }
  return text;
}

std::vector<Band> bands_of(const TuningTable& tuning, const Target& target, std::string_view operation,
                           std::string_view spec, const core::Facts& facts) {
  std::vector<Band> all = tuning.find(target.name, operation, spec);
  const bool misfits = std::any_of(all.begin(), all.end(), [&](const Band& band) {
    return !choices_fault(target, operation, facts, band.choices).empty();
  });
  if (misfits && tuning.passes_over_misfits()) all.clear();
  const int known = all.empty() ? 0 : order_of(all.back());
  const std::vector<Band> model = model_bands(target, operation, facts);
  for (const Band& band : model) {
    if (order_of(band) > known) all.push_back(band);
  }
  // A row of the table says what it was measured with; what it leaves out is the model's for any number of rows.
  for (Band& band : all) {
    for (const auto& [name, value] : model.back().choices) {
      if (choice_of(band.choices, name, -1) == -1) band.choices.emplace_back(name, value);
    }
  }
  std::vector<Band> bands;
  for (Band& band : all) {
    if (!bands.empty() && bands.back().choices == band.choices) bands.pop_back();
    bands.push_back(std::move(band));
  }
  return bands;
}

}  // namespace gdn::plan
