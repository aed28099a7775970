// What a compiled kernel's machine code is made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "compile/compiler.h"
#include "compile/elf.h"

namespace gdn::test {

constexpr unsigned kHmma = 0x23c;                         // mma.sync of fp16
constexpr unsigned kHgmma = 0xdf0, kHgmmaShared = 0x9f0;  // wgmma, A in registers and in shared memory

// Instructions of an opcode in a kernel of NVIDIA's, sm_80 and later: each is 16 bytes, and its low 12 bits say which
// it is, predicate aside.
inline int count_opcode(const runtime::Binary& binary, const std::string& symbol, unsigned opcode) {
  const std::string_view text = runtime::section(binary.bytes, ".text." + symbol);
  int found = 0;
  for (std::size_t i = 0; i + 16 <= text.size(); i += 16) {
    std::uint16_t low = 0;
    std::memcpy(&low, text.data() + i, sizeof(low));
    if ((low & 0xfffu) == opcode) ++found;
  }
  return found;
}

// Words that went to local memory and came back for want of registers between a kernel's first product and its last,
// which is its loop over chunks.
inline int spills_among_products(const runtime::Binary& binary, const std::string& symbol) {
  constexpr unsigned kStoreLocal = 0x387, kLoadLocal = 0x983;
  const std::string_view text = runtime::section(binary.bytes, ".text." + symbol);
  int found = 0, since_product = 0;
  bool begun = false;
  for (std::size_t i = 0; i + 16 <= text.size(); i += 16) {
    std::uint16_t low = 0;
    std::memcpy(&low, text.data() + i, sizeof(low));
    const unsigned opcode = low & 0xfffu;
    if (opcode == kHmma || opcode == kHgmma || opcode == kHgmmaShared) {
      if (begun) found += since_product;
      begun = true;
      since_product = 0;
    } else if (opcode == kStoreLocal || opcode == kLoadLocal) {
      ++since_product;
    }
  }
  return found;
}

}  // namespace gdn::test
