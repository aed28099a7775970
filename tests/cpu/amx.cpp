// Tiles: the emitter refuses wrong forms, the emulator faults on them, and its products are right.
#include <cmath>
#include <functional>
#include <stdexcept>
#include <vector>

#include "harness.h"
#include "support/amx_emulator.h"
#include "support/catch.h"
#include "tile_product.h"

using namespace gdn;
using namespace gdn::test;
using cpu::Palette;
using cpu::Tiles;

namespace {

std::string refusal(const std::function<void(Tiles&)>& body, const Palette& palette = full_palette()) {
  cpu::Emitter emitter;
  try {
    Tiles tiles(emitter, palette);
    body(tiles);
  } catch (const std::logic_error& error) {
    return error.what();
  }
  return "";
}

// What the emulator says to one instruction, after a configuration of full tiles.
std::string fault_of(std::vector<std::uint8_t> code, bool configured = true) {
  test::AmxMachine machine;
  const std::uint64_t registers[16] = {};
  if (configured) {
    alignas(64) std::uint8_t block[64] = {1};
    for (int i = 0; i < 8; ++i) {
      block[16 + 2 * i] = 64;
      block[48 + i] = 16;
    }
    block[48 + 6] = 8;  // tmm6: 8 rows
    block[48 + 7] = 0;  // tmm7: none
    block[16 + 14] = 0;
    std::uint64_t at[16] = {};
    at[7] = reinterpret_cast<std::uintptr_t>(block);
    const std::uint8_t load[] = {0xc4, 0xe2, 0x78, 0x49, 0x07};  // ldtilecfg [rdi]
    if (machine.step(load, at).fault != nullptr) return "the configuration itself";
  }
  code.resize(16);
  const auto step = machine.step(code.data(), registers);
  return step.fault == nullptr ? "" : step.fault;
}

std::string configuration_fault(const std::function<void(std::uint8_t*)>& change) {
  test::AmxMachine machine;
  alignas(64) std::uint8_t block[64] = {1};
  block[16] = 64;
  block[48] = 16;
  change(block);
  std::uint64_t at[16] = {};
  at[7] = reinterpret_cast<std::uintptr_t>(block);
  const std::uint8_t load[] = {0xc4, 0xe2, 0x78, 0x49, 0x07};
  const auto step = machine.step(load, at);
  return step.fault == nullptr ? "" : step.fault;
}

}  // namespace

TEST_CASE("the emitter refuses every tile instruction that a processor would, and those that mean something else") {
  using Catch::Contains;
  const auto configured = [](const std::function<void(Tiles&)>& body) {
    return refusal([&](Tiles& tiles) {
      tiles.configure();
      body(tiles);
    });
  };
  CHECK(configured([](Tiles& t) { t.multiply(0, 4, 6); }).empty());
  CHECK_THAT(configured([](Tiles& t) { t.multiply(0, 4, 4); }), Contains("three different tiles"));
  CHECK_THAT(configured([](Tiles& t) { t.multiply(0, 0, 4); }), Contains("three different tiles"));
  CHECK_THAT(configured([](Tiles& t) { t.multiply(0, 4, 0); }), Contains("three different tiles"));
  CHECK_THAT(configured([](Tiles& t) { t.zero(8); }), Contains("no tile 8"));
  CHECK_THAT(configured([](Tiles& t) { t.zero(-1); }), Contains("no tile -1"));
  CHECK_THAT(configured([](Tiles& t) { t.load(0, kA, cpu::Reg64(4)); }), Contains("rsp"));
  CHECK_THAT(refusal([](Tiles& t) { t.zero(0); }), Contains("before configure"));
  CHECK_THAT(refusal([](Tiles& t) { t.release(); }), Contains("without configure"));
  CHECK_THAT(configured([](Tiles& t) {
               t.release();
               t.store(kC, kStride, 0, 1);
             }),
             Contains("before configure"));
  const auto shaped = [](cpu::TileShape c, cpu::TileShape a, cpu::TileShape b) {
    Palette palette;
    palette[0] = c;
    palette[1] = a;
    palette[2] = b;
    return refusal(
        [](Tiles& tiles) {
          tiles.configure();
          tiles.multiply(0, 1, 2);
        },
        palette);
  };
  CHECK(shaped({3, 20}, {3, 8}, {2, 20}).empty());
  CHECK_THAT(shaped({3, 20}, {4, 8}, {2, 20}), Contains("don't fit"));
  CHECK_THAT(shaped({3, 20}, {3, 8}, {3, 20}), Contains("don't fit"));
  CHECK_THAT(shaped({3, 20}, {3, 8}, {2, 24}), Contains("don't fit"));
  CHECK_THAT(shaped({3, 20}, {3, 8}, {}), Contains("the palette has no tile 2"));
  CHECK_THAT(shaped({17, 20}, {3, 8}, {2, 20}), Contains("17 rows"));
  CHECK_THAT(shaped({3, 68}, {3, 8}, {2, 20}), Contains("68 bytes"));
  CHECK_THAT(shaped({3, 6}, {3, 8}, {2, 20}), Contains("6 bytes"));
  CHECK_THAT(shaped({3, 0}, {3, 8}, {2, 20}), Contains("3 rows of 0 bytes"));
}

