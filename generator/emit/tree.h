// The generated tree: what should be in it, what is in it, and the one place that writes files.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "emit/source.h"

namespace gdn::emit {

enum class Difference : std::uint8_t { kChanged, kMissing, kOrphaned };

struct Finding {
  Difference difference;
  std::string path;  // below the tree's root
};

// Compares the files that should be there with those that are. Every file below `root` counts, whoever put it there;
// README.md at the root is the tree's own. Throws std::filesystem::filesystem_error for what cannot be read.
std::vector<Finding> compare(const std::vector<EmittedFile>& expected, const std::filesystem::path& root);

struct Written {
  int written = 0;
  int unchanged = 0;
};

// Writes the files whose content differs, each staged beside its place and renamed, so that a reader sees the old file
// or the new one and a failure leaves no half-written one. Throws std::runtime_error naming the file and the reason.
Written write(const std::vector<EmittedFile>& files, const std::filesystem::path& root);

// The whole of a file; throws std::runtime_error naming it.
std::string read_file(const std::filesystem::path& path);

// One file, written as write() does. True when its content changed.
bool write_file(const std::filesystem::path& path, const std::string& text);

}  // namespace gdn::emit
