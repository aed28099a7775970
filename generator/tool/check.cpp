// gdn-gen check: is the generated tree what the specs say?
#include <fmt/format.h>

#include <memory>

#include "emit/tree.h"
#include "tool/command.h"

namespace gdn::tool {

void add_check(CLI::App& program, int& exit_code) {
  struct Options {
    std::string specs = "specs", generated = "generated";
    int ranks = 1;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "check", "Compare the generated tree with specs x operations x targets: changed, missing and orphaned files");
  command->add_option("SPECS", options->specs, "folder of specs")->required();
  command->add_option("GENERATED", options->generated, "folder of emitted files")->required();
  add_ranks(*command, options->ranks);
  command->callback([options, &exit_code] {
    std::vector<Loaded> specs;
    for (const std::string& file : spec_files(options->specs)) specs.push_back(load(file, options->ranks));
    std::error_code failed;
    if (!std::filesystem::is_directory(options->generated, failed)) {
      throw Failure(kCannotJudge, fmt::format("{} is not a folder", options->generated));
    }
    std::vector<std::string> left_out;
    const auto files = expected_tree(specs, parse_operations({}), parse_targets({}), &left_out, true);
    for (const std::string& reason : left_out) fmt::print("left out: {}\n", reason);
    const auto findings = emit::compare(files, options->generated);
    for (const emit::Finding& finding : findings) {
      const char* what = finding.difference == emit::Difference::kChanged   ? "changed"
                         : finding.difference == emit::Difference::kMissing ? "missing"
                                                                            : "orphaned";
      fmt::print("{}: {}/{}\n", what, options->generated, finding.path);
    }
    if (findings.empty()) {
      fmt::print("{} files of {} specs are current\n", files.size(), specs.size());
    } else {
      fmt::print(stderr, "gdn-gen: {} differences: run `gdn-gen emit {} --out {}` and delete what is orphaned\n",
                 findings.size(), options->specs, options->generated);
      exit_code = kFinding;
    }
  });
}

}  // namespace gdn::tool
