#include "compile/files.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>

#include "compile/process.h"
#include "error.h"

namespace gdn::runtime {

std::string write_source(const PrivateDir& dir, const Source& source) {
  for (const auto& [name, text] : source.headers) dir.write(name, text);
  const std::string name = std::filesystem::path(source.name).filename().string();
  dir.write(name.empty() ? "kernel" : name, source.text);
  return name.empty() ? "kernel" : name;
}

std::string file_stamp(const std::string& path) {
  std::error_code failed;
  const std::filesystem::path real = std::filesystem::canonical(path, failed);
  struct stat info = {};
  if (failed || stat(real.c_str(), &info) != 0) return path + " (unreadable)";
  return fmt::format("{} of {} bytes, changed {}.{:09}", real.string(), info.st_size, info.st_mtim.tv_sec,
                     info.st_mtim.tv_nsec);
}

std::string version_line(const std::string& program) {
  const ProcessResult result = run_process({program, "--version"}, "", std::chrono::seconds(20));
  const std::string line = result.output.substr(0, result.output.find('\n'));
  if (!result.ok() || line.empty()) {
    throw Error(Code::kMissingLibrary, fmt::format("`{} --version` says nothing useful ({}): it is no compiler.\n{}",
                                                   program, result.ending(), result.errors));
  }
  return line;
}

}  // namespace gdn::runtime
