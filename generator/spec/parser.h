// Spec text to Spec.
//
//   parse     one file's text; types, keys and YAML only
//   check     parse, then validate (validator.h): all errors of a file in one run
//   load      check of a file on disk
//
// Each reports to `diagnostics` (render() in diagnostics.h turns them into text) and returns a Spec only when it
// reported no error: such a Spec is complete, and after check and load it obeys every rule of rules.h.
#pragma once

#include <optional>
#include <string>

#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::spec {

// `file` is for messages, and its stem must be the spec's name (check); nothing is opened.
std::optional<Spec> parse(std::string file, std::string text, Diagnostics& diagnostics);

std::optional<Spec> check(std::string file, std::string text, Diagnostics& diagnostics);

// A spec (the first source) with overlays laid over it in their order. The spec is named <name>_<overlay>... .
std::optional<Spec> check(std::vector<Source> sources, Diagnostics& diagnostics);

// `text`, when given, receives what was read, for render().
std::optional<Spec> load(const std::string& file, Diagnostics& diagnostics, std::string* text = nullptr);

// The whole file. Reports file.read or file.size (missing, directory, unreadable, larger than kMaxSpecBytes).
std::optional<std::string> read_file(const std::string& file, Diagnostics& diagnostics);

// load; throws std::runtime_error with the rendered diagnostics when there is an error.
Spec load_or_throw(const std::string& file);

}  // namespace gdn::spec
