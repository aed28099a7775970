// gdn-gen list: what there is to choose from.
#include <fmt/format.h>

#include <memory>

#include "plan/operation.h"
#include "review/language.h"
#include "tool/command.h"
#include "tool/names.h"

namespace gdn::tool {

void add_list(CLI::App& program, int&) {
  struct Options {
    std::string specs = "specs";
    bool keys = false, schema = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("list", "Specs, operations and targets; or the spec language itself");
  command->add_option("SPECS", options->specs, "folder of specs")->capture_default_str();
  command->add_flag("--keys", options->keys, "every key, tensor, dimension and rule of the spec language, as Markdown");
  command->add_flag("--schema", options->schema, "the spec language as a JSON Schema, for editors");
  command->callback([options] {
    if (options->keys || options->schema) {
      if (options->keys) fmt::print("{}", review::language_markdown());
      if (options->schema) fmt::print("{}", review::language_schema());
      return;
    }
    fmt::print("specs in {}:\n", options->specs);
    for (const std::string& file : spec_files(options->specs)) {
      const Loaded loaded = load(file);
      const core::Facts& n = loaded.layout.numbers;
      fmt::print("  {:<20} {:<24} {} heads {}/{}, K={}, V={}\n", loaded.layout.spec, *loaded.spec.model,
                 n.rule == core::Rule::kGdn ? "GDN" : "KDA", n.key_heads, n.value_heads, n.key_dim, n.value_dim);
    }
    fmt::print("operations:\n ");
    for (const std::string_view operation : plan::operations()) fmt::print(" {}", operation);
    fmt::print("\ntargets:\n");
    for (const plan::Target& target : plan::targets()) fmt::print("  {:<12} {}\n", target.name, target.about);
    namespace fs = std::filesystem;
    const auto stems = [&](const char* sub) {
      std::string text;
      std::error_code ignored;
      const fs::path below = fs::path(options->specs) / sub;
      if (!fs::is_directory(below, ignored)) return text;
      for (const std::string& file : spec_files(below.string())) text += " " + fs::path(file).stem().string();
      return text;
    };
    if (const std::string more = stems("more"); !more.empty())
      fmt::print("specs without checked-in kernels:\n {}\n", more);
    if (const std::string overlays = stems("engines"); !overlays.empty()) {
      fmt::print("overlays (write spec+overlay):\n {}\n", overlays);
    }
    std::string aliases;
    for (const Names::Alias& alias : read_names((fs::path(options->specs) / "names.txt").string()).aliases) {
      aliases += fmt::format("  {} = {}\n", alias.name, alias.spec);
    }
    if (!aliases.empty()) fmt::print("other names:\n{}", aliases);
  });
}

}  // namespace gdn::tool
