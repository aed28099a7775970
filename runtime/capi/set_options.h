// A caller's gdn_set_options as this version knows them. Shared by libgdn and libgdn_jit, which is why it is a header
// of the C interface alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>

#include "gdn/gdn.h"

namespace gdn::capi {

// Fields were appended since the first version: those that the caller doesn't know are zero, and so are all of them for
// a null pointer. Nothing where `struct_size` is less than the first version's.
inline std::optional<gdn_set_options> known_options(const gdn_set_options* given) {
  constexpr std::size_t kFirstVersion = offsetof(gdn_set_options, threading);
  gdn_set_options known{};
  if (given == nullptr) return known;
  if (given->struct_size < kFirstVersion) return std::nullopt;
  std::memcpy(&known, given, std::min(given->struct_size, sizeof(known)));
  return known;
}

}  // namespace gdn::capi
