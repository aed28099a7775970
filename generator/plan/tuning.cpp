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

constexpr std::string_view kHeader = "gdn-gen tuning 3";
constexpr std::string_view kOldHeader = "gdn-gen tuning 2";

[[noreturn]] void fail(int line, const std::string& what) {
  throw std::runtime_error(fmt::format("tuning table, line {}: {}", line, what));
}

template <class Number>
bool read_number(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

bool read_edges(std::string_view word, core::Edges& edges) {
  if (word == "*") return true;
  for (const core::Edge edge : {core::Edge::kPlain, core::Edge::kProgrammatic}) {
    if (word != core::to_string(edge)) continue;
    edges = core::only(edge);
    return true;
  }
  return false;
}

// Any number of rows comes last.
int order_of(const Band& band) { return band.max_rows == 0 ? std::numeric_limits<int>::max() : band.max_rows; }
bool in_order(const Band& a, const Band& b) { return order_of(a) < order_of(b); }

bool same(const Band& a, const Band& b) { return a.max_rows == b.max_rows && a.choices == b.choices; }

// Whether launches may be on programmatic edges.
bool on_both_edges(const Target& target, std::string_view operation) {
  return target.programmatic && core::waits_for_previous(operation);
}

// Bands for programmatic edges beside those for plain ones: those that are the same become one.
std::vector<Band> joined(std::vector<Band> plain, std::vector<Band> programmatic) {
  for (Band& band : plain) band.edges = core::Edges::kPlain;
  for (Band& band : programmatic) {
    band.edges = core::Edges::kProgrammatic;
    const auto twin = std::find_if(plain.begin(), plain.end(), [&](const Band& other) { return same(band, other); });
    if (twin == plain.end()) {
      plain.push_back(std::move(band));
    } else {
      twin->edges = core::Edges::kBoth;
    }
  }
  std::stable_sort(plain.begin(), plain.end(), in_order);
  return plain;
}

// Neighbours of equal choices become one.
std::vector<Band> merged(std::vector<Band> all) {
  std::vector<Band> bands;
  for (Band& band : all) {
    if (!bands.empty() && bands.back().choices == band.choices) bands.pop_back();
    bands.push_back(std::move(band));
  }
  return bands;
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
      if (std::string_view(line).substr(0, kOldHeader.size()) == kOldHeader) {
        fail(number, fmt::format("a table of version 2, of which every row means the same in version 3: make the first "
                                 "line \"{}\"",
                                 kHeader));
      }
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
    bool edges = false;
    for (std::string word; words >> word;) {
      if (!edges && row.band.choices.empty() && read_edges(word, row.band.edges)) {
        edges = true;
        continue;
      }
      const std::size_t equals = std::min(word.find('='), word.size());
      std::int64_t value = 0;
      if (equals == 0 || equals == word.size() || !read_number(std::string_view(word).substr(equals + 1), value)) {
        fail(number, fmt::format("\"{}\" is not choice=integer", word));
      }
      row.band.choices.emplace_back(word.substr(0, equals), value);
    }
    if (row.band.choices.empty()) fail(number, "a row without choices says nothing: delete it");
    const Target* const target = find_target(row.target);
    if (row.band.edges == core::Edges::kProgrammatic && target != nullptr && !on_both_edges(*target, row.operation)) {
      fail(number, fmt::format("no launch of {} on {} is on a programmatic edge", row.operation, row.target));
    }
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

std::vector<Band> TuningTable::find(std::string_view target, std::string_view operation, std::string_view spec,
                                    core::Edge edge) const {
  std::vector<Band> bands;
  const auto add = [&](bool own, core::Edges edges) {
    for (const Row& row : rows_) {
      if (!row.is_of(target, operation, own ? spec : "*") || row.band.edges != edges) continue;
      const bool known =
          std::any_of(bands.begin(), bands.end(), [&](const Band& band) { return band.max_rows == row.band.max_rows; });
      if (!known) bands.push_back(row.band);
    }
  };
  for (const bool own : {true, false}) {
    add(own, core::only(edge));
    add(own, core::Edges::kBoth);
  }
  std::sort(bands.begin(), bands.end(), in_order);
  if (edge == core::Edge::kPlain) return bands;
  const int known = bands.empty() ? 0 : order_of(bands.back());
  for (Band& band : find(target, operation, spec, core::Edge::kPlain)) {
    if (order_of(band) > known) bands.push_back(std::move(band));
  }
  return bands;
}

void TuningTable::set(std::string_view target, std::string_view operation, std::string_view spec,
                      const std::vector<Band>& bands) {
  const auto mine = [&](const Row& row) { return row.is_of(target, operation, spec); };
  // Where they stood.
  const auto first = std::find_if(rows_.begin(), rows_.end(), mine) - rows_.begin();
  rows_.erase(std::remove_if(rows_.begin(), rows_.end(), mine), rows_.end());
  auto at = rows_.begin() + first;
  for (const Band& band : bands) {
    at = rows_.insert(at, {std::string(target), std::string(operation), std::string(spec), band}) + 1;
  }
}

void TuningTable::set(std::string_view target, std::string_view operation, std::string_view spec,
                      const std::vector<Band>& bands, core::Edge edge) {
  const core::Edge other = edge == core::Edge::kPlain ? core::Edge::kProgrammatic : core::Edge::kPlain;
  std::vector<Band> kept;
  for (const Row& row : rows_) {
    if (row.is_of(target, operation, spec) && core::has(row.band.edges, other)) kept.push_back(row.band);
  }
  set(target, operation, spec, edge == core::Edge::kPlain ? joined(bands, kept) : joined(kept, bands));
}

std::string TuningTable::to_text() const {
  std::string text = std::string(kHeader) + "\n";
  for (const Row& row : rows_) {
    const std::string rows = row.band.max_rows == 0 ? "*" : std::to_string(row.band.max_rows);
    text += fmt::format("{} {} {} {}", row.target, row.operation, row.spec, rows);
    if (row.band.edges != core::Edges::kBoth) text += fmt::format(" {}", core::to_string(row.band.edges));
    for (const auto& [name, value] : row.band.choices) text += fmt::format(" {}={}", name, value);
    text += "\n";
  }
  return text;
}

std::vector<Band> bands_of(const TuningTable& tuning, const Target& target, std::string_view operation,
                           std::string_view spec, const core::Facts& facts) {
  const std::vector<Band> model = model_bands(target, operation, facts);
  std::vector<std::vector<Band>> of_edges;
  bool misfits = false;
  for (const core::Edge edge : {core::Edge::kPlain, core::Edge::kProgrammatic}) {
    of_edges.push_back(tuning.find(target.name, operation, spec, edge));
    misfits = misfits || std::any_of(of_edges.back().begin(), of_edges.back().end(), [&](const Band& band) {
                return !choices_fault(target, operation, facts, band.choices).empty();
              });
    if (!on_both_edges(target, operation)) break;
  }
  for (std::vector<Band>& all : of_edges) {
    if (misfits && tuning.passes_over_misfits()) all.clear();
    const int known = all.empty() ? 0 : order_of(all.back());
    for (const Band& band : model) {
      if (order_of(band) > known) all.push_back(band);
    }
    // A row of the table says what it was measured with; what it leaves out is the model's for any number of rows.
    for (Band& band : all) {
      for (const auto& [name, value] : model.back().choices) {
        if (choice_of(band.choices, name, -1) == -1) band.choices.emplace_back(name, value);
      }
    }
    all = merged(std::move(all));
  }
  if (of_edges.size() == 1) of_edges.push_back(of_edges.front());
  return joined(of_edges.front(), of_edges.back());
}

}  // namespace gdn::plan
