// The tuning table: measured choices for a kernel on a target, kept in generator/plan/tuning.txt and written by
// `gdn-gen tune`.
//
// Text format, version 2. The first line is "gdn-gen tuning 2"; '#' starts a comment; a row is
//
//   <target> <operation> <spec or *> <most rows or *> <choice>=<integer> ...
//
// A launch takes the row with the smallest number of rows that it fits, '*' being any number; of two rows for as many
// rows the one of the spec's own name wins over '*'. Where no row is left the written model of choices.h decides.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "plan/choices.h"

namespace gdn::plan {

class TuningTable {
 public:
  // Throws std::runtime_error with the line's number for a text that is not such a table.
  static TuningTable parse(std::string_view text);

  // The table that this program was built with. Its rows go by a spec's name alone: a layout under a released model's
  // name that is not the one that was measured, and that can't be launched so, goes without them.
  static const TuningTable& built_in();
  bool passes_over_misfits() const { return passes_over_misfits_; }

  // A table without rows: the model alone decides.
  static const TuningTable& none();

  // By the number of rows, increasing, a band for any number (max_rows 0) last. Empty when neither the spec nor '*' has
  // a row.
  std::vector<Band> find(std::string_view target, std::string_view operation, std::string_view spec) const;

  // Replaces the rows of a spec, or adds them.
  void set(std::string_view target, std::string_view operation, std::string_view spec, const std::vector<Band>& bands);

  std::string to_text() const;

 private:
  struct Row {
    std::string target, operation, spec;
    Band band;
  };
  std::vector<Row> rows_;
  bool passes_over_misfits_ = false;
};

// The bands of the table, and those of the model for launches of more rows than the table speaks of. Neighbours of
// equal choices are one band; the last one is for any number of rows.
std::vector<Band> bands_of(const TuningTable& tuning, const Target& target, std::string_view operation,
                           std::string_view spec, const core::Facts& facts);

}  // namespace gdn::plan
