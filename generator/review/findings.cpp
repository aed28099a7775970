#include "review/findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "spec/rules.h"

namespace gdn::review {
namespace {

using nlohmann::ordered_json;

const std::string& file_of(const Finding& finding, spec::Place place) {
  return finding.sources.at(static_cast<std::size_t>(place.source)).file;
}

// As GitHub's toolkit escapes them: properties end at ':' and ',', messages at the line.
std::string escaped(std::string_view text, bool property) {
  std::string out;
  for (const char c : text) {
    if (c == '%' || c == '\r' || c == '\n' || (property && (c == ':' || c == ','))) {
      out += fmt::format("%{:02X}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out;
}

// Diagnostics count bytes, both formats count characters: what stands before the place decides.
struct Columns {
  int start, end;
};

Columns columns_of(const Finding& finding, spec::Place place) {
  const std::string_view text = finding.sources.at(static_cast<std::size_t>(place.source)).text;
  std::size_t begin = 0;
  for (int line = 1; line < place.line && begin < text.size(); ++line) begin = text.find('\n', begin) + 1;
  // Bytes of UTF-8 that start no character.
  const auto later_bytes = [&](int columns) {
    const std::string_view before = text.substr(std::min(begin, text.size()), static_cast<std::size_t>(columns));
    return static_cast<int>(std::count_if(before.begin(), before.end(), [](char c) { return (c & '\xc0') == '\x80'; }));
  };
  const int start = place.column - 1, end = start + place.length;
  return {place.column - later_bytes(start), end + 1 - later_bytes(end)};
}

// A path as the reference of a URI.
std::string uri_of(const std::string& path) {
  std::string uri = path.rfind('/', 0) == 0 ? "file://" : "";
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("/._-~+").find(c) != std::string_view::npos;
    uri += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
  }
  return uri;
}

ordered_json location(const Finding& finding, spec::Place place) {
  ordered_json physical = {{"artifactLocation", {{"uri", uri_of(file_of(finding, place))}}}};
  if (place.line > 0) {
    const Columns columns = columns_of(finding, place);
    physical["region"] = {{"startLine", place.line}, {"startColumn", columns.start}, {"endColumn", columns.end}};
  }
  return {{"physicalLocation", std::move(physical)}};
}

}  // namespace

std::string to_github(const Finding& finding) {
  std::string text;
  for (const spec::Diagnostic& d : finding.diagnostics.sorted()) {
    text += fmt::format("::{} file={}", d.severity == spec::Severity::kError ? "error" : "warning",
                        escaped(file_of(finding, d.place), true));
    if (d.place.line > 0) {
      const Columns columns = columns_of(finding, d.place);
      text += fmt::format(",line={},col={},endColumn={}", d.place.line, columns.start, columns.end);
    }
    std::string message = d.message;
    for (const spec::Note& note : d.notes) {
      message += fmt::format("\n{}:{}: {}", file_of(finding, note.place), note.place.line, note.message);
    }
    text += fmt::format(",title={}::{}\n", escaped(d.rule, true), escaped(message, false));
  }
  return text;
}

std::string to_sarif(const std::vector<Finding>& findings, const std::string& version) {
  ordered_json rules = ordered_json::array(), results = ordered_json::array();
  for (const spec::RuleText& rule : spec::rules()) {
    rules.push_back({{"id", rule.id}, {"shortDescription", {{"text", rule.says}}}});
  }
  for (const Finding& finding : findings) {
    for (const spec::Diagnostic& d : finding.diagnostics.sorted()) {
      ordered_json result = {{"ruleId", d.rule},
                             {"level", d.severity == spec::Severity::kError ? "error" : "warning"},
                             {"message", {{"text", d.message}}},
                             {"locations", {location(finding, d.place)}}};
      for (const spec::Note& note : d.notes) {
        ordered_json related = location(finding, note.place);
        related["message"] = {{"text", note.message}};
        result["relatedLocations"].push_back(std::move(related));
      }
      results.push_back(std::move(result));
    }
  }
  const ordered_json log = {
      {"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
      {"version", "2.1.0"},
      {"runs",
       {{{"tool", {{"driver", {{"name", "gdn-gen"}, {"version", version}, {"rules", std::move(rules)}}}}},
         {"columnKind", "unicodeCodePoints"},
         {"results", std::move(results)}}}}};
  // Text of a broken file may be any bytes.
  return log.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace gdn::review
