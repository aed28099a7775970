#include "emit/tree.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>

namespace gdn::emit {
namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(fmt::format("cannot read {}: {}", path.string(), std::strerror(errno)));
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

bool write_file(const fs::path& path, const std::string& text) {
  std::error_code ignored;
  if (fs::is_regular_file(path, ignored) && read_file(path) == text) return false;
  if (path.has_parent_path()) {
    std::error_code failed;
    fs::create_directories(path.parent_path(), failed);
    if (failed) {
      throw std::runtime_error(fmt::format("cannot make {}: {}", path.parent_path().string(), failed.message()));
    }
  }
  // The stage lies in the same folder: a rename across file systems would not be atomic.
  const fs::path stage = path.parent_path() / fmt::format(".{}.{}.tmp", path.filename().string(), ::getpid());
  {
    std::ofstream file(stage, std::ios::binary | std::ios::trunc);
    file.write(text.data(), static_cast<std::streamsize>(text.size()));
    file.close();
    if (!file) {
      const int error = errno;
      fs::remove(stage, ignored);
      throw std::runtime_error(fmt::format("cannot write {}: {}", path.string(), std::strerror(error)));
    }
  }
  std::error_code failed;
  fs::rename(stage, path, failed);
  if (failed) {
    fs::remove(stage, ignored);
    throw std::runtime_error(fmt::format("cannot write {}: {}", path.string(), failed.message()));
  }
  return true;
}

Written write(const std::vector<EmittedFile>& files, const fs::path& root) {
  Written result;
  for (const EmittedFile& file : files) ++(write_file(root / file.path, file.text) ? result.written : result.unchanged);
  return result;
}

std::vector<Finding> compare(const std::vector<EmittedFile>& expected, const fs::path& root) {
  std::vector<Finding> findings;
  std::set<std::string> claimed = {"README.md"};
  for (const EmittedFile& file : expected) {
    claimed.insert(file.path);
    const fs::path path = root / file.path;
    std::error_code ignored;
    if (!fs::is_regular_file(path, ignored)) {
      findings.push_back({Difference::kMissing, file.path});
    } else if (read_file(path) != file.text) {
      findings.push_back({Difference::kChanged, file.path});
    }
  }
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_directory() && !entry.is_symlink()) continue;
    const std::string path = entry.path().lexically_relative(root).generic_string();
    if (claimed.count(path) == 0) findings.push_back({Difference::kOrphaned, path});
  }
  return findings;
}

}  // namespace gdn::emit
