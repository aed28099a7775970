// The compilers of a set of kernels, each opened when it is first needed, behind one disk cache.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "cache/disk_cache.h"
#include "capi/place.h"
#include "compile/compiler.h"

namespace gdn::runtime {

// Thread-safe.
class Compilers {
 public:
  // `warn` receives what the disk cache has to say.
  explicit Compilers(std::function<void(const std::string&)> warn) : warn_(std::move(warn)) {}

  // The compiler that makes code for a target at a place; for HIP the first of hiprtc and clang that knows the target.
  // Throws kMissingLibrary without one, kUnsupported when none knows the target. Compiles nothing.
  std::shared_ptr<const Compiler> find(const Place& place, const std::string& target);

 private:
  std::shared_ptr<const Compiler> open(const char* name, std::unique_ptr<Compiler> (*make)());

  std::function<void(const std::string&)> warn_;
  std::mutex mutex_;
  std::shared_ptr<const DiskCache> cache_;
  std::map<std::string, std::shared_ptr<const Compiler>> open_;
};

}  // namespace gdn::runtime
