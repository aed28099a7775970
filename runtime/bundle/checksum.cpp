#include "bundle/checksum.h"

#include <cstring>

namespace gdn::runtime {
namespace {

constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15u;  // 2^64 over the golden ratio: no pattern of bits in it

std::uint64_t step(std::uint64_t state, std::uint64_t word) {
  const std::uint64_t mixed = state ^ word;
  return ((mixed << 29) | (mixed >> 35)) * kOdd;
}

}  // namespace

std::uint64_t checksum(std::string_view bytes) {
  // Four chains: a processor multiplies several numbers at once, but not one number several times.
  std::uint64_t lanes[4] = {1, 2, 3, 4};
  std::uint64_t block[4];
  const char* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= sizeof(block); at += sizeof(block), left -= sizeof(block)) {
    std::memcpy(block, at, sizeof(block));
    for (int i = 0; i < 4; ++i) lanes[i] = step(lanes[i], block[i]);
  }
  std::memset(block, 0, sizeof(block));
  if (left > 0) std::memcpy(block, at, left);
  std::uint64_t sum = step(kOdd, bytes.size());
  for (int i = 0; i < 4; ++i) sum = step(sum, step(lanes[i], block[i]));
  return sum ^ (sum >> 32);
}

}  // namespace gdn::runtime
