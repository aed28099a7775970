// What the subcommands share: exit codes, registration, loading specs with their diagnostics printed.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/plan.h"
#include "emit/manifest.h"
#include "emit/source.h"
#include "layout/layout.h"
#include "plan/plan.h"
#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::tool {

enum ExitCode : int {
  kGood = 0,
  kFinding = 1,  // a finding, a bad spec, a failed verification
  kBadUsage = 2,
  kSilent = 3,       // diff only: a difference that no check of shapes and dtypes can see
  kCannotJudge = 4,  // unreadable input, no device
};

// Ends the command: main prints what() to standard error and exits with the code.
class Failure : public std::runtime_error {
 public:
  Failure(ExitCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// Each adds its subcommand to the program; its callback sets `exit_code`.
void add_lint(CLI::App& program, int& exit_code);
void add_dump(CLI::App& program, int& exit_code);
void add_emit(CLI::App& program, int& exit_code);
void add_build(CLI::App& program, int& exit_code);
void add_check(CLI::App& program, int& exit_code);
void add_verify(CLI::App& program, int& exit_code);
void add_bench(CLI::App& program, int& exit_code);
void add_tune(CLI::App& program, int& exit_code);
void add_list(CLI::App& program, int& exit_code);
void add_demo(CLI::App& program, int& exit_code);
void add_diff(CLI::App& program, int& exit_code);
void add_explain(CLI::App& program, int& exit_code);
void add_match(CLI::App& program, int& exit_code);
void add_import(CLI::App& program, int& exit_code);
void add_probe(CLI::App& program, int& exit_code);

// The files of a spec, read and checked; nothing is printed. `spec` is there when there were no errors.
struct Read {
  std::vector<spec::Source> sources;  // the spec, then its overlays
  spec::Diagnostics diagnostics;
  std::optional<spec::Spec> spec;
};

// By path or name, as load() below. Throws Failure for a name that is not there.
// With `ranks` above 1, a number of ranks that the heads can't be shared by is an error of the spec like any other.
Read read(const std::string& file_or_name, int ranks = 1);

// To standard error; throws Failure(kFinding) with the number of errors where there are any.
void print_diagnostics(const Read& read);

// A parsed and valid spec and its layout.
struct Loaded {
  spec::Spec spec;
  layout::Layout layout;
};

// A spec by path or name, with overlays ("qwen3_5_27b+vllm_ds"; see names.h for where they are sought). Prints
// diagnostics to standard error and throws Failure when there are errors. With `ranks` above 1 it is what one rank of
// tensor parallelism holds; throws Failure(kFinding) naming the legal numbers where the heads can't be shared.
Loaded load(const std::string& file_or_name, int ranks = 1);

// Adds --tuning FILE to a subcommand; the table that it names replaces the one that this program was built with.
void add_tuning(CLI::App& command, std::string& file);
plan::TuningTable load_tuning(const std::string& file);

// Adds --tp N to a subcommand.
void add_ranks(CLI::App& command, int& ranks);

// Every *.yaml directly below a folder, sorted by name; throws Failure for a folder that cannot be read or has none.
std::vector<std::string> spec_files(const std::string& folder);

// Targets by name; throws Failure(kBadUsage) naming the legal ones. "all" and an empty list mean all of them.
std::vector<const plan::Target*> parse_targets(const std::vector<std::string>& names);

// Operations by name; throws Failure(kBadUsage) naming the legal ones. Empty for "all" and an empty list, which mean
// those that a spec has on a target: see chosen().
std::vector<std::string> parse_operations(const std::vector<std::string>& names);
std::vector<std::string> chosen(const std::vector<std::string>& operations, const layout::Layout& layout,
                                const plan::Target& target);

// Everything that the tree generated from these specs holds, the manifest included. A kernel that its target can't hold
// is left out and the reason appended to `left_out`; without that, it throws Failure. With `kept`, of each target only
// what a checked-in tree keeps (plan::Target::kept).
std::vector<emit::EmittedFile> expected_tree(const std::vector<Loaded>& specs,
                                             const std::vector<std::string>& operations,
                                             const std::vector<const plan::Target*>& targets,
                                             std::vector<std::string>* left_out = nullptr, bool kept = false);

}  // namespace gdn::tool
