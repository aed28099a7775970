// jit.h for C++17; see gdn.hpp.
#pragma once

#include "gdn/gdn.hpp"
#include "gdn/jit.h"

namespace gdn {

// Empty targets: all.
inline Set open_spec(const std::string& path, const std::string& targets = {}, std::int32_t ranks = 1,
                     const gdn_set_options* options = nullptr) {
  return detail::made<Set, gdn_set>(
      [&](gdn_set** out) { return gdn_jit_open(path.c_str(), targets.c_str(), ranks, options, out); });
}

inline Layout layout_of_spec(const std::string& path, const std::string& operation, const std::string& tensor,
                             std::int32_t ranks = 1) {
  return detail::made<Layout, gdn_layout>(
      [&](gdn_layout** out) { return gdn_jit_layout(path.c_str(), operation.c_str(), tensor.c_str(), ranks, out); });
}

// Throws GDN_LAYOUT_MISMATCH where the set's kernels are not those of the spec.
inline void expect_kernels_of(const Set& set, const std::string& path, std::int32_t ranks = 1) {
  expect(gdn_jit_check(path.c_str(), ranks, set.get()));
}

}  // namespace gdn
