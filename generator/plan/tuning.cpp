#include "plan/tuning.h"

#include <fmt/format.h>

#include <charconv>
#include <sstream>
#include <stdexcept>

namespace gdn::plan {

extern const char* const kTuningText;  // tuning.txt, made into a source by the build

namespace {

constexpr std::string_view kHeader = "gdn-gen tuning 1";

[[noreturn]] void fail(int line, const std::string& what) {
  throw std::runtime_error(fmt::format("tuning table, line {}: {}", line, what));
}

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
    if (!(words >> row.operation >> row.spec)) fail(number, "a row is: target operation spec choice=integer ...");
    for (std::string word; words >> word;) {
      const std::size_t equals = word.find('=');
      std::int64_t value = 0;
      const char* end = word.data() + word.size();
      const auto parsed = equals == std::string::npos ? std::from_chars_result{end, std::errc::invalid_argument}
                                                      : std::from_chars(word.data() + equals + 1, end, value);
      if (parsed.ec != std::errc{} || parsed.ptr != end || equals == 0) {
        fail(number, fmt::format("\"{}\" is not choice=integer", word));
      }
      row.choices.emplace_back(word.substr(0, equals), value);
    }
    if (row.choices.empty()) fail(number, "a row without choices says nothing: delete it");
    table.rows_.push_back(std::move(row));
  }
  if (!header) fail(1, fmt::format("the first line must be \"{}\"", kHeader));
  return table;
}

const TuningTable& TuningTable::built_in() {
  static const TuningTable table = parse(kTuningText);
  return table;
}

const Choices* TuningTable::find(std::string_view target, std::string_view operation, std::string_view spec) const {
  const Choices* any = nullptr;
  for (const Row& row : rows_) {
    if (row.target != target || row.operation != operation) continue;
    if (row.spec == spec) return &row.choices;
    if (row.spec == "*") any = &row.choices;
  }
  return any;
}

std::string TuningTable::to_text() const {
  std::string text = std::string(kHeader) + "\n";
  for (const Row& row : rows_) {
    text += fmt::format("{} {} {}", row.target, row.operation, row.spec);
    for (const auto& [name, value] : row.choices) text += fmt::format(" {}={}", name, value);
    text += "\n";
  }
  return text;
}

}  // namespace gdn::plan
