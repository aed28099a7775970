// A directory of this process alone: mode 0700, a fresh name, gone with the object.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace gdn::runtime {

class PrivateDir {
 public:
  // Below $TMPDIR, else /tmp. Throws kSystem when it can't be made.
  PrivateDir();
  ~PrivateDir();
  PrivateDir(const PrivateDir&) = delete;
  PrivateDir& operator=(const PrivateDir&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Writes a file, with the folders above it. `name` is relative and stays inside: otherwise kBadArgument. Throws
  // kSystem when the disk is full or refuses. Returns the path.
  std::filesystem::path write(const std::string& name, std::string_view bytes) const;

  bool has(const std::string& name) const;

  // The whole file; throws kSystem when it can't be read.
  std::string read(const std::string& name) const;

 private:
  std::filesystem::path path_;
};

}  // namespace gdn::runtime
