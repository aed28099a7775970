// A compiler that looks into a disk cache first.
#pragma once

#include <memory>
#include <string>

#include "cache/disk_cache.h"
#include "compile/compiler.h"

namespace gdn::runtime {

// Is what it wraps, but compile() returns what the cache holds, and what it compiled goes there. Of several processes
// or threads that want the same kernel at once, one compiles and the others wait for its entry, up to the cache's
// limit. Options::no_cache leaves the cache out.
class CachedCompiler final : public Compiler {
 public:
  CachedCompiler(std::shared_ptr<const Compiler> compiler, std::shared_ptr<const DiskCache> cache)
      : compiler_(std::move(compiler)), cache_(std::move(cache)) {}

  std::string name() const override { return compiler_->name(); }
  std::string version() const override { return compiler_->version(); }
  std::string fingerprint() const override { return compiler_->fingerprint(); }
  bool knows(std::string_view target) const override { return compiler_->knows(target); }

  // Throws what the compiler throws, and kNotBuilt for a miss when the cache's settings forbid just-in-time
  // compilation: its text says what to build ahead of time.
  Binary compile(const Source& source, const std::string& target, const Options& options = {}) const override;

 private:
  std::shared_ptr<const Compiler> compiler_;
  std::shared_ptr<const DiskCache> cache_;
};

}  // namespace gdn::runtime
