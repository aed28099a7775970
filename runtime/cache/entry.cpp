#include "cache/entry.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "core/identity.h"

namespace gdn::runtime {
namespace {

constexpr std::string_view kBanner = "gdn-gen cache entry 1\n";
constexpr std::int64_t kLargestFile = std::int64_t{1} << 30;

class File {
 public:
  File(const std::filesystem::path& path, int flags, mode_t mode = 0)
      : number_(open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode)) {}
  ~File() { close(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int number() const { return number_; }
  bool ok() const { return number_ >= 0; }
  bool close() {
    const int number = std::exchange(number_, -1);
    return number < 0 || ::close(number) == 0;
  }

 private:
  int number_;
};

bool is_own(const struct stat& info) { return info.st_uid == geteuid(); }

// A whole regular file of this user.
bool read_file(const std::filesystem::path& path, std::string& bytes) {
  // A pipe in the place of a file must not block.
  const File file(path, O_RDONLY | O_NONBLOCK);
  struct stat info = {};
  if (!file.ok() || fstat(file.number(), &info) != 0 || !S_ISREG(info.st_mode) || !is_own(info)) return false;
  if (info.st_size > kLargestFile) return false;
  bytes.resize(static_cast<std::size_t>(info.st_size));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = read(file.number(), bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

bool write_file(const std::filesystem::path& path, std::string_view bytes) {
  File file(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (!file.ok()) return false;
  while (!bytes.empty()) {
    const ssize_t count = write(file.number(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return file.close();
}

std::string_view text_of(const std::vector<std::uint8_t>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string line_of(std::string_view name, std::string_view bytes) {
  return fmt::format("{} {} {}\n", name, bytes.size(), core::id_text(core::fnv1a(bytes)));
}

std::string source_name(const Source& source) {
  const std::string extension = std::filesystem::path(source.name).extension().string();
  return extension.size() > 1 && extension.size() < 8 ? "source" + extension : "source.txt";
}

}  // namespace

std::optional<Binary> read_entry(const std::filesystem::path& folder, const CacheKey& key) {
  struct stat info = {};
  if (lstat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || !is_own(info)) return std::nullopt;
  std::string stated, text, bytes;
  Binary binary;
  binary.cached = true;
  if (!read_file(folder / kEntryInfo, stated)) return std::nullopt;
  if (!read_file(folder / "key", text) || text != key.text) return std::nullopt;
  if (!read_file(folder / "binary", bytes) || !read_file(folder / "log", binary.log) ||
      !read_file(folder / "assembly", binary.assembly)) {
    return std::nullopt;
  }
  const std::string seen = fmt::format("{}{}{}{}{}", kBanner, line_of("key", text), line_of("binary", bytes),
                                       line_of("log", binary.log), line_of("assembly", binary.assembly));
  if (bytes.empty() || stated != seen) return std::nullopt;
  binary.bytes.assign(bytes.begin(), bytes.end());
  utimensat(AT_FDCWD, (folder / kEntryInfo).c_str(), nullptr, AT_SYMLINK_NOFOLLOW);  // on a read-only root it stays
  return binary;
}

std::string write_entry(const std::filesystem::path& folder, const CacheKey& key, const Source& source,
                        const Binary& binary) {
  const std::string_view bytes = text_of(binary.bytes);
  const std::string info = fmt::format("{}{}{}{}{}", kBanner, line_of("key", key.text), line_of("binary", bytes),
                                       line_of("log", binary.log), line_of("assembly", binary.assembly));
  const std::pair<std::string, std::string_view> files[] = {
      {"key", key.text},   {source_name(source), source.text}, {"binary", bytes},
      {"log", binary.log}, {"assembly", binary.assembly},      {kEntryInfo, info}};
  for (const auto& [name, text] : files) {
    if (!write_file(folder / name, text)) return std::strerror(errno);
  }
  return {};
}

}  // namespace gdn::runtime
