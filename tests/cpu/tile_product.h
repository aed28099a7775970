// One product of tiles as a function of generated code and by the emulator's instructions, and operands for it.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "cpu/context.h"
#include "cpu/kernel.h"
#include "cpu/tiles.h"
#include "support/amx_machine.h"
#include "support/catch.h"

namespace gdn::test {

// Registers of a test function of three pointers, and one for the stride.
inline const cpu::Reg64 kA(7), kB(6), kC(2), kStride(0);

inline cpu::Palette full_palette() {
  cpu::Palette palette;
  palette.fill({16, 64});
  return palette;
}

// Code that calls `body` on an emitter, as a function of three pointers.
class Function {
 public:
  template <class Body>
  explicit Function(const Body& body) {
    cpu::Emitter emitter;
    body(emitter);
    emitter.ret();
    auto program = emitter.finish("test");
    kernel_ = cpu::Kernel(program.code, std::move(program.listing));
  }
  void operator()(const void* a, const void* b, void* c) const {
    using Call = void (*)(const void*, const void*, void*);
    const auto function = kernel_.function();
    Call call = nullptr;
    std::memcpy(&call, &function, sizeof(call));
    call(a, b, c);
  }

 private:
  cpu::Kernel kernel_;
};

// c (rows x columns, fp32) += a (rows x pairs) * b (pairs x columns) through tiles of exactly these shapes.
inline Function product(int rows, int pairs, int columns) {
  return Function([&](cpu::Emitter& e) {
    cpu::Palette palette;
    palette[2] = {rows, 4 * columns};
    palette[5] = {rows, 4 * pairs};
    palette[7] = {pairs, 4 * columns};
    cpu::Tiles tiles(e, palette);
    tiles.configure();
    e.mov(kStride, 64);
    tiles.load(2, kC, kStride);
    tiles.load(5, kA, kStride);
    tiles.load(7, kB, kStride);
    tiles.multiply(2, 5, 7);
    tiles.store(kC, kStride, 0, 2);
    tiles.release();
  });
}

struct Operands {
  alignas(64) std::uint16_t a[16 * 32], b[16 * 32];
  alignas(64) std::uint32_t c[16 * 16];
};

enum class Numbers { kTame, kWide, kSubnormal, kAny };

inline Operands random_operands(std::mt19937& random, Numbers numbers) {
  const auto word = [&] {
    const auto bits = static_cast<std::uint16_t>(random());
    const auto rest = static_cast<std::uint16_t>(bits & 0x807f);
    unsigned exponent = 0;
    switch (numbers) {
      case Numbers::kTame:
        exponent = 120 + static_cast<unsigned>(random()) % 16;
        break;
      case Numbers::kWide:
        exponent = static_cast<unsigned>(random()) % 255;
        break;
      case Numbers::kSubnormal:
        exponent = random() % 3 != 0 ? 0 : 60 + static_cast<unsigned>(random()) % 40;
        break;
      case Numbers::kAny:
        return bits;
    }
    return static_cast<std::uint16_t>(rest | exponent << 7);
  };
  Operands x;
  for (std::uint16_t& value : x.a) value = word();
  for (std::uint16_t& value : x.b) value = word();
  for (std::uint32_t& value : x.c) value = static_cast<std::uint32_t>(word()) << 16 | (random() & 0xffff);
  return x;
}

inline float number(std::uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The steps of product() by hand on the emulator's machine, on a processor of any kind.
inline void emulated_product(int rows, int pairs, int columns, Operands& x) {
  alignas(64) std::uint8_t block[64] = {1};
  const int shapes[3][3] = {{2, rows, 4 * columns}, {5, rows, 4 * pairs}, {7, pairs, 4 * columns}};
  for (const auto& [tile, of_tile, bytes] : shapes) {
    block[16 + 2 * tile] = static_cast<std::uint8_t>(bytes);
    block[48 + tile] = static_cast<std::uint8_t>(of_tile);
  }
  AmxMachine machine;
  std::uint64_t registers[16] = {};
  registers[0] = 64;
  const auto step = [&](std::vector<std::uint8_t> code, const void* at) {
    registers[7] = reinterpret_cast<std::uintptr_t>(at);
    code.resize(16);
    const AmxMachine::Step done = machine.step(code.data(), registers);
    REQUIRE(done.fault == nullptr);
    REQUIRE(done.length > 0);
  };
  step({0xc4, 0xe2, 0x78, 0x49, 0x07}, block);      // ldtilecfg [rdi]
  step({0xc4, 0xe2, 0x7b, 0x4b, 0x14, 0x07}, x.c);  // tileloadd tmm2, [rdi + rax]
  step({0xc4, 0xe2, 0x7b, 0x4b, 0x2c, 0x07}, x.a);  // tileloadd tmm5, [rdi + rax]
  step({0xc4, 0xe2, 0x7b, 0x4b, 0x3c, 0x07}, x.b);  // tileloadd tmm7, [rdi + rax]
  step({0xc4, 0xe2, 0x42, 0x5c, 0xd5}, nullptr);    // tdpbf16ps tmm2, tmm5, tmm7
  step({0xc4, 0xe2, 0x7a, 0x4b, 0x14, 0x07}, x.c);  // tilestored [rdi + rax], tmm2
}

// Elements of c outside of a product's shape are as they were; check(i, j, old, got) has the bits of those inside.
template <class Check>
void check_product(const Operands& before, const Operands& after, int rows, int columns, const Check& check) {
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 16; ++j) {
      const std::uint32_t got = after.c[16 * i + j], old = before.c[16 * i + j];
      if (static_cast<int>(i) >= rows || static_cast<int>(j) >= columns) {
        CHECK(got == old);
      } else {
        check(i, j, old, got);
      }
    }
  }
}

}  // namespace gdn::test
