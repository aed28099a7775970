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

std::string find_model(const std::string& name, int depth = 0) {
  if (is_here(name) || is_path(name)) return name;
  for (const char* folder : {"specs", "specs/more"}) {
    const std::string file = fmt::format("{}/{}.yaml", folder, name);
    if (is_here(file)) return file;
  }
  const Names names = read_names("specs/names.txt");
  for (const Names::Alias& alias : names.aliases) {
    if (alias.name == name && depth == 0) return find_model(alias.spec, 1);
  }
  for (const Names::Refused& refused : names.refused) {
    if (refused.name == name) throw Failure(kFinding, fmt::format("{} has no spec: {}", name, refused.reason));
  }
  throw Failure(kCannotJudge, fmt::format("no spec {0}: neither a file of that name nor specs/{0}.yaml nor "
                                          "specs/more/{0}.yaml nor a line in specs/names.txt is here",
                                          name));
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

}  // namespace

std::vector<std::string> find_spec(const std::string& name) {
  // A file may have any name, plus signs included.
  if (is_here(name) || name.find('+') == std::string::npos) return {find_model(name)};
  std::vector<std::string> files;
  std::size_t at = name.find('+');
  files.push_back(find_model(name.substr(0, at)));
  while (at != std::string::npos) {
    const std::size_t next = name.find('+', at + 1);
    files.push_back(find_overlay(name.substr(at + 1, next == std::string::npos ? next : next - at - 1),
                                 fs::path(files.front()).parent_path()));
    at = next;
  }
  return files;
}

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
    if (kind == "alias" && !rest.empty() && rest.find(' ') == std::string::npos) {
      names.aliases.push_back({name, rest});
    } else if (kind == "refuse" && !rest.empty()) {
      names.refused.push_back({name, rest});
    } else {
      throw Failure(kFinding, fmt::format("{}:{}: write `alias NAME SPEC` or `refuse NAME REASON`", file, number));
    }
  }
  return names;
}

}  // namespace gdn::tool
