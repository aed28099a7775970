#include "cache/disk_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>
#include <vector>

#include "cache/entry.h"
#include "compile/library.h"
#include "error.h"

namespace gdn::runtime {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kVersionFolder = "v1";
constexpr std::string_view kStage = ".stage.";
constexpr std::string_view kLock = ".lock.";
// Between making a stage or a lock file and locking it a process is only this slow when it is stopped.
constexpr std::int64_t kOrphanSeconds = 60;

static_assert(kCacheFormat == 1, "the version folder's name follows the format");

// Why a folder can't be trusted; empty: it can. What lies in it becomes code of this process.
std::string distrust(const fs::path& folder) {
  struct stat info = {};
  if (stat(folder.c_str(), &info) != 0) return std::strerror(errno);
  if (!S_ISDIR(info.st_mode)) return "it is no folder";
  if (info.st_uid != geteuid()) return fmt::format("it belongs to user {}, not to user {}", info.st_uid, geteuid());
  if ((info.st_mode & 022) != 0) return "its group or others may write it: chmod go-w it";
  return {};
}

// Makes a folder and those above it, for this user alone. Returns why it failed.
std::string make_folder(const fs::path& folder) {
  if (mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST) return {};
  if (errno != ENOENT || !folder.has_parent_path() || folder.parent_path() == folder) return std::strerror(errno);
  std::string failed = make_folder(folder.parent_path());
  if (!failed.empty()) return failed;
  return mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST ? std::string() : std::strerror(errno);
}

std::string home() {
  std::string named = environment("HOME");
  if (!named.empty()) return named;
  std::vector<char> buffer(16384);
  passwd entry = {};
  passwd* found = nullptr;
  getpwuid_r(geteuid(), &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr || found->pw_dir == nullptr ? std::string() : std::string(found->pw_dir);
}

bool starts_with(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  DIR* const directory = opendir(folder.c_str());
  if (directory == nullptr) return names;
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(directory);
  return names;
}

// Whether the path still names this open file.
bool is_at(int file, const fs::path& path) {
  struct stat opened = {}, named = {};
  return fstat(file, &opened) == 0 && lstat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
         opened.st_dev == named.st_dev;
}

enum class Attempt { kHeld, kBusy, kImpossible };

// A lock file is unlinked by its holder while it holds it: who locked a file that lost its name tries again.
Attempt try_lock(const fs::path& path, CacheLock& lock) {
  for (int i = 0; i < 100; ++i) {
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) return Attempt::kImpossible;
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
      const bool busy = errno == EWOULDBLOCK;
      close(file);
      return busy ? Attempt::kBusy : Attempt::kImpossible;
    }
    if (is_at(file, path)) {
      lock = CacheLock(file, path);
      return Attempt::kHeld;
    }
    close(file);
  }
  return Attempt::kBusy;
}

// A stage or a lock file of a process that is no more.
void remove_orphan(const fs::path& path) {
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0) return;
  if (std::abs(static_cast<std::int64_t>(time(nullptr)) - static_cast<std::int64_t>(info.st_mtime)) < kOrphanSeconds) {
    return;
  }
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (file < 0) return;
  if (flock(file, LOCK_EX | LOCK_NB) == 0 && is_at(file, path)) {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  close(file);
}

struct Used {
  timespec time = {};
  std::uint64_t bytes = 0;
  std::string name;
};

Used use_of(const fs::path& folder, const std::string& name) {
  Used used;
  used.name = name;
  for (const std::string& file : names_in(folder / name)) {
    struct stat info = {};
    if (lstat((folder / name / file).c_str(), &info) != 0) continue;
    used.bytes += static_cast<std::uint64_t>(info.st_size);
    if (file == kEntryInfo) used.time = info.st_mtim;
  }
  return used;
}

// Entries vanish as a whole: a reader that opened some of the files notices at the next one.
void remove_entry(const fs::path& folder, const std::string& name) {
  std::string gone = (folder / ".stage.gone.XXXXXX").string();
  std::error_code ignored;
  if (mkdtemp(gone.data()) == nullptr) {
    fs::remove_all(folder / name, ignored);  // a full disk has no room for a folder's name
    return;
  }
  fs::rename(folder / name, fs::path(gone) / name, ignored);
  fs::remove_all(gone, ignored);
}

}  // namespace

CacheLock::~CacheLock() {
  if (file_ < 0) return;
  unlink(path_.c_str());
  close(file_);
}

CacheSettings CacheSettings::from_environment() {
  CacheSettings settings;
  const std::string own = environment("GDN_CACHE_DIR"), xdg = environment("XDG_CACHE_HOME");
  std::error_code ignored;
  if (!own.empty()) {
    settings.root = fs::absolute(own, ignored);
  } else if (!xdg.empty() && xdg[0] == '/') {  // the XDG specification: a relative path is to be ignored
    settings.root = fs::path(xdg) / "gdn-gen";
  } else if (const std::string folder = home(); !folder.empty()) {
    settings.root = fs::path(folder) / ".cache" / "gdn-gen";
  }
  if (const std::string text = environment("GDN_CACHE_MIB"); !text.empty()) {
    std::uint64_t mib = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mib);
    if (error != std::errc() || end != text.data() + text.size() || mib > (std::uint64_t{1} << 40)) {
      throw Error(Code::kBadArgument, fmt::format("GDN_CACHE_MIB={}: give the largest size of the disk cache in MiB, a "
                                                  "whole number",
                                                  text));
    }
    settings.max_bytes = mib << 20;
  }
  if (const std::string text = environment("GDN_JIT"); !text.empty()) {
    if (text != "on" && text != "off") {
      throw Error(Code::kBadArgument, fmt::format("GDN_JIT={}: it is on or off", text));
    }
    settings.jit = text == "on";
  }
  return settings;
}

