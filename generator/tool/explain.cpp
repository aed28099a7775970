// gdn-gen explain: the address map for people.
#include "review/explain.h"

#include <fmt/format.h>

#include <memory>
#include <stdexcept>

#include "emit/tree.h"
#include "tool/command.h"

namespace gdn::tool {

void add_explain(CLI::App& program, int&) {
  struct Options {
    std::string spec, tensor, html;
    int ranks = 1;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("explain", "Show where every part of a spec's tensors lies, and the formulas");
  command->add_option("SPEC", options->spec, "spec file or name")->required();
  command->add_option("--tensor", options->tensor, "one tensor: qkvz, pools.state, ...; default: all");
  command->add_option("--html", options->html, "write one page that works offline: all tensors to scale");
  add_ranks(*command, options->ranks);
  command->callback([options] {
    const Loaded loaded = load(options->spec, options->ranks);
    const review::Side side{loaded.spec, loaded.layout};
    if (!options->html.empty()) {
      emit::write_file(options->html, review::explain_html(side));
      fmt::print("{} written\n", options->html);
      if (options->tensor.empty()) return;
    }
    try {
      fmt::print("{}", review::explain_text(side, options->tensor));
    } catch (const std::out_of_range& error) {
      throw Failure(kBadUsage, error.what());
    }
  });
}

}  // namespace gdn::tool
