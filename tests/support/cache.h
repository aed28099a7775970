// What the tests of the disk cache share: a compiler that counts, and folders to cache in.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cache/cached_compiler.h"
#include "compile/private_dir.h"

namespace gdn::test {

// "Compiles" by prefixing the source; each compilation adds a byte to a file, so that it counts those of every process.
class CountingCompiler final : public runtime::Compiler {
 public:
  explicit CountingCompiler(std::filesystem::path log, std::chrono::milliseconds duration = {}, std::size_t padding = 0)
      : log_(std::move(log)), duration_(duration), padding_(padding) {}

  std::string name() const override { return "counting"; }
  std::string version() const override { return "counting 1"; }
  std::string fingerprint() const override { return fingerprint_; }
  bool knows(std::string_view) const override { return true; }
  runtime::Binary compile(const runtime::Source& source, const std::string& target,
                          const runtime::Options&) const override {
    const int file = open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file >= 0) {
      const ssize_t written = write(file, "x", 1);
      static_cast<void>(written);
      close(file);
    }
    std::this_thread::sleep_for(duration_);
    return expected(source, target);
  }

  runtime::Binary expected(const runtime::Source& source, const std::string& target) const {
    const std::string text = "code of " + source.text + " for " + target + std::string(padding_, '.');
    runtime::Binary binary;
    binary.bytes.assign(text.begin(), text.end());
    binary.log = "no remarks\n";
    binary.assembly = "s_endpgm\n";
    binary.seconds = 0.5;
    return binary;
  }

  int compilations() const {
    struct stat info = {};
    return stat(log_.c_str(), &info) == 0 ? static_cast<int>(info.st_size) : 0;
  }

  void set_fingerprint(const std::string& text) { fingerprint_ = text; }

 private:
  std::filesystem::path log_;
  std::chrono::milliseconds duration_;
  std::size_t padding_;
  std::string fingerprint_ = "counting 1";
};

inline runtime::Source cache_source(const std::string& text = "kernel") {
  return {"cuda/gdn_model_decode_sm_90a.cu", text, {{"gdn/a.h", "first"}, {"gdn/b.h", "second"}}};
}

// A cache in a folder of its own, and what it warned of.
struct CacheFixture {
  runtime::PrivateDir dir;
  std::vector<std::string> warnings;
  runtime::CacheSettings settings;
  std::shared_ptr<CountingCompiler> compiler = std::make_shared<CountingCompiler>(dir.path() / "compilations");

  CacheFixture() {
    settings.root = dir.path() / "cache";
    settings.warn = [this](const std::string& text) { warnings.push_back(text); };
  }
  std::shared_ptr<runtime::DiskCache> cache() const { return std::make_shared<runtime::DiskCache>(settings); }
  runtime::CachedCompiler cached() const { return {compiler, cache()}; }
  std::string text_of(const runtime::Binary& binary) const { return {binary.bytes.begin(), binary.bytes.end()}; }

  // The names in v1, hidden ones included.
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(settings.root / "v1", ignored)) {
      found.push_back(entry.path().filename().string());
    }
    return found;
  }
};

}  // namespace gdn::test
