#include "compile/private_dir.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "compile/library.h"
#include "error.h"

namespace gdn::runtime {
namespace fs = std::filesystem;

PrivateDir::PrivateDir() {
  std::string root = environment("TMPDIR");
  if (root.empty()) root = "/tmp";
  std::string name = root + "/gdn-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) {  // 0700 by definition
    throw Error(Code::kSystem, fmt::format("can't make a temporary directory below {}: {}. Set TMPDIR to a folder that "
                                           "you may write",
                                           root, std::strerror(errno)));
  }
  path_ = name;
}

PrivateDir::~PrivateDir() {
  std::error_code ignored;  // what is left behind is a file in a temporary folder
  fs::remove_all(path_, ignored);
}

fs::path PrivateDir::write(const std::string& name, std::string_view bytes) const {
  const fs::path relative = fs::path(name).lexically_normal();
  if (relative.empty() || relative.is_absolute() || *relative.begin() == "..") {
    throw Error(Code::kBadArgument, fmt::format("`{}` is no name for a file inside a directory", name));
  }
  const fs::path path = path_ / relative;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) {
    throw Error(Code::kSystem,
                fmt::format("can't write {}: is the disk full? Set TMPDIR to another folder", path.string()));
  }
  return path;
}

bool PrivateDir::has(const std::string& name) const {
  std::error_code error;
  return fs::is_regular_file(path_ / name, error);
}

std::string PrivateDir::read(const std::string& name) const {
  std::ifstream file(path_ / name, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.good() && !file.eof()) throw Error(Code::kSystem, fmt::format("can't read {}", (path_ / name).string()));
  return bytes;
}

}  // namespace gdn::runtime
