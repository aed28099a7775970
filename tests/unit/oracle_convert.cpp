// Element types against bit patterns that are known from the formats' definitions.
#include <cmath>
#include <limits>

#include "oracle/convert.h"
#include "oracle/quantise.h"
#include "support/catch.h"

using namespace gdn::oracle;
using gdn::core::DType;

namespace {
const double kInf = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();
}  // namespace

TEST_CASE("bf16 bits", "[oracle]") {
  struct Row {
    double value;
    int bits;
  };
  const Row rows[] = {
      {0.0, 0x0000},
      {-0.0, 0x8000},
      {1.0, 0x3f80},
      {-2.0, 0xc000},
      {3.140625, 0x4049},
      {kInf, 0x7f80},
      {-kInf, 0xff80},
      {1.0 + 0x1p-8, 0x3f80},            // a tie goes to even, down
      {1.0 + 3 * 0x1p-8, 0x3f82},        // a tie goes to even, up
      {1.0 + 0x1p-8 + 0x1p-40, 0x3f81},  // just above a tie; by way of a float it would be the tie and go down
      {1.0 + 3 * 0x1p-8 - 0x1p-40, 0x3f81},
      {-1.0 - 0x1p-8 - 0x1p-40, 0xbf81},
      {0x1.fep127, 0x7f7f},  // the largest
      {0x1.fefp127, 0x7f7f},
      {0x1.ffp127, 0x7f80},  // a tie with the first that is too large: infinity
      {1e300, 0x7f80},
      {0x1p-126, 0x0080},
      {0x1p-127, 0x0040},
      {0x1p-133, 0x0001},
      {-0x1p-133, 0x8001},
      {0x1p-134, 0x0000},  // half of the smallest denormal: to even
      {0x1.8p-134, 0x0001},
      {0x1.8p-133, 0x0002},
      {1e-300, 0x0000},
      {5e-324, 0x0000},
      {0x1.ffp-127, 0x0080},  // a denormal that rounds up to the smallest normal
  };
  for (const Row& row : rows) {
    CAPTURE(row.value);
    CHECK(to_bf16_bits(row.value) == row.bits);
  }
  CHECK(std::isnan(from_bf16_bits(to_bf16_bits(kNan))));
  CHECK(std::isnan(from_bf16_bits(to_bf16_bits(-kNan))));
}

TEST_CASE("fp16 bits", "[oracle]") {
  struct Row {
    double value;
    int bits;
  };
  const Row rows[] = {
      {0.0, 0x0000},
      {-0.0, 0x8000},
      {1.0, 0x3c00},
      {-2.0, 0xc000},
      {65504.0, 0x7bff},
      {kInf, 0x7c00},
      {-kInf, 0xfc00},
      {65519.0, 0x7bff},
      {65520.0, 0x7c00},
      {1e10, 0x7c00},
      {1.0 + 0x1p-11, 0x3c00},
      {1.0 + 3 * 0x1p-11, 0x3c02},
      {1.0 + 0x1p-11 + 0x1p-45, 0x3c01},
      {0x1p-14, 0x0400},
      {0x1p-24, 0x0001},
      {0x1p-25, 0x0000},
      {0x1.8p-25, 0x0001},
      {0x1.ff8p-15, 0x03ff},
      {0x1.ffcp-15, 0x0400},
      {0.333251953125, 0x3555},
  };
  for (const Row& row : rows) {
    CAPTURE(row.value);
    CHECK(to_fp16_bits(row.value) == row.bits);
  }
  CHECK(std::isnan(from_fp16_bits(to_fp16_bits(kNan))));
}

