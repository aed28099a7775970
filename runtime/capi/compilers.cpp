#include "capi/compilers.h"

#include <fmt/format.h>

#include "cache/cached_compiler.h"
#include "error.h"

namespace gdn::runtime {
namespace {

std::unique_ptr<Compiler> nvrtc() { return make_nvrtc(); }
std::unique_ptr<Compiler> hiprtc() { return make_hiprtc(); }
std::unique_ptr<Compiler> clang() { return make_clang(); }
std::unique_ptr<Compiler> host() { return make_host_compiler(); }

}  // namespace

std::shared_ptr<const Compiler> Compilers::open(const char* name, std::unique_ptr<Compiler> (*make)()) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<const Compiler>& known = open_[name];
  if (known != nullptr) return known;
  if (cache_ == nullptr) {
    CacheSettings settings = CacheSettings::from_environment();
    settings.warn = warn_;
    cache_ = std::make_shared<const DiskCache>(std::move(settings));
  }
  known = std::make_shared<const CachedCompiler>(std::shared_ptr<const Compiler>(make()), cache_);
  return known;
}

std::shared_ptr<const Compiler> Compilers::find(const Place& place, const std::string& target) {
  if (place.kind == Place::Kind::kSimt) return open("host", host);
  if (place.kind == Place::Kind::kHip) {
    std::string missing;
    try {
      std::shared_ptr<const Compiler> first = open("hiprtc", hiprtc);
      if (first->knows(target)) return first;
    } catch (const Error& error) {
      if (error.code() != Code::kMissingLibrary) throw;
      missing = error.what();
    }
    try {
      std::shared_ptr<const Compiler> second = open("clang", clang);
      if (second->knows(target)) return second;
    } catch (const Error& error) {
      if (error.code() != Code::kMissingLibrary || missing.empty()) throw;
      throw Error(Code::kMissingLibrary, fmt::format("{}\n{}", missing, error.what()));
    }
    throw Error(Code::kUnsupported, fmt::format("neither hiprtc nor clang can compile for {}", target));
  }
  std::shared_ptr<const Compiler> compiler = open("nvrtc", nvrtc);
  if (!compiler->knows(target)) {
    throw Error(Code::kUnsupported, fmt::format("{} can't compile for {}", compiler->version(), target));
  }
  return compiler;
}

}  // namespace gdn::runtime