TEST_CASE("the emulator faults where a processor does") {
  using Catch::Contains;
  // C4, RXB and map, W vvvv L pp, opcode, ModRM, SIB
  CHECK(fault_of({0xc4, 0xe2, 0x52, 0x5c, 0xc4}).empty());                                    // 0 += 4 * 5
  CHECK_THAT(fault_of({0xc4, 0xe2, 0x5a, 0x5c, 0xc4}), Contains("three different"));          // 0 += 4 * 4
  CHECK_THAT(fault_of({0xc4, 0xe2, 0x7a, 0x5c, 0xc4}), Contains("three different"));          // 0 += 4 * 0
  CHECK_THAT(fault_of({0xc4, 0xe2, 0x4a, 0x5c, 0xc4}), Contains("don't fit"));                // b has 8 rows
  CHECK_THAT(fault_of({0xc4, 0xe2, 0x42, 0x5c, 0xc4}), Contains("not configured"));           // b = tmm7
  CHECK_THAT(fault_of({0xc4, 0xe2, 0x12, 0x5c, 0xc4}), Contains("above 7"));                  // b = tmm13
  CHECK_THAT(fault_of({0xc4, 0xe2, 0x52, 0x5c, 0xc4}, false), Contains("no configuration"));  // nothing loaded
  CHECK_THAT(fault_of({0xc4, 0xe2, 0x7b, 0x49, 0xf8}), Contains("not configured"));           // zero tmm7
  CHECK_THAT(fault_of({0xc4, 0xe2, 0x7b, 0x4b, 0x07}), Contains("base and an index"));        // load [rdi]
  CHECK_THAT(fault_of({0xc4, 0xe2, 0x7a, 0x4b, 0x04, 0x27}), Contains("without index"));      // store [rdi]
  CHECK_THAT(fault_of({0xc4, 0xe2, 0x7b, 0x4b, 0x3c, 0x07}), Contains("not configured"));     // load tmm7
  CHECK_THAT(configuration_fault([](std::uint8_t* b) { b[0] = 2; }), Contains("palette above 1"));
  CHECK_THAT(configuration_fault([](std::uint8_t* b) { b[1] = 3; }), Contains("restart"));
  CHECK_THAT(configuration_fault([](std::uint8_t* b) { b[9] = 1; }), Contains("reserved"));
  CHECK_THAT(configuration_fault([](std::uint8_t* b) { b[33] = 1; }), Contains("reserved"));
  CHECK_THAT(configuration_fault([](std::uint8_t* b) { b[56] = 1; }), Contains("reserved"));
  CHECK_THAT(configuration_fault([](std::uint8_t* b) { b[16] = 68; }), Contains("more than 16 rows or 64 bytes"));
  CHECK_THAT(configuration_fault([](std::uint8_t* b) { b[48] = 17; }), Contains("more than 16 rows or 64 bytes"));
  CHECK_THAT(configuration_fault([](std::uint8_t* b) { b[49] = 4; }), Contains("only one of the two"));
  CHECK(configuration_fault([](std::uint8_t*) {}).empty());

  // Not this machine's: a system that knows the instruction runs it, any other one says so.
  test::AmxMachine machine;
  const std::uint64_t registers[16] = {};
  for (const std::vector<std::uint8_t>& code : {std::vector<std::uint8_t>{0xc5, 0xf8, 0x77},              // vzeroupper
                                                std::vector<std::uint8_t>{0xc4, 0xe2, 0x43, 0x5c, 0xc4},  // tdpfp16ps
                                                std::vector<std::uint8_t>{0xc4, 0xe2, 0x52, 0x5e, 0xc4}}) {
    std::vector<std::uint8_t> padded = code;
    padded.resize(16);
    const auto step = machine.step(padded.data(), registers);
    CHECK(step.length == 0);
    CHECK(step.fault == nullptr);
  }
}

