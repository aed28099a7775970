// fp32 to the 8-bit types and back, as the bodies do it on machines without the instructions, against the oracle's own
// words: every code, every tie between two codes and its neighbours on both sides.
#include <cmath>
#include <limits>
#include <vector>

#include "gdn/eight_bit.h"
#include "oracle/convert.h"
#include "support/catch.h"

using gdn::core::DType;

namespace {

template <class E>
void check(DType dtype) {
  std::vector<float> numbers = {0.0f,
                                -0.0f,
                                1e-30f,
                                448.0f,
                                464.0f,
                                1e30f,
                                std::numeric_limits<float>::infinity(),
                                std::numeric_limits<float>::denorm_min(),
                                std::numeric_limits<float>::max()};
  const int last = dtype == DType::kE4m3fn ? 0x7e : 0x7f;
  for (int code = 0; code < last; ++code) {
    const double here = gdn::oracle::from_e4m3_bits(dtype, static_cast<std::uint8_t>(code));
    const double next = gdn::oracle::from_e4m3_bits(dtype, static_cast<std::uint8_t>(code + 1));
    const float tie = static_cast<float>((here + next) / 2);  // exact
    for (const float x : {static_cast<float>(here), tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 1e9f)}) {
      numbers.push_back(x);
    }
  }
  int wrong = 0;
  for (const float magnitude : numbers) {
    for (const float x : {magnitude, -magnitude}) {
      CAPTURE(x);
      const unsigned want = gdn::oracle::to_e4m3_bits(dtype, static_cast<double>(x));
      wrong += gdn::code_by_bits<E>(x) == want ? 0 : 1;
      wrong += gdn::code_pair<E>(x, 1.0f) == (want | gdn::code_by_bits<E>(1.0f) << 8) ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
  CHECK(gdn::code_by_bits<E>(std::numeric_limits<float>::quiet_NaN()) ==
        gdn::oracle::to_e4m3_bits(dtype, std::nan("")));
  for (int code = 0; code < 0x100; ++code) {
    CAPTURE(code);
    const double want = gdn::oracle::from_e4m3_bits(dtype, static_cast<std::uint8_t>(code));
    const float got = gdn::float_by_bits<E>(static_cast<unsigned>(code));
    CHECK((std::isnan(want) ? std::isnan(got) : static_cast<double>(got) == want));
    CHECK(std::signbit(got) == (std::isnan(want) ? std::signbit(got) : std::signbit(want)));
  }
}

}  // namespace

TEST_CASE("e4m3fn: codes, ties and both sides of them") { check<gdn::E4m3fn>(DType::kE4m3fn); }
TEST_CASE("e4m3fnuz: codes, ties and both sides of them") { check<gdn::E4m3fnuz>(DType::kE4m3fnuz); }
