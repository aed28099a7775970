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
      emulated_product(rows, pairs, columns, y);
      for (int i = 0; i < 256; ++i) {
        const float got = number(x.c[i]), want = number(y.c[i]);
        if (std::isnan(got) && std::isnan(want)) continue;  // which NaN is not the kernels' business
        different += x.c[i] != y.c[i] ? 1 : 0;
      }
    }
    CHECK(different == 0);
  }
}