// The machine by itself: on a processor of any kind, bit for bit.
TEST_CASE("the emulator's products are two chains of fused multiply-adds, and subnormal numbers count as zero") {
  const auto flushed = [](std::uint32_t bits) { return number((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits); };
  const auto result = [&](float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    return flushed(bits);
  };
  std::mt19937 random(11);
  int subnormal = 0;
  for (const Numbers numbers : {Numbers::kTame, Numbers::kSubnormal}) {
    for (const int rows : {1, 7, 16}) {
      for (const int pairs : {1, 5, 16}) {
        for (const int columns : {1, 8, 9, 16}) {
          Operands x = random_operands(random, numbers);
          const Operands before = x;
          emulated_product(rows, pairs, columns, x);
          check_product(before, x, rows, columns,
                        [&](std::size_t i, std::size_t j, std::uint32_t old, std::uint32_t got) {
                          float chain[2] = {0, 0};
                          for (std::size_t k = 0; k < static_cast<std::size_t>(2 * pairs); ++k) {
                            const float a = flushed(std::uint32_t{before.a[32 * i + k]} << 16);
                            const float b = flushed(std::uint32_t{before.b[32 * (k / 2) + 2 * j + k % 2]} << 16);
                            chain[k % 2] = result(std::fma(a, b, chain[k % 2]));
                          }
                          CHECK(number(got) == result(flushed(old) + result(chain[0] + chain[1])));
                          subnormal += old != 0 && (old & 0x7f800000u) == 0 ? 1 : 0;
                        });
        }
      }
    }
  }
  CHECK(subnormal > 0);
}

TEST_CASE("a product of tiles of every shape, emulated, against plain arithmetic, and the counts of it") {
  if (cpu::cpu_supports("amx")) return;  // nothing traps: the next test compares with the processor
  test::AmxEmulator emulator;
  std::mt19937 random(3);
  for (const int rows : {1, 7, 16}) {
    for (const int pairs : {1, 5, 16}) {
      for (const int columns : {1, 9, 16}) {
        Operands x = random_operands(random, Numbers::kTame);
        const Operands before = x;
        const Function function = product(rows, pairs, columns);
        emulator.reset_counts();
        emulator.run([&] { function(x.a, x.b, x.c); });
        check_product(before, x, rows, columns,
                      [&](std::size_t i, std::size_t j, std::uint32_t old, std::uint32_t got) {
                        double sum = static_cast<double>(number(old)), size = std::fabs(sum);
                        for (std::size_t k = 0; k < static_cast<std::size_t>(2 * pairs); ++k) {
                          const double term =
                              static_cast<double>(number(std::uint32_t{before.a[32 * i + k]} << 16)) *
                              static_cast<double>(number(std::uint32_t{before.b[32 * (k / 2) + 2 * j + k % 2]} << 16));
                          sum += term;
                          size += std::fabs(term);
                        }
                        CHECK(std::fabs(static_cast<double>(number(got)) - sum) <= 2e-6 * size);
                      });
        CHECK(emulator.counts().configure == 1);
        CHECK(emulator.counts().load == 3);
        CHECK(emulator.counts().multiply == 1);
        CHECK(emulator.counts().store == 1);
        CHECK(emulator.counts().release == 1);
        CHECK(emulator.counts().zero == 0);
      }
    }
  }
}

TEST_CASE("a fault in a running kernel is an exception, and the next kernel runs") {
  if (cpu::cpu_supports("amx")) return;
  test::AmxEmulator emulator;
  const Function good = product(16, 16, 16);
  std::mt19937 random(5);
  Operands x = random_operands(random, Numbers::kTame);
  // Skips its configuration at run time, where the emitter can't see it.
  const Function bad([](cpu::Emitter& e) {
    Tiles tiles(e, full_palette());
    cpu::Mark& skip = e.mark("skip");
    e.cmp(kA, 0);
    e.jnz(skip);
    tiles.configure();
    e.bind(skip);
    tiles.zero(3);
    tiles.release();
  });
  CHECK_THROWS_WITH(emulator.run([&] { bad(x.a, x.b, x.c); }), Catch::Contains("no configuration is loaded"));
  emulator.run([&] { good(x.a, x.b, x.c); });
}
