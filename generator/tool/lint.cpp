// gdn-gen lint: every diagnostic of every spec named.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "review/findings.h"
#include "tool/command.h"

namespace gdn::tool {

void add_lint(CLI::App& program, int& exit_code) {
  struct Options {
    std::vector<std::string> specs;
    std::string format = "text";
    int ranks = 1;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("lint", "Check specs: every error of a file in one run, with its place");
  command->add_option("SPEC", options->specs, "spec files, names of specs, or folders of them")->required();
  command->add_option("--format", options->format, "text, github (annotations of a workflow), sarif (code scanning)")
      ->check(CLI::IsMember({"text", "github", "sarif"}))
      ->capture_default_str();
  add_ranks(*command, options->ranks);
  command->callback([options, &exit_code] {
    std::vector<std::string> names;
    for (const std::string& spec : options->specs) {
      std::error_code ignored;
      if (std::filesystem::is_directory(spec, ignored)) {
        for (std::string& file : spec_files(spec)) names.push_back(std::move(file));
      } else {
        names.push_back(spec);
      }
    }
    std::size_t bad = 0;
    std::vector<review::Finding> findings;
    for (const std::string& name : names) {
      try {
        Read read = tool::read(name, options->ranks);
        if (options->format == "text") {
          print_diagnostics(read);
        } else {
          if (!read.spec) ++bad;
          findings.push_back({std::move(read.sources), std::move(read.diagnostics)});
        }
      } catch (const Failure& failure) {
        fmt::print(stderr, "gdn-gen: {}\n", failure.what());
        ++bad;
      }
    }
    if (options->format == "sarif") {
      fmt::print("{}", review::to_sarif(findings, GDN_VERSION));
    } else {
      for (const review::Finding& finding : findings) fmt::print("{}", review::to_github(finding));
      fmt::print("{} spec{} checked, {} with errors\n", names.size(), names.size() == 1 ? "" : "s", bad);
    }
    if (bad != 0) exit_code = kFinding;
  });
}

}  // namespace gdn::tool
