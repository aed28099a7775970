// On a processor with AMX: is the emulator's product of tiles the processor's, bit for bit?
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cpu/support.h"
#include "support/amx_machine.h"
#include "support/catch.h"
#include "tile_product.h"

using namespace gdn;
using namespace gdn::test;

TEST_CASE("the emulator's product is the processor's, bit for bit") {
  if (!cpu::cpu_supports("amx")) {
    std::puts("[SKIP] this CPU has no AMX, or its system doesn't grant it");
    return;
  }
  std::mt19937 random(1);
  for (const Numbers numbers : {Numbers::kTame, Numbers::kWide, Numbers::kSubnormal, Numbers::kAny}) {
    int different = 0;
    for (int round = 0; round < 500; ++round) {
      const int rows = 1 + static_cast<int>(random() % 16), pairs = 1 + static_cast<int>(random() % 16),
                columns = 1 + static_cast<int>(random() % 16);
      Operands x = random_operands(random, numbers);
      Operands y = x;
      product(rows, pairs, columns)(x.a, x.b, x.c);

      // The same steps by hand on the machine.
      AmxMachine machine;
      alignas(64) std::uint8_t block[64] = {1};
      const int shapes[3][3] = {{2, rows, 4 * columns}, {5, rows, 4 * pairs}, {7, pairs, 4 * columns}};
      for (const auto& shape : shapes) {
        block[16 + 2 * shape[0]] = static_cast<std::uint8_t>(shape[2]);
        block[48 + shape[0]] = static_cast<std::uint8_t>(shape[1]);
      }
      std::uint64_t registers[16] = {};
      registers[0] = 64;
      const auto step = [&](std::vector<std::uint8_t> code, const void* at) {
        registers[7] = reinterpret_cast<std::uintptr_t>(at);
        code.resize(16);
        REQUIRE(machine.step(code.data(), registers).fault == nullptr);
      };
      step({0xc4, 0xe2, 0x78, 0x49, 0x07}, block);
      step({0xc4, 0xe2, 0x7b, 0x4b, 0x14, 0x07}, y.c);
      step({0xc4, 0xe2, 0x7b, 0x4b, 0x2c, 0x07}, y.a);
      step({0xc4, 0xe2, 0x7b, 0x4b, 0x3c, 0x07}, y.b);
      machine.multiply(2, 5, 7);
      step({0xc4, 0xe2, 0x7a, 0x4b, 0x14, 0x07}, y.c);
      for (int i = 0; i < 256; ++i) {
        const float got = number(x.c[i]), want = number(y.c[i]);
        if (std::isnan(got) && std::isnan(want)) continue;  // which NaN is not the kernels' business
        different += x.c[i] != y.c[i] ? 1 : 0;
      }
    }
    CHECK(different == 0);
  }
}
