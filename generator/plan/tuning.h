// The tuning table: measured choices for a kernel on a target, kept in generator/plan/tuning.txt.
//
// Text format, version 1. The first line is "gdn-gen tuning 1"; '#' starts a comment; a row is
//
//   <target> <operation> <spec or *> <choice>=<integer> ...
//
// The row of the spec's own name wins over the row of '*'. Without a row the written model of choices.h decides.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gdn::plan {

using Choices = std::vector<std::pair<std::string, std::int64_t>>;

class TuningTable {
 public:
  // Throws std::runtime_error with the line's number for a text that is not such a table.
  static TuningTable parse(std::string_view text);

  // The table that this program was built with.
  static const TuningTable& built_in();

  // Null when neither the spec nor '*' has a row.
  const Choices* find(std::string_view target, std::string_view operation, std::string_view spec) const;

  std::string to_text() const;

 private:
  struct Row {
    std::string target, operation, spec;
    Choices choices;
  };
  std::vector<Row> rows_;
};

}  // namespace gdn::plan
