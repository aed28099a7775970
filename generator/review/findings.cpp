#include "review/findings.h"

#include <fmt/format.h>

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

ordered_json location(const Finding& finding, spec::Place place) {
  ordered_json physical = {{"artifactLocation", {{"uri", file_of(finding, place)}}}};
  if (place.line > 0) {
    physical["region"] = {
        {"startLine", place.line}, {"startColumn", place.column}, {"endColumn", place.column + place.length}};
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
      text +=
          fmt::format(",line={},col={},endColumn={}", d.place.line, d.place.column, d.place.column + d.place.length);
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
