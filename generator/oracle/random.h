// Random numbers that are the same on every platform: integer arithmetic and exact doubles, no library functions.
// The generator is splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#pragma once

#include <cstdint>
#include <string_view>

namespace gdn::oracle {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  // A stream of its own for each label and pair of numbers.
  Random(std::uint64_t seed, std::string_view label, std::int64_t first, std::int64_t second) : state_(seed) {
    for (const char c : label) fold(static_cast<unsigned char>(c));
    fold(static_cast<std::uint64_t>(first));
    fold(static_cast<std::uint64_t>(second));
  }

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  // In [0, 1), a multiple of 2^-53.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  // Bell-shaped with mean 0 and variance 1, never beyond 3.47: the sum of four uniform numbers.
  double bell() {
    const std::uint64_t a = next(), b = next();
    const std::uint64_t sum = (a >> 32) + (a & 0xffffffffu) + (b >> 32) + (b & 0xffffffffu);
    return (static_cast<double>(sum) * 0x1p-32 - 2.0) * 1.7320508075688772;
  }

  // In [0, count).
  int below(int count) { return static_cast<int>(next() % static_cast<std::uint64_t>(count)); }

 private:
  void fold(std::uint64_t value) {
    state_ ^= value;
    state_ = next();
  }

  std::uint64_t state_;
};

}  // namespace gdn::oracle
