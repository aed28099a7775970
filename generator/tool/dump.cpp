// gdn-gen dump: the value of one stage as text.
#include <fmt/format.h>

#include <memory>

#include "layout/layout_text.h"
#include "layout/shard.h"
#include "spec/spec_text.h"
#include "tool/command.h"

namespace gdn::tool {

void add_dump(CLI::App& program, int&) {
  struct Options {
    std::string spec, stage = "layout";
    std::vector<std::string> targets, operations;
    int ranks = 1;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("dump", "Print what a spec becomes at a stage");
  command->add_option("SPEC", options->spec, "spec file or name")->required();
  command->add_option("--stage", options->stage, "spec (normalised), layout (every stride), plan (per kernel)")
      ->check(CLI::IsMember({"spec", "layout", "plan"}))
      ->capture_default_str();
  command->add_option("--target", options->targets, "targets of --stage plan; default: all")->delimiter(',');
  command->add_option("--operation", options->operations, "operations of --stage plan; default: all")->delimiter(',');
  add_ranks(*command, options->ranks);
  command->callback([options] {
    const Loaded loaded = load(options->spec, options->ranks);
    if (options->stage == "spec") {
      fmt::print("{}", spec::to_text(loaded.spec));
    } else if (options->stage == "layout") {
      if (options->ranks > 1) fmt::print("{}", layout::shards_text(load(options->spec).layout, options->ranks));
      fmt::print("{}", layout::to_text(loaded.layout));
    } else {
      const std::vector<std::string> operations = parse_operations(options->operations);
      for (const plan::Target* target : parse_targets(options->targets)) {
        for (const std::string& operation : chosen(operations, loaded.layout, *target)) {
          fmt::print("{}", core::to_text(plan::make(loaded.layout, operation, *target).kernel));
        }
      }
    }
  });
}

}  // namespace gdn::tool
