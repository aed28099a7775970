#include "compile/library.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <cstdlib>

#include "error.h"

namespace gdn::runtime {

Library::Library(const std::string& what, const std::vector<std::string>& candidates, const std::string& fix)
    : what_(what) {
  std::string tried;
  for (const std::string& candidate : candidates) {
    handle_ = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) {
      // A bare name says nothing about which of several versions the loader picked.
      link_map* map = nullptr;
      path_ = dlinfo(handle_, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0] != '\0' ? map->l_name : candidate;
      return;
    }
    const char* reason = dlerror();
    tried += fmt::format("\n  {}", reason == nullptr ? candidate : reason);
  }
  throw Error(Code::kMissingLibrary,
              fmt::format("{} was not found. {}\nTried:{}", what, fix, tried.empty() ? " nothing" : tried));
}

void* Library::find(const char* symbol) const { return dlsym(handle_, symbol); }

void* Library::require(const char* symbol) const {
  void* address = find(symbol);
  if (address == nullptr) {
    throw Error(Code::kMissingLibrary, fmt::format("{} ({}) has no function {}: it is not the library that its name "
                                                   "says, or too old",
                                                   what_, path_, symbol));
  }
  return address;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace gdn::runtime
