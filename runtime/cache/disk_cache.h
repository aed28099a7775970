// Compiled kernels on disk: one folder an entry, shared by every process of a user.
//
//   <root>/v1/<symbol>.<hash>/    info      sizes and checksums of the files below; its time is that of the last use
//                                 key       the whole key, compared byte by byte
//                                 source.*  what was compiled
//                                 binary, log, assembly
//   <root>/v1/.lock.<symbol>.<hash>   held by the process that compiles it
//   <root>/v1/.stage.*                an entry that is not whole yet
//
// Anything odd (missing, truncated, altered, another key, another owner) is a miss. A process may be killed at any
// point: entries appear by renaming a whole folder, the system frees its locks, and its stage is removed later on.
// Nothing here throws, except from_environment(): a cache that doesn't work costs time, not kernels.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "cache/key.h"
#include "compile/compiler.h"

namespace gdn::runtime {

struct CacheSettings {
  std::filesystem::path root;                        // made where it is missing; empty: no cache
  std::uint64_t max_bytes = std::uint64_t{1} << 30;  // least recently used entries go beyond it
  std::chrono::milliseconds lock_limit{60000};       // how long to wait for another process that compiles the same
  bool jit = true;                                   // false: what is not in the cache is an error, not a compilation
  std::function<void(const std::string&)> warn;  // called at most once for a DiskCache, from any thread; may be empty

  // $GDN_CACHE_DIR, else $XDG_CACHE_HOME/gdn-gen, else ~/.cache/gdn-gen; $GDN_CACHE_MIB bounds the size; $GDN_JIT is
  // on (the default) or off. Throws Error kBadArgument for other values of the last two.
  static CacheSettings from_environment();
};

// An advisory lock of one key, between threads and processes. Freed with the object.
class CacheLock {
 public:
  CacheLock() = default;
  CacheLock(int file, std::filesystem::path path) : file_(file), path_(std::move(path)) {}
  ~CacheLock();
  CacheLock(CacheLock&& other) noexcept { swap(other); }
  CacheLock& operator=(CacheLock&& other) noexcept {
    swap(other);
    return *this;
  }
  bool held() const { return file_ >= 0; }

 private:
  void swap(CacheLock& other) noexcept {
    std::swap(file_, other.file_);
    std::swap(path_, other.path_);
  }
  int file_ = -1;
  std::filesystem::path path_;
};

// Thread-safe.
class DiskCache {
 public:
  explicit DiskCache(CacheSettings settings) : settings_(std::move(settings)) {}

  const CacheSettings& settings() const { return settings_; }

  // The entry, its time of use renewed; nothing for a miss.
  std::optional<Binary> load(const CacheKey& key) const;

  // Takes the key's lock. While another process holds it, waits until that process's entry is there (returned then) or
  // the limit is over. Nothing returned: the caller compiles, with or without the lock.
  std::optional<Binary> load_or_lock(const CacheKey& key, CacheLock& lock) const;

  // Adds an entry and evicts others beyond the bound; warns where that fails.
  void store(const CacheKey& key, const Source& source, const Binary& binary) const;

 private:
  std::filesystem::path folder() const;
  bool usable(bool create) const;
  void warn(const std::string& text) const;
  void sweep(const std::string& keep) const;

  CacheSettings settings_;
  mutable std::atomic<bool> warned_{false};
};

}  // namespace gdn::runtime
