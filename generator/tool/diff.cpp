// gdn-gen diff: what a change of a spec means.
#include "review/diff.h"

#include <fmt/format.h>

#include <memory>

#include "tool/command.h"

namespace gdn::tool {

void add_diff(CLI::App& program, int& exit_code) {
  struct Options {
    std::string before, after;
    bool markdown = false;
    int ranks = 1;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "diff",
      "Compare two specs by meaning: numbers, moved operands, kernels to rebuild, pools still readable.\n"
      "Exit codes: 0 the same; 1 differences that a check of shapes and dtypes sees; 3 a silent difference;\n"
      "4 one of the specs can't be judged");
  command->add_option("OLD", options->before, "spec file or name")->required();
  command->add_option("NEW", options->after, "spec file or name")->required();
  command->add_flag("--markdown", options->markdown, "a table for a pull request");
  add_ranks(*command, options->ranks);
  command->callback([options, &exit_code] {
    const auto read = [&](const std::string& name) {
      try {
        return load(name, options->ranks);
      } catch (const Failure& failure) {
        throw Failure(kCannotJudge, failure.what());
      }
    };
    const Loaded before = read(options->before), after = read(options->after);
    const review::Difference difference = review::compare({before.spec, before.layout}, {after.spec, after.layout});
    fmt::print("{}", options->markdown ? review::to_markdown(difference) : review::to_text(difference));
    exit_code = difference.silent() != 0 ? kSilent : difference.any() ? kFinding : kGood;
  });
}

}  // namespace gdn::tool