TEST_CASE("every 16-bit pattern survives the way to double and back", "[oracle]") {
  int wrong = 0;
  for (int bits = 0; bits < 0x10000; ++bits) {
    const auto pattern = static_cast<std::uint16_t>(bits);
    const double bf16 = from_bf16_bits(pattern), fp16 = from_fp16_bits(pattern);
    if (!std::isnan(bf16) && to_bf16_bits(bf16) != pattern) ++wrong;
    if (!std::isnan(fp16) && to_fp16_bits(fp16) != pattern) ++wrong;
    if (std::isnan(bf16) && !std::isnan(from_bf16_bits(to_bf16_bits(bf16)))) ++wrong;
    if (std::isnan(fp16) && !std::isnan(from_fp16_bits(to_fp16_bits(fp16)))) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("fp32 rounds as the processor does", "[oracle]") {
  int wrong = 0;
  std::uint64_t state = 1;
  for (int i = 0; i < 200000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    // exponents from far below the denormals of fp32 to far above its largest
    const double value =
        std::ldexp(static_cast<double>(static_cast<std::int64_t>(state)), -63 + static_cast<int>(state % 320) - 170);
    if (round_to(DType::kFp32, value) != static_cast<double>(static_cast<float>(value))) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("distance from a tie", "[oracle]") {
  CHECK(distance_from_tie(DType::kBf16, 1.0 + 0x1p-8) == 0);
  CHECK(distance_from_tie(DType::kBf16, 1.0) == 0.5);
  CHECK(distance_from_tie(DType::kBf16, -(2.0 + 0x1p-8)) == 0.25);
  CHECK(distance_from_tie(DType::kFp16, 1.0 + 0x1p-11) == 0);
}

TEST_CASE("elements in memory", "[oracle]") {
  std::byte memory[9] = {};
  store(DType::kBf16, memory + 1, 1.0);
  CHECK(memory[1] == std::byte{0x80});
  CHECK(memory[2] == std::byte{0x3f});
  store(DType::kInt64, memory + 1, -3);
  CHECK(load(DType::kInt64, memory + 1) == -3);
  store(DType::kFp32, memory + 1, 0.1);
  CHECK(load(DType::kFp32, memory + 1) == static_cast<double>(0.1f));
  store(DType::kE4m3fn, memory + 1, -1.0);
  CHECK(memory[1] == std::byte{0xb8});
  CHECK(load(DType::kE4m3fn, memory + 1) == -1.0);
  CHECK(load(DType::kE4m3fnuz, memory + 1) == -0.5);  // one more in the bias
  CHECK_THROWS_WITH(to_e4m3_bits(DType::kBf16, 1.0), "the oracle does not convert bf16");
}

TEST_CASE("e4m3 codes", "[oracle]") {
  struct Row {
    double value;
    int fn, fnuz;
  };
  const Row rows[] = {
      {0.0, 0x00, 0x00},       {-0.0, 0x80, 0x00},  // the other has no negative zero: 0x80 is its NaN
      {1.0, 0x38, 0x40},       {-1.5, 0xbc, 0xc4},
      {240.0, 0x77, 0x7f},     {448.0, 0x7e, 0x7f},
      {1e9, 0x7e, 0x7f},       {-kInf, 0xfe, 0xff},
      {464.0, 0x7e, 0x7f},   // a tie with what would come next
      {1.0625, 0x38, 0x40},  // ties to even
      {1.1875, 0x3a, 0x42},    {1.0625 + 0x1p-40, 0x39, 0x41},
      {0x1p-6, 0x08, 0x10},    {0x1p-7, 0x04, 0x08},
      {0x1p-9, 0x01, 0x02},    {0x1p-10, 0x00, 0x01},  // half of one type's smallest number: to even
      {0x1.8p-10, 0x01, 0x02}, {-0x1p-11, 0x80, 0x00},
      {0x1.ep-7, 0x08, 0x0f},  // a tie between the last denormal and the first normal number
  };
  for (const Row& row : rows) {
    CAPTURE(row.value);
    CHECK(to_e4m3_bits(DType::kE4m3fn, row.value) == row.fn);
    CHECK(to_e4m3_bits(DType::kE4m3fnuz, row.value) == row.fnuz);
  }
  CHECK(to_e4m3_bits(DType::kE4m3fn, kNan) == 0x7f);
  CHECK(to_e4m3_bits(DType::kE4m3fnuz, kNan) == 0x80);
  for (int code = 0; code < 0x100; ++code) {
    CAPTURE(code);
    for (const DType dtype : {DType::kE4m3fn, DType::kE4m3fnuz}) {
      const double value = from_e4m3_bits(dtype, static_cast<std::uint8_t>(code));
      const bool nan = dtype == DType::kE4m3fn ? (code & 0x7f) == 0x7f : code == 0x80;
      CHECK(std::isnan(value) == nan);
      if (!nan) CHECK(to_e4m3_bits(dtype, value) == code);
    }
  }
}

TEST_CASE("scales of a quantised group, floor by floor", "[oracle]") {
  gdn::spec::OutputQuant quant;
  quant.max.value = 448;
  quant.floor.value = 1e-10;
  const auto scale = [&](gdn::core::FloorAt at, double amax) {
    quant.floor_at.value = at;
    return quantisation_scale(quant, amax);
  };
  using gdn::core::FloorAt;
  // Below all floors, between them, and above: where the formulas of two engines part.
  CHECK(scale(FloorAt::kNone, 0) == 0);
  CHECK(scale(FloorAt::kNone, 1e-37) == 0);  // not a normal float
  CHECK(scale(FloorAt::kNone, 3e-9) == static_cast<double>(static_cast<float>(3e-9 / 448)));
  CHECK(scale(FloorAt::kAmax, 3e-11) == static_cast<double>(static_cast<float>(1e-10 / 448)));
  CHECK(scale(FloorAt::kAmax, 3e-9) == static_cast<double>(static_cast<float>(3e-9 / 448)));
  CHECK(scale(FloorAt::kScale, 3e-9) == static_cast<double>(1e-10f));
  CHECK(scale(FloorAt::kReplace, 3e-9) == static_cast<double>(static_cast<float>(3e-9 / 448)));
  CHECK(scale(FloorAt::kReplace, 3e-11) == static_cast<double>(1e-10f));
  CHECK(scale(FloorAt::kScale, 7) == 7.0 / 448);
  quant.power_of_two.value = true;
  CHECK(scale(FloorAt::kNone, 448) == 1);
  CHECK(scale(FloorAt::kNone, 449) == 2);
  CHECK(scale(FloorAt::kNone, 7) == 0x1p-6);
  CHECK(scale(FloorAt::kNone, 0) == 0);
  CHECK(quantised(quant, 5, 0) == 0);
  CHECK(quantised(quant, -900, 1) == -448);
}
