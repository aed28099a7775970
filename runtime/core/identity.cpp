#include "core/identity.h"

namespace gdn::core {

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ull;
  }
  return hash;
}

Identity make_identity(std::string text) {
  const std::uint64_t id = fnv1a(text);
  return Identity{id, std::move(text)};
}

std::string id_text(std::uint64_t id) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text(16, '0');
  for (int i = 15; i >= 0; --i, id >>= 4) text[static_cast<std::size_t>(i)] = kDigits[id & 15u];
  return text;
}

}  // namespace gdn::core
