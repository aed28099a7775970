#include "tool/names.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tool/command.h"

namespace gdn::tool {
namespace {
namespace fs = std::filesystem;

bool is_here(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_path(const std::string& name) {
  return name.find('/') != std::string::npos || name.find(".yaml") != std::string::npos;
}

Found find(const std::string& name, int depth);

// Not a name of a file: one of names.txt.
Found find_other_name(const std::string& name, int depth) {
  const Names names = read_names("specs/names.txt");
  for (const Names::Alias& alias : names.aliases) {
    if (alias.name != name || depth != 0) continue;
    Found found = find(alias.spec, 1);
    found.layers = alias.layers;
    return found;
  }
  for (const Names::Refused& refused : names.refused) {
    if (refused.name == name) throw Failure(kFinding, fmt::format("{} has no spec: {}", name, refused.reason));
  }
  throw Failure(kCannotJudge, fmt::format("no spec {0}: neither a file of that name nor specs/{0}.yaml nor "
                                          "specs/more/{0}.yaml nor a line in specs/names.txt is here",
                                          name));
}

Found find_model(const std::string& name, int depth) {
  if (is_here(name) || is_path(name)) return {{name}, {}};
  for (const char* folder : {"specs", "specs/more"}) {
    std::string file = fmt::format("{}/{}.yaml", folder, name);
    if (is_here(file)) return {{std::move(file)}, {}};
  }
  return find_other_name(name, depth);
}

std::string find_overlay(const std::string& name, const fs::path& beside) {
  if (name.empty()) throw Failure(kBadUsage, "a spec's name ends in '+' or has two of them: write model+overlay");
  if (is_path(name)) return name;
  std::string known;
  for (const fs::path& folder : {beside / "engines", beside / ".." / "engines", fs::path("specs/engines")}) {
    const fs::path file = (folder / (name + ".yaml")).lexically_normal();
    if (is_here(file)) return file.generic_string();
    std::error_code ignored;
    if (!known.empty() || !fs::is_directory(folder, ignored)) continue;
    for (const std::string& overlay : spec_files(folder.string())) known += " " + fs::path(overlay).stem().string();
  }
  throw Failure(kCannotJudge, fmt::format("no overlay {0}: engines/{0}.yaml is not here; there {1}", name,
                                          known.empty() ? "are none" : "are" + known));
}

Found find(const std::string& name, int depth) {
  // A file may have any name, plus signs included.
  if (is_here(name) || name.find('+') == std::string::npos) return find_model(name, depth);
  std::size_t at = name.find('+');
  Found found = find_model(name.substr(0, at), depth);
  while (at != std::string::npos) {
    const std::size_t next = name.find('+', at + 1);
    found.files.push_back(find_overlay(name.substr(at + 1, next == std::string::npos ? next : next - at - 1),
                                       fs::path(found.files.front()).parent_path()));
    at = next;
  }
  return found;
}

// "layers of 32: 0 1 2 4"; nothing for any other text.
std::optional<spec::Layers> parse_layers(const std::string& text) {
  std::istringstream words(text);
  std::string layers, of;
  int count = 0;
  if (!(words >> layers >> of >> count) || layers != "layers" || of != "of" || words.get() != ':') return std::nullopt;
  spec::Layers parsed;
  parsed.count.value = count;
  for (int layer = 0; words >> layer;) {
    const int least = parsed.list.value.empty() ? 0 : parsed.list.value.back() + 1;
    if (layer < least || layer >= count) return std::nullopt;
    parsed.list.value.push_back(layer);
  }
  if (!words.eof() || parsed.list.value.empty()) return std::nullopt;
  return parsed;
}

}  // namespace

Found find_spec(const std::string& name) { return find(name, 0); }

Names read_names(const std::string& file) {
  Names names;
  std::ifstream stream(file);
  std::string line;
  for (int number = 1; std::getline(stream, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string kind, name, rest;
    if (!(words >> kind)) continue;
    words >> name;
    std::getline(words >> std::ws, rest);
    const std::string spec = rest.substr(0, rest.find(' '));
    const std::size_t more = rest.find_first_not_of(' ', spec.size());
    std::optional<spec::Layers> layers;
    if (more != std::string::npos) layers = parse_layers(rest.substr(more));
    if (kind == "alias" && !spec.empty() && (more == std::string::npos || layers)) {
      names.aliases.push_back({name, spec, std::move(layers)});
    } else if (kind == "refuse" && !rest.empty()) {
      names.refused.push_back({name, rest});
    } else {
      throw Failure(kFinding, fmt::format("{}:{}: write `alias NAME SPEC`, `alias NAME SPEC layers of COUNT: LAYER...` "
                                          "(ascending, counted from 0) or `refuse NAME REASON`",
                                          file, number));
    }
  }
  return names;
}

}  // namespace gdn::tool
