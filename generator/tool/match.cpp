// gdn-gen match: a spec against a checkpoint's own files. gdn-gen import: a spec from them.
#include "review/match.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "emit/tree.h"
#include "tool/command.h"

namespace gdn::tool {
namespace {

review::Checkpoint read_files(const std::string& config, const std::vector<std::string>& safetensors) {
  try {
    return review::read_checkpoint(config, safetensors);
  } catch (const review::BadCheckpoint& error) {
    throw Failure(kCannotJudge, error.what());
  }
}

}  // namespace

void add_match(CLI::App& program, int& exit_code) {
  struct Options {
    std::string spec, config;
    std::vector<std::string> safetensors;
    int ranks = 1;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "match",
      "Compare a spec with a checkpoint's config.json and safetensors headers: every disagreement, by key and tensor");
  command->add_option("SPEC", options->spec, "spec file or name")->required();
  command->add_option("--config", options->config, "the model's config.json")->required();
  command->add_option("--safetensors", options->safetensors,
                      "its safetensors files, or some of them; only headers are read");
  add_ranks(*command, options->ranks);
  command->callback([options, &exit_code] {
    const Loaded loaded = [&] {
      try {
        // Checkpoints are whole: that the ranks can share it is all that they decide.
        if (options->ranks > 1) load(options->spec, options->ranks);
        return load(options->spec);
      } catch (const Failure& failure) {
        throw Failure(kCannotJudge, failure.what());
      }
    }();
    const review::Checkpoint checkpoint = read_files(options->config, options->safetensors);
    const auto disagreements = review::match({loaded.spec, loaded.layout}, checkpoint);
    for (const review::Disagreement& d : disagreements) fmt::print("{}: {}: {}\n", d.key, d.source, d.what);
    if (disagreements.empty()) {
      fmt::print("{} fits {}{}\n", loaded.layout.spec, options->config,
                 checkpoint.layers.empty() ? "; give --safetensors to compare the tensors too"
                                           : fmt::format(" and {} layers' tensors", checkpoint.layers.size()));
    } else {
      exit_code = kFinding;
    }
  });
}

void add_import(CLI::App& program, int&) {
  struct Options {
    std::string config, engine, name, out;
    std::vector<std::string> safetensors;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "import", "Write a spec from a checkpoint's own files; what they don't say is FILL_IN, which lint reports");
  command->add_option("--config", options->config, "the model's config.json")->required();
  command->add_option("--safetensors", options->safetensors,
                      "its safetensors files, or some of them; only headers are read");
  command->add_option("--engine", options->engine,
                      "an overlay, vllm_ds or such, whose choices are written; default: FILL_IN");
  command->add_option("--name", options->name, "the spec's name; default: the config's model_type");
  command->add_option("--out", options->out, "file to write; default: print it");
  command->callback([options] {
    const review::Checkpoint checkpoint = read_files(options->config, options->safetensors);
    std::optional<Loaded> engine;
    // Any model that the overlay is for can carry its choices.
    const std::string& type = checkpoint.config.model_type;
    const bool next = type.find("qwen3_next") == 0 || type.find("gigachat3") == 0;
    const std::string carrier = checkpoint.config.kda ? "kimi_linear_48b+"
                                : next                ? "qwen3_next_80b+"
                                                      : "qwen3_5_35b_a3b+";
    if (!options->engine.empty()) engine = load(carrier + options->engine);
    std::string name = options->name.empty() ? checkpoint.config.model_type : options->name;
    if (name.empty()) name = "imported";
    const std::string text = review::import_spec(checkpoint, name, engine ? &engine->spec : nullptr);
    if (options->out.empty()) {
      fmt::print("{}", text);
    } else {
      emit::write_file(options->out, text);
      fmt::print(stderr, "{} written: run `gdn-gen lint {}` and fill in what it names\n", options->out, options->out);
    }
  });
}

}  // namespace gdn::tool
