// gdn-gen emit: sources of the specs' kernels, written where they differ.
#include <fmt/format.h>

#include <memory>

#include "compile/headers.h"
#include "emit/standalone.h"
#include "emit/tree.h"
#include "tool/command.h"

namespace gdn::tool {
namespace {

std::vector<const plan::Target*> gpu_targets(const std::vector<const plan::Target*>& targets) {
  std::vector<const plan::Target*> chosen;
  for (const plan::Target* target : targets) {
    if (target->family != plan::Family::kCpu) chosen.push_back(target);
  }
  return chosen;
}

// The sources with their headers folded in. A manifest speaks of a tree that `gdn-gen check` looks after.
void fold(std::vector<emit::EmittedFile>& files) {
  std::vector<emit::EmittedFile> folded;
  for (const emit::EmittedFile& file : files) {
    if (file.path != "manifest.json") folded.push_back(emit::standalone(file, runtime::template_headers()));
  }
  files = std::move(folded);
}

}  // namespace

namespace {

// What is emitted is only a part: the manifest goes on naming the files that are there already.
void keep_others_in_manifest(std::vector<emit::EmittedFile>& files, const std::string& out) {
  std::error_code ignored;
  for (emit::EmittedFile& file : files) {
    const std::filesystem::path there = std::filesystem::path(out) / file.path;
    if (file.path == "manifest.json" && std::filesystem::is_regular_file(there, ignored)) {
      file.text = emit::merge_manifests(emit::read_file(there), file.text);
    }
  }
}

}  // namespace

void add_emit(CLI::App& program, int&) {
  struct Options {
    std::vector<std::string> specs, targets, operations;
    std::string out = "generated";
    bool list = false;
    bool standalone = false;
    int ranks = 1;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("emit", "Write the specialised sources of specs");
  command->add_option("SPEC", options->specs, "spec files, names of specs, or folders of them")->required();
  command->add_option("--target", options->targets, "sm_90a,gfx942,...; default: all targets, of some decode alone")
      ->delimiter(',');
  command->add_option("--operation", options->operations, "decode,unpack,...; default: all operations")->delimiter(',');
  command->add_option("--out", options->out, "folder to write to; files that differ are replaced, others stay")
      ->capture_default_str();
  command->add_flag("--list", options->list, "print the paths and write nothing");
  command->add_flag("--standalone", options->standalone,
                    "fold the template headers into each file; GPU targets only, no manifest");
  add_ranks(*command, options->ranks);
  command->callback([options] {
    std::vector<Loaded> specs;
    bool whole_tree = options->targets.empty() && options->operations.empty();
    for (const std::string& spec : options->specs) {
      std::error_code ignored;
      if (std::filesystem::is_directory(spec, ignored)) {
        for (const std::string& file : spec_files(spec)) specs.push_back(load(file, options->ranks));
      } else {
        whole_tree = false;
        specs.push_back(load(spec, options->ranks));
      }
    }
    auto targets = parse_targets(options->targets);
    if (options->standalone && options->targets.empty()) targets = gpu_targets(targets);
    // On a target that nobody named a kernel may be missing, with the reason.
    std::vector<std::string> left_out;
    const bool kept = options->targets.empty() && !options->standalone;
    auto files = expected_tree(specs, parse_operations(options->operations), targets, kept ? &left_out : nullptr, kept);
    for (const std::string& reason : left_out) fmt::print(stderr, "left out: {}\n", reason);
    if (options->standalone) fold(files);
    if (options->list) {
      for (const emit::EmittedFile& file : files) fmt::print("{}\n", file.path);
      return;
    }
    if (!whole_tree) keep_others_in_manifest(files, options->out);
    const emit::Written result = emit::write(files, options->out);
    fmt::print("{}: {} files written, {} already current\n", options->out, result.written, result.unchanged);
  });
}

}  // namespace gdn::tool
