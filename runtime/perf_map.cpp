#include "perf_map.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "error.h"

namespace gdn::runtime {
namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw Error(Code::kSystem, fmt::format("GDN_PERF_MAP=1: {}: {}. Remove it, or unset the variable", path, why));
}

class File {
 public:
  explicit File(const std::string& path)
      : descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR)) {
    if (descriptor_ < 0) refuse(path, std::strerror(errno));
  }
  ~File() { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

}  // namespace

void append_to_perf_map(const std::string& path, const void* code, std::size_t bytes, std::string_view symbol) {
  const File file(path);
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) refuse(path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) refuse(path, "it is no regular file");
  if (status.st_uid != ::geteuid()) refuse(path, "it belongs to another user");
  if (status.st_nlink != 1) refuse(path, "it has other names, so that it may be another file");
  // One write, so that lines of several threads stay whole.
  const std::string line = fmt::format("{:x} {:x} {}\n", reinterpret_cast<std::uintptr_t>(code), bytes, symbol);
  if (::write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    refuse(path, std::strerror(errno));
  }
}

void name_for_perf(const void* code, std::size_t bytes, std::string_view symbol) {
  const char* const asked = std::getenv("GDN_PERF_MAP");
  if (asked == nullptr || std::string_view(asked) == "0" || *asked == '\0') return;
  if (std::string_view(asked) != "1") {
    throw Error(Code::kBadArgument,
                fmt::format("GDN_PERF_MAP={}: it is 1 to name generated code for perf, or 0 not to", asked));
  }
  append_to_perf_map(fmt::format("/tmp/perf-{}.map", ::getpid()), code, bytes, symbol);
}

}  // namespace gdn::runtime
