// The tile part of an AMX processor in software: AMX-TILE and AMX-BF16 instructions decoded from their bytes and
// executed on a state of 8 tiles. Written from the instruction pages of Intel's manual (SDM volume 2), where also the
// faults come from; bit for bit like the processor (cpu_amx compares them where there is one).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace gdn::test {

class AmxMachine {
 public:
  // How often each instruction ran.
  struct Counts {
    std::uint64_t configure = 0, release = 0, zero = 0, load = 0, store = 0, multiply = 0;
  };

  // `length`: bytes of the instruction that was executed, 0 where `code` begins with none of this machine's. `fault`:
  // why a processor (or, in one case, this project's rule) refuses it; null when it ran.
  struct Step {
    int length = 0;
    const char* fault = nullptr;
  };

  // Executes the instruction at `code`; `registers` are rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
  Step step(const std::uint8_t* code, const std::uint64_t (&registers)[16]) {
    Instruction in;
    if (!decode(code, registers, in)) return {};
    return execute(in);
  }

  const Counts& counts() const { return counts_; }
  void reset_counts() { counts_ = {}; }

  // c += a * b of tiles that are configured and whose shapes agree: for each element two chains of fused
  // multiply-adds, over the even and over the odd halves of the pairs, whose sum is added to c. Subnormal numbers
  // count as zero on both sides; the rounding is to nearest even whatever MXCSR says.
  __attribute__((target("avx2,fma"))) void multiply(int c, int a, int b) {
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(kTileMxcsr);
    const int pairs = bytes_[a] / 4;
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    for (int row = 0; row < rows_[c]; ++row) {
      for (int half = 0; half < 2; ++half) {
        __m256 even = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
        for (int k = 0; k < pairs; ++k) {
          const __m256i right = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tiles_[b][k] + 32 * half));
          std::uint32_t pair = 0;
          std::memcpy(&pair, tiles_[a][row] + 4 * k, sizeof(pair));
          const __m256i low = _mm256_set1_epi32(static_cast<int>(pair << 16));
          const __m256i high = _mm256_set1_epi32(static_cast<int>(pair & 0xffff0000u));
          even = _mm256_fmadd_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(_mm256_slli_epi32(right, 16)), even);
          odd = _mm256_fmadd_ps(_mm256_castsi256_ps(high), _mm256_castsi256_ps(_mm256_and_si256(right, upper)), odd);
        }
        float* const to = reinterpret_cast<float*>(tiles_[c][row] + 32 * half);
        _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), _mm256_add_ps(even, odd)));
      }
      std::memset(tiles_[c][row] + bytes_[c], 0, sizeof(tiles_[c][row]) - bytes_[c]);
    }
    _mm_setcsr(mode);
  }

 private:
  static constexpr unsigned kTileMxcsr = 0x1f80 | 0x8000 | 0x0040;
  static constexpr int kTiles = 8;

  struct Instruction {
    int opcode = 0, prefix = 0;        // prefix: 0 none, 1 66, 2 F3, 3 F2
    int reg = 0, rm = 0, vvvv = 0;     // fields of ModRM and VEX
    bool memory = false, sib = false;  // operand forms
    bool index = false;
    std::uint64_t address = 0, stride = 0;
    int length = 0;
  };

  // VEX.128.map 0F38.W0 with one of the opcodes 49, 4B, 5C.
  static bool decode(const std::uint8_t* p, const std::uint64_t (&registers)[16], Instruction& in) {
    if (p[0] != 0xc4 || (p[1] & 0x1f) != 2 || (p[2] & 0x84) != 0) return false;
    in.opcode = p[3];
    if (in.opcode != 0x49 && in.opcode != 0x4b && in.opcode != 0x5c) return false;
    const int high_reg = (p[1] & 0x80) != 0 ? 0 : 8;
    const int high_index = (p[1] & 0x40) != 0 ? 0 : 8;
    const int high_rm = (p[1] & 0x20) != 0 ? 0 : 8;
    in.prefix = p[2] & 3;
    in.vvvv = ~(p[2] >> 3) & 15;
    const int mod = p[4] >> 6;
    in.reg = (p[4] >> 3 & 7) + high_reg;
    in.rm = (p[4] & 7) + high_rm;
    in.memory = mod != 3;
    in.length = 5;
    if (!in.memory) return true;
    int displacement_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    bool relative = false;
    std::uint64_t base = 0;
    if ((p[4] & 7) == 4) {
      in.sib = true;
      const int sib = p[in.length++];
      const int index = (sib >> 3 & 7) + high_index;
      in.index = index != 4;
      if (in.index) in.stride = registers[index] << (sib >> 6);
      if ((sib & 7) == 5 && mod == 0) {
        displacement_bytes = 4;
      } else {
        base = registers[(sib & 7) + high_rm];
      }
    } else if (mod == 0 && (p[4] & 7) == 5) {
      relative = true;
      displacement_bytes = 4;
    } else {
      base = registers[in.rm];
    }
    std::int64_t displacement = 0;
    if (displacement_bytes == 1) displacement = static_cast<std::int8_t>(p[in.length]);
    if (displacement_bytes == 4) {
      std::int32_t value = 0;
      std::memcpy(&value, p + in.length, sizeof(value));
      displacement = value;
    }
    in.length += displacement_bytes;
    if (relative) base = reinterpret_cast<std::uintptr_t>(p + in.length);
    in.address = base + static_cast<std::uint64_t>(displacement);
    return true;
  }

  static std::uint8_t* memory(std::uint64_t address) { return reinterpret_cast<std::uint8_t*>(address); }

  Step execute(const Instruction& in) {
    if (in.opcode == 0x5c) return in.memory || in.prefix != 2 ? Step{} : multiply_step(in);
    if (in.opcode == 0x4b) return in.memory && in.prefix != 0 ? move(in) : Step{};
    if (in.prefix == 0 && in.memory && in.reg == 0) return configure(in);
    if (in.prefix == 0 && !in.memory && in.reg == 0 && in.rm == 0) {
      ++counts_.release;
      clear();
      return {in.length, nullptr};
    }
    if (in.prefix == 3 && !in.memory && in.rm == 0) {
      if (const char* fault = usable(in.reg)) return {in.length, fault};
      std::memset(tiles_[in.reg], 0, sizeof(tiles_[in.reg]));
      ++counts_.zero;
      return {in.length, nullptr};
    }
    return {};
  }

  void clear() {
    configured_ = false;
    std::memset(rows_, 0, sizeof(rows_));
    std::memset(bytes_, 0, sizeof(bytes_));
    std::memset(tiles_, 0, sizeof(tiles_));
  }

  Step configure(const Instruction& in) {
    const std::uint8_t* const block = memory(in.address);
    if (block[0] > 1) return {in.length, "#GP: the configuration names a palette above 1"};
    ++counts_.configure;
    clear();
    if (block[0] == 0) return {in.length, nullptr};
    const auto zeros = [&](int begin, int end) {
      for (int i = begin; i < end; ++i) {
        if (block[i] != 0) return false;
      }
      return true;
    };
    if (block[1] != 0)
      return {in.length, "the configuration starts at a row other than 0: a restart, never meant here"};
    if (!zeros(2, 16) || !zeros(32, 48) || !zeros(56, 64)) {
      return {in.length, "#GP: a reserved byte of the configuration is not 0"};
    }
    for (int i = 0; i < kTiles; ++i) {
      std::memcpy(&bytes_[i], block + 16 + 2 * i, sizeof(bytes_[i]));
      rows_[i] = block[48 + i];
      if (bytes_[i] > 64 || rows_[i] > 16 || (bytes_[i] == 0) != (rows_[i] == 0)) {
        return {in.length, "#GP: the configuration gives a tile more than 16 rows or 64 bytes, or only one of the two"};
      }
    }
    configured_ = true;
    return {in.length, nullptr};
  }

  const char* usable(int tile) const {
    if (!configured_) return "#UD: no configuration is loaded";
    if (tile >= kTiles) return "#UD: a tile register above 7";
    if (rows_[tile] == 0) return "#UD: the tile is not configured";
    return nullptr;
  }

  Step move(const Instruction& in) {
    if (!in.sib) return {in.length, "#UD: a tile's address needs a base and an index"};
    // Legal on a processor, where the stride is 0 then: all rows lie on one another, which no kernel means.
    if (!in.index) return {in.length, "a tile's address without index: its rows lie on one another"};
    if (const char* fault = usable(in.reg)) return {in.length, fault};
    auto& tile = tiles_[in.reg];
    const bool store = in.prefix == 2;
    if (!store) std::memset(tile, 0, sizeof(tile));
    for (int row = 0; row < rows_[in.reg]; ++row) {
      std::uint8_t* const there = memory(in.address + static_cast<std::uint64_t>(row) * in.stride);
      if (store) {
        std::memcpy(there, tile[row], bytes_[in.reg]);
      } else {
        std::memcpy(tile[row], there, bytes_[in.reg]);
      }
    }
    ++(store ? counts_.store : counts_.load);
    return {in.length, nullptr};
  }

  Step multiply_step(const Instruction& in) {
    const int c = in.reg, a = in.rm, b = in.vvvv;
    for (const int tile : {c, a, b}) {
      if (const char* fault = usable(tile)) return {in.length, fault};
    }
    if (c == a || c == b || a == b) return {in.length, "#UD: a product needs three different tiles"};
    for (const int tile : {c, a, b}) {
      if (bytes_[tile] % 4 != 0) return {in.length, "#UD: the rows of a tile are not whole pairs"};
    }
    if (bytes_[c] != bytes_[b] || rows_[c] != rows_[a] || bytes_[a] / 4 != rows_[b]) {
      return {in.length, "#UD: the shapes of a product's tiles don't fit"};
    }
    multiply(c, a, b);
    ++counts_.multiply;
    return {in.length, nullptr};
  }

  bool configured_ = false;
  std::uint8_t rows_[kTiles] = {};
  std::uint16_t bytes_[kTiles] = {};  // of a row
  std::uint8_t tiles_[kTiles][16][64] = {};
  Counts counts_;
};

}  // namespace gdn::test
