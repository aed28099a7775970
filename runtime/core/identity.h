// The identity of a layout or of a kernel: a canonical text and a 64-bit number made from it.
//
// The text is for people and says everything that decides where a number lies and what it means (dtype, dimension
// list with sizes, part order, head pairing, window, domain of the values). The number is what a launch compares.
// Both travel with a tensor pool for as long as it lives, so the number is stable across versions of this project:
// FNV-1a over the bytes of the text, http://www.isthe.com/chongo/tech/comp/fnv/ .
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gdn::core {

struct Identity {
  std::uint64_t id = 0;
  std::string text;

  friend bool operator==(const Identity& a, const Identity& b) { return a.id == b.id; }
  friend bool operator!=(const Identity& a, const Identity& b) { return a.id != b.id; }
};

std::uint64_t fnv1a(std::string_view text);

Identity make_identity(std::string text);

// 16 lower-case hexadecimal digits.
std::string id_text(std::uint64_t id);

}  // namespace gdn::core
