// gdn-gen probe: vectors with which an engine can try a spec's layout on its own code.
#include <fmt/format.h>

#include <memory>

#include "emit/tree.h"
#include "review/probe_file.h"
#include "tool/command.h"

namespace gdn::tool {

void add_probe(CLI::App& program, int&) {
  struct Options {
    std::string spec, out;
    int rows = 2, ranks = 1;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "probe", "Write tensors whose values say where they lie, and the expected view of every part, as safetensors");
  command->add_option("SPEC", options->spec, "spec file or name")->required();
  command->add_option("--out", options->out, "file to write")->required();
  command->add_option("--rows", options->rows, "tokens and slots")->check(CLI::Range(1, 64))->capture_default_str();
  add_ranks(*command, options->ranks);
  command->callback([options] {
    const Loaded loaded = load(options->spec, options->ranks);
    emit::write_file(options->out, review::probe_file({loaded.spec, loaded.layout}, options->rows));
    fmt::print("{} written\n", options->out);
  });
}

}  // namespace gdn::tool
