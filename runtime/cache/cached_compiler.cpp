#include "cache/cached_compiler.h"

#include <fmt/format.h>

#include <filesystem>

#include "error.h"

namespace gdn::runtime {

Binary CachedCompiler::compile(const Source& source, const std::string& target, const Options& options) const {
  const bool jit = cache_->settings().jit;
  if (options.no_cache && jit) return compiler_->compile(source, target, options);
  const CacheKey key = make_key(*compiler_, source, target, options);
  if (!options.no_cache) {
    if (std::optional<Binary> hit = cache_->load(key)) return std::move(*hit);
  }
  if (!jit) {
    throw Error(
        Code::kNotBuilt,
        fmt::format("GDN_JIT=off, and {} for {} was not built ahead of time: the disk cache {} has no entry {}. "
                    "Build it with `gdn-gen build SPEC --target {} --bundle FILE`, or run once with GDN_JIT=on",
                    std::filesystem::path(source.name).stem().string(), target, cache_->settings().root.string(),
                    key.name, target));
  }
  CacheLock lock;
  if (std::optional<Binary> hit = cache_->load_or_lock(key, lock)) return std::move(*hit);
  Binary binary = compiler_->compile(source, target, options);
  cache_->store(key, source, binary);
  return binary;
}

}  // namespace gdn::runtime