fs::path DiskCache::folder() const { return settings_.root / kVersionFolder; }

void DiskCache::warn(const std::string& text) const {
  if (!warned_.exchange(true) && settings_.warn) settings_.warn(text);
}

bool DiskCache::usable(bool create) const {
  constexpr const char* kGoOn =
      "Kernels are compiled again in every process. Set GDN_CACHE_DIR to a folder of your own";
  if (settings_.root.empty()) {
    if (create) warn(fmt::format("no folder for the disk cache: neither HOME nor XDG_CACHE_HOME is set. {}", kGoOn));
    return false;
  }
  const fs::path folders[] = {settings_.root, folder()};
  for (const fs::path& path : folders) {
    struct stat info = {};
    if (stat(path.c_str(), &info) != 0 && errno == ENOENT) {
      if (!create) return false;
      const std::string failed = make_folder(path);
      if (!failed.empty()) {
        warn(fmt::format("the disk cache {} can't be made: {}. {}", path.string(), failed, kGoOn));
        return false;
      }
    }
    const std::string reason = distrust(path);
    if (!reason.empty()) {
      warn(fmt::format("the disk cache {} is not used: {}. {}", path.string(), reason, kGoOn));
      return false;
    }
  }
  return true;
}

std::optional<Binary> DiskCache::load(const CacheKey& key) const {
  if (!usable(false)) return std::nullopt;
  return read_entry(folder() / key.name, key);
}

std::optional<Binary> DiskCache::load_or_lock(const CacheKey& key, CacheLock& lock) const {
  if (!usable(true)) return std::nullopt;
  const fs::path path = folder() / (std::string(kLock) + key.name);
  const Clock::time_point deadline = Clock::now() + settings_.lock_limit;
  std::chrono::milliseconds pause{2};
  for (;;) {
    const Attempt attempt = try_lock(path, lock);
    // Who just got the lock may have got it from one that stored the entry.
    std::optional<Binary> binary = read_entry(folder() / key.name, key);
    if (binary || attempt != Attempt::kBusy || Clock::now() >= deadline) return binary;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(50));
  }
}

void DiskCache::store(const CacheKey& key, const Source& source, const Binary& binary) const {
  if (!usable(true)) return;
  const fs::path entry = folder() / key.name;
  std::string stage = (folder() / (std::string(kStage) + "XXXXXX")).string();
  if (mkdtemp(stage.data()) == nullptr) {
    warn(fmt::format("the disk cache {} can't be written: {}. Kernels are compiled again in every process",
                     folder().string(), std::strerror(errno)));
    return;
  }
  const int alive = open(stage.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (alive >= 0) flock(alive, LOCK_EX | LOCK_NB);
  std::string failed = write_entry(stage, key, source, binary);
  std::error_code ignored;
  // What is there already is an entry of another process, which is as good, or a broken one.
  if (failed.empty() && rename(stage.c_str(), entry.c_str()) != 0 && !read_entry(entry, key)) {
    remove_entry(folder(), key.name);
    if (rename(stage.c_str(), entry.c_str()) != 0 && !read_entry(entry, key)) failed = std::strerror(errno);
  }
  fs::remove_all(stage, ignored);
  if (alive >= 0) close(alive);
  if (!failed.empty()) {
    warn(fmt::format("the disk cache {} can't be written: {}. Kernels are compiled again in every process",
                     folder().string(), failed));
    return;
  }
  sweep(key.name);
}

void DiskCache::sweep(const std::string& keep) const {
  CacheLock alone;  // several at once would only evict more than there is to evict
  if (try_lock(folder() / ".lock.sweep", alone) != Attempt::kHeld) return;
  std::vector<Used> entries;
  std::uint64_t total = 0;
  for (const std::string& name : names_in(folder())) {
    if (name == ".lock.sweep") continue;
    if (starts_with(name, kStage) || starts_with(name, kLock)) {
      remove_orphan(folder() / name);
    } else {
      entries.push_back(use_of(folder(), name));
      total += entries.back().bytes;
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Used& a, const Used& b) {
    return a.time.tv_sec != b.time.tv_sec ? a.time.tv_sec < b.time.tv_sec : a.time.tv_nsec < b.time.tv_nsec;
  });
  for (const Used& entry : entries) {
    if (total <= settings_.max_bytes) return;
    if (entry.name == keep) continue;
    remove_entry(folder(), entry.name);
    total -= entry.bytes;
  }
}

}  // namespace gdn::runtime
