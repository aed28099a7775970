// gdn-gen lint: every diagnostic of every spec named.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "tool/command.h"

namespace gdn::tool {

void add_lint(CLI::App& program, int& exit_code) {
  auto specs = std::make_shared<std::vector<std::string>>();
  CLI::App* command = program.add_subcommand("lint", "Check specs: every error of a file in one run, with its place");
  command->add_option("SPEC", *specs, "spec files, names of specs, or folders of them")->required();
  command->callback([specs, &exit_code] {
    std::vector<std::string> files;
    for (const std::string& spec : *specs) {
      std::error_code ignored;
      if (std::filesystem::is_directory(spec, ignored)) {
        for (std::string& file : spec_files(spec)) files.push_back(std::move(file));
      } else {
        files.push_back(spec);
      }
    }
    std::size_t bad = 0;
    for (const std::string& file : files) {
      try {
        load(file);
      } catch (const Failure& failure) {
        fmt::print(stderr, "gdn-gen: {}\n", failure.what());
        ++bad;
      }
    }
    fmt::print("{} spec{} checked, {} with errors\n", files.size(), files.size() == 1 ? "" : "s", bad);
    if (bad != 0) exit_code = kFinding;
  });
}

}  // namespace gdn::tool
