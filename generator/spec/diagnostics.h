// What is wrong with a spec, where, by which rule, and how people are told.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "spec/spec.h"

namespace gdn::spec {

enum class Severity { kError, kWarning };

// A second place that belongs to a diagnostic: the other half of a contradiction.
struct Note {
  Place place;
  std::string message;
};

struct Diagnostic {
  Severity severity = Severity::kError;
  Place place;  // line 0: the file as a whole
  std::string message;
  std::string rule;  // "heads.group"
  std::vector<Note> notes;

  // Adds a note; returns *this so that calls chain.
  Diagnostic& note(Place at, std::string text);
};

// Collects the diagnostics of one file. At most kMaxKept are kept, the rest are counted, so that a hostile file costs
// bounded memory.
class Diagnostics {
 public:
  static constexpr std::size_t kMaxKept = 200;

  // The reference stays valid as long as this object: notes are added through it.
  Diagnostic& error(Place place, std::string_view rule, std::string message);
  Diagnostic& warning(Place place, std::string_view rule, std::string message);

  bool has_errors() const { return errors_ != 0; }
  std::size_t errors() const { return errors_; }    // dropped ones included
  std::size_t dropped() const { return dropped_; }  // diagnostics beyond kMaxKept
  bool empty() const { return all_.empty(); }
  std::size_t kept() const { return all_.size(); }
  std::vector<Diagnostic> sorted() const;  // by source, line and column; those of a whole file first

  // Says that everything reported after the first `kept` stands in this source.
  void move_to_source(std::size_t kept, int source);

 private:
  Diagnostic& add(Severity severity, Place place, std::string_view rule, std::string message);

  std::deque<Diagnostic> all_;
  Diagnostic discarded_;  // where notes of dropped diagnostics go
  std::size_t errors_ = 0;
  std::size_t dropped_ = 0;
};

// The text that people read, one block per diagnostic:
//
//   specs/a.yaml:13:10: error: heads.value = 33 is not a multiple of heads.key = 16 [heads.group]
//      13 |   value: 33
//         |          ^~
//   specs/a.yaml:12:8: note: heads.key is set here
//
// `file` is printed as given; `text` is the file's content. Columns are bytes from 1. Tabs stay tabs (in the caret line
// too), bytes that a terminal must not see are escaped, and a long line is clipped around the caret.
std::string render(const Diagnostics& diagnostics, std::string_view file, std::string_view text);

// The same for a spec (the first source) with overlays: each diagnostic names the file that it stands in.
std::string render(const Diagnostics& diagnostics, const std::vector<Source>& sources);

// User text for a message: in single quotes, control and non-UTF-8 bytes escaped, clipped to some 48 characters.
std::string quote(std::string_view text);

}  // namespace gdn::spec
