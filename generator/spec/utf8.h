// UTF-8, one code point at a time, for text that may be anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gdn::spec {

struct CodePoint {
  std::uint32_t value = 0;
  std::size_t length = 1;  // bytes; 1 when invalid
  bool valid = false;
};

// The code point at `at` (which is below text.size()). Overlong forms, surrogates and values above U+10FFFF are
// invalid.
CodePoint decode_utf8(std::string_view text, std::size_t at);

// Code points that must not reach a terminal or hide from a reviewer: C0 and C1 controls (tab and line ends included),
// DEL, the bidirectional overrides and isolates, line and paragraph separators, and the byte order mark.
bool is_control(std::uint32_t code_point);

// Terminal columns: 0 for combining marks, 2 for East Asian wide forms and emoji, else 1.
int display_width(std::uint32_t code_point);

}  // namespace gdn::spec
