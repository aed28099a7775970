#include "tool/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "emit/listing.h"
#include "emit/tree.h"
#include "layout/resolve.h"
#include "layout/shard.h"
#include "plan/operation.h"
#include "spec/diagnostics.h"
#include "spec/parser.h"
#include "spec/ranks.h"
#include "tool/names.h"

namespace gdn::tool {
namespace fs = std::filesystem;
namespace {

// "specs/qwen3_next_80b.yaml" from any path to that file: emitted banners name no folder of the machine.
std::string portable_name(const std::string& file) {
  const fs::path path = fs::absolute(file).lexically_normal();
  return (path.parent_path().filename() / path.filename()).generic_string();
}

}  // namespace

Read read(const std::string& file_or_name, int ranks) {
  Read result;
  const Found found = find_spec(file_or_name);
  for (const std::string& file : found.files) {
    const std::size_t kept = result.diagnostics.kept();
    std::optional<std::string> text = spec::read_file(file, result.diagnostics);
    result.diagnostics.move_to_source(kept, static_cast<int>(result.sources.size()));
    result.sources.push_back({file, text ? std::move(*text) : ""});
  }
  if (!result.diagnostics.has_errors()) result.spec = spec::check(result.sources, result.diagnostics);
  if (result.spec && found.layers) {
    result.spec->layers.count.value = *found.layers->count;
    result.spec->layers.base.value = *found.layers->base;
    result.spec->layers.list.value = *found.layers->list;
  }
  if (result.spec && ranks > 1) {
    spec::check_ranks(*result.spec, ranks, result.diagnostics);
    if (result.diagnostics.has_errors()) result.spec.reset();
  }
  return result;
}

void print_diagnostics(const Read& read) {
  if (!read.diagnostics.empty()) fmt::print(stderr, "{}", spec::render(read.diagnostics, read.sources));
  if (!read.diagnostics.has_errors()) return;
  std::string files;
  for (const spec::Source& source : read.sources) files += (files.empty() ? "" : " + ") + source.file;
  throw Failure(kFinding, fmt::format("{}: {} error{}", files, read.diagnostics.errors(),
                                      read.diagnostics.errors() == 1 ? "" : "s"));
}

Loaded load(const std::string& file_or_name, int ranks) {
  Read result = read(file_or_name, ranks);
  print_diagnostics(result);
  if (!result.spec) throw Failure(kFinding, fmt::format("{}: no spec could be read", file_or_name));
  std::string portable;
  for (const spec::Source& source : result.sources) {
    portable += (portable.empty() ? "" : " + ") + portable_name(source.file);
  }
  Loaded loaded{std::move(*result.spec), {}};
  loaded.spec = layout::shard(loaded.spec, ranks);
  loaded.layout = layout::resolve(loaded.spec);
  loaded.layout.spec_file = portable;
  if (ranks > 1) loaded.layout.spec_file += fmt::format(" --tp {}", ranks);
  return loaded;
}

void add_tuning(CLI::App& command, std::string& file) {
  command.add_option("--tuning", file, "a tuning table in place of the built-in one (generator/plan/tuning.txt)");
}

plan::TuningTable load_tuning(const std::string& file) {
  if (file.empty()) return plan::TuningTable::built_in();
  try {
    return plan::TuningTable::parse(emit::read_file(file));
  } catch (const std::runtime_error& error) {
    throw Failure(kCannotJudge, fmt::format("{}: {}", file, error.what()));
  }
}

void add_ranks(CLI::App& command, int& ranks) {
  command.add_option("--tp", ranks, "tensor parallelism: the layout of one rank of N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
}

std::vector<std::string> spec_files(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, failed)) {
    if (entry.path().extension() == ".yaml") files.push_back(entry.path().string());
  }
  if (failed) throw Failure(kCannotJudge, fmt::format("cannot read the folder {}: {}", folder, failed.message()));
  if (files.empty()) throw Failure(kCannotJudge, fmt::format("no *.yaml in {}", folder));
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<const plan::Target*> parse_targets(const std::vector<std::string>& names) {
  std::vector<const plan::Target*> chosen;
  const bool all = names.empty() || (names.size() == 1 && names[0] == "all");
  if (all) {
    for (const plan::Target& target : plan::targets()) chosen.push_back(&target);
    return chosen;
  }
  for (const std::string& name : names) {
    const plan::Target* target = plan::find_target(name);
    if (target == nullptr) {
      std::string legal;
      for (const plan::Target& known : plan::targets()) legal += fmt::format(" {}", known.name);
      throw Failure(kBadUsage, fmt::format("unknown target {}: the targets are{}", name, legal));
    }
    if (std::find(chosen.begin(), chosen.end(), target) == chosen.end()) chosen.push_back(target);
  }
  return chosen;
}

std::vector<std::string> parse_operations(const std::vector<std::string>& names) {
  if (names.size() == 1 && names[0] == "all") return {};
  for (const std::string& name : names) {
    if (plan::is_operation(name)) continue;
    std::string legal;
    for (const std::string_view known : plan::operations()) legal += fmt::format(" {}", known);
    throw Failure(kBadUsage, fmt::format("unknown operation {}: the operations are{}", name, legal));
  }
  return names;
}

std::vector<std::string> chosen(const std::vector<std::string>& operations, const layout::Layout& layout,
                                const plan::Target& target) {
  if (!operations.empty()) return operations;
  const std::vector<std::string_view> all = plan::operations_on(layout, target);
  if (all.empty()) return {"decode"};  // whose plan says why
  return {all.begin(), all.end()};
}

std::vector<emit::EmittedFile> expected_tree(const std::vector<Loaded>& specs,
                                             const std::vector<std::string>& operations,
                                             const std::vector<const plan::Target*>& targets,
                                             std::vector<std::string>* left_out, bool kept) {
  std::vector<emit::EmittedFile> files;
  std::vector<emit::ManifestEntry> entries;
  for (const Loaded& loaded : specs) {
    for (const plan::Target* target : targets) {
      for (const std::string& operation : chosen(operations, loaded.layout, *target)) {
        if (kept && !target->kept.empty() && operation != target->kept) continue;
        try {
          const plan::Planned planned = plan::make(loaded.layout, operation, *target);
          files.push_back(emit::source(planned));
          entries.push_back({files.back().path, planned.kernel});
          if (target->family == plan::Family::kCpu) files.push_back(emit::listing(planned.kernel));
        } catch (const plan::Unplannable& error) {
          std::string reason = fmt::format("{}: {}", loaded.spec.file, error.what());
          if (left_out == nullptr) throw Failure(kFinding, reason);
          left_out->push_back(std::move(reason));
        }
      }
    }
  }
  files.push_back({"manifest.json", emit::manifest(std::move(entries))});
  return files;
}

}  // namespace gdn::tool
