// gdn-gen list: what there is to choose from.
#include <fmt/format.h>

#include <memory>

#include "plan/operation.h"
#include "tool/command.h"

namespace gdn::tool {

void add_list(CLI::App& program, int&) {
  auto folder = std::make_shared<std::string>("specs");
  CLI::App* command = program.add_subcommand("list", "Specs, operations and targets");
  command->add_option("SPECS", *folder, "folder of specs")->capture_default_str();
  command->callback([folder] {
    fmt::print("specs in {}:\n", *folder);
    for (const std::string& file : spec_files(*folder)) {
      const Loaded loaded = load(file);
      const core::Facts& n = loaded.layout.numbers;
      fmt::print("  {:<20} {:<24} {} heads {}/{}, K={}, V={}\n", loaded.layout.spec, *loaded.spec.model,
                 n.rule == core::Rule::kGdn ? "GDN" : "KDA", n.key_heads, n.value_heads, n.key_dim, n.value_dim);
    }
    fmt::print("operations:\n ");
    for (const std::string_view operation : plan::operations()) fmt::print(" {}", operation);
    fmt::print("\ntargets:\n");
    for (const plan::Target& target : plan::targets()) fmt::print("  {:<12} {}\n", target.name, target.about);
  });
}

}  // namespace gdn::tool
