// Whether a compiler really returned what it was asked for.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace gdn::runtime {

enum class Machine : std::uint16_t { kX86 = 62, kArm = 183, kCuda = 190, kAmdGpu = 224 };  // e_machine of ELF

// Of this program.
constexpr Machine host_machine() {
#if defined(__aarch64__)
  return Machine::kArm;
#else
  return Machine::kX86;
#endif
}

// Whether the bytes begin as a 64-bit little-endian ELF file for this machine, and hold its section headers.
bool is_elf(const std::vector<std::uint8_t>& bytes, Machine machine);

// The bytes of the first section of this name; empty when there is none or the file is broken.
std::string_view section(const std::vector<std::uint8_t>& bytes, std::string_view name);

}  // namespace gdn::runtime
