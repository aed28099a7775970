// The tuning table: measured choices for a kernel on a target, kept in generator/plan/tuning.txt and written by
// `gdn-gen tune`.
//
// Text format, version 3. The first line is "gdn-gen tuning 3"; '#' starts a comment; a row is
//
//   <target> <operation> <spec or *> <most rows or *> [plain, programmatic or *] <choice>=<integer> ...
//
// Rows that name a kind of edge are for launches on such edges, others for launches on both. A launch takes the row
// with the smallest number of rows that it fits, '*' being any number; of two rows for as many rows the one of the
// spec's own name wins over '*', then the one for its edge alone. A launch on a programmatic edge that fits none of the
// rows for such edges takes those for plain ones. Where no row is left the written model of choices.h decides.
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

  // For launches on such an edge, by the number of rows, increasing, a band for any number (max_rows 0) last. Empty
  // when neither the spec nor '*' has a row.
  std::vector<Band> find(std::string_view target, std::string_view operation, std::string_view spec,
                         core::Edge edge) const;

  // Replaces the rows of a spec, or adds them.
  void set(std::string_view target, std::string_view operation, std::string_view spec, const std::vector<Band>& bands);

  // The same for the rows of one kind of edge: launches on the other kind keep theirs. Equal ones become one row.
  void set(std::string_view target, std::string_view operation, std::string_view spec, const std::vector<Band>& bands,
           core::Edge edge);

  std::string to_text() const;

 private:
  struct Row {
    std::string target, operation, spec;
    Band band;
    bool is_of(std::string_view a_target, std::string_view an_operation, std::string_view a_spec) const {
      return target == a_target && operation == an_operation && spec == a_spec;
    }
  };
  std::vector<Row> rows_;
  bool passes_over_misfits_ = false;
};

// The bands of the table, and those of the model for launches of more rows than the table speaks of: by the number of
// rows, increasing, of which a launch takes the first that it fits. Neighbours of equal choices are one band, and so
// are those for as many rows on plain and on programmatic edges; the last one is for any number of rows, on plain edges
// at least.
std::vector<Band> bands_of(const TuningTable& tuning, const Target& target, std::string_view operation,
                           std::string_view spec, const core::Facts& facts);

}  // namespace gdn::plan
