// The elementary functions of the generators, against double precision.
#include "cpu/math.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/kernel.h"
#include "cpu/memory.h"
#include "harness.h"
#include "oracle/convert.h"
#include "support/catch.h"

using namespace gdn;

namespace {

// 16 floats from the first argument to the second, through `body` on zmm0, with whole registers or by halves.
class Function16 {
 public:
  template <class Body>
  explicit Function16(bool narrow, const Body& body) {
    cpu::Emitter emitter;
    core::Facts facts;
    facts.key_dim = facts.value_dim = 16;
    facts.group = 1;
    cpu::Context context{emitter, facts, cpu::Frame(facts)};
    const cpu::Reg64 from(7), to(6);
    emitter.sub(cpu::reg::frame, cpu::Halves::kBytes);
    if (narrow) emitter.narrow(cpu::reg::frame, 0);
    emitter.vmovups(cpu::zmm(0), emitter.at(from));
    body(context);
    emitter.vmovups(emitter.at(to), cpu::zmm(0));
    emitter.vzeroupper();
    emitter.add(cpu::reg::frame, cpu::Halves::kBytes);
    emitter.ret();
    auto program = emitter.finish("test");
    kernel_ = cpu::Kernel(program.code, std::move(program.listing));
  }

  std::vector<float> operator()(std::vector<float> x) const {
    const std::size_t size = x.size();
    x.resize((size + 15) / 16 * 16);
    using Call = void (*)(const float*, float*);
    const auto function = kernel_.function();
    Call call = nullptr;
    std::memcpy(&call, &function, sizeof(call));
    const unsigned modes = _mm_getcsr();
    _mm_setcsr(0x9fc0);  // as kernels set them: subnormal numbers are zero
    for (std::size_t i = 0; i < x.size(); i += 16) call(&x[i], &x[i]);
    _mm_setcsr(modes);
    x.resize(size);
    return x;
  }

 private:
  cpu::Kernel kernel_;
};

std::vector<float> points(float from, float to, int count) {
  std::vector<float> x;
  for (int i = 0; i <= count; ++i) x.push_back(from + (to - from) * static_cast<float>(i) / static_cast<float>(count));
  return x;
}

template <class Reference>
double worst(const std::vector<float>& x, const std::vector<float>& y, const Reference& reference) {
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = reference(static_cast<double>(x[i]));
    error = std::max(error, std::fabs(y[i] - want) / std::fabs(want));
  }
  return error;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("exp, sigmoid, silu and softplus are good to a few units of the last place") {
  if (!test::runs_here()) return;
  const bool narrow = GENERATE(false, true);
  const Function16 exponential(narrow, [](cpu::Context& c) { cpu::emit_exp(c, 0, 1, 2); });
  const Function16 logistic(narrow, [](cpu::Context& c) { cpu::emit_sigmoid(c, 0, 1, 2); });
  const Function16 silu(narrow, [](cpu::Context& c) { cpu::emit_activation(c, core::Activation::kSilu, 0, 1, 2, 3); });
  const Function16 plus(narrow, [](cpu::Context& c) { cpu::emit_softplus(c, 0, 0, 1, 2, 3, 4); });

  auto x = points(-87, 88, 200000);
  CHECK(worst(x, exponential(x), [](double t) { return std::exp(t); }) < 3e-7);
  x = points(-86, 100, 200000);
  CHECK(worst(x, logistic(x), sigmoid) < 4e-7);
  CHECK(worst(x, plus(x), softplus) < 4e-7);
  for (float& value : x) value += 0.01f;  // silu(0) = 0 has no relative error
  CHECK(worst(x, silu(x), [](double t) { return t * sigmoid(t); }) < 5e-7);
}

TEST_CASE("silu for bf16 is a fiftieth as good as bf16") {
  if (!test::runs_here()) return;
  const Function16 silu(false, [](cpu::Context& c) {
    cpu::emit_activation_for(c, core::Activation::kSilu, core::DType::kBf16, 0, 1, 2, 3);
  });
  auto x = points(-80, 100, 200000);
  for (float& value : x) value += 0.01f;  // silu(0) = 0 has no relative error
  CHECK(worst(x, silu(x), [](double t) { return t * sigmoid(t); }) < 7e-5);
  const std::vector<float> ends = silu({kNan, kInfinity, 1e30f, 0.0f, -1e30f});
  CHECK(std::isnan(ends[0]));
  CHECK(ends[1] == kInfinity);
  CHECK(ends[2] == 1e30f);
  CHECK(ends[3] == 0);
  CHECK(std::fabs(ends[4]) < 1e-6f);
}

TEST_CASE("elementary functions at their ends") {
  if (!test::runs_here()) return;
  const bool narrow = GENERATE(false, true);
  const Function16 exponential(narrow, [](cpu::Context& c) { cpu::emit_exp(c, 0, 1, 2); });
  const Function16 logistic(narrow, [](cpu::Context& c) { cpu::emit_sigmoid(c, 0, 1, 2); });
  const Function16 plus(narrow, [](cpu::Context& c) { cpu::emit_softplus(c, 0, 0, 1, 2, 3, 4); });
  const Function16 above(narrow, [](cpu::Context& c) { cpu::emit_softplus(c, 20, 0, 1, 2, 3, 4); });

  const std::vector<float> x = {kNan, -kInfinity, kInfinity, 0.0f, -1e30f, 1e30f};
  auto y = exponential(x);
  CHECK(std::isnan(y[0]));
  CHECK(y[1] < 1e-40f);
  CHECK(std::isfinite(y[2]));
  CHECK(y[2] > 3e38f);
  CHECK(y[3] == 1.0f);
  CHECK(y[4] < 1e-40f);

  y = logistic(x);
  CHECK(std::isnan(y[0]));
  CHECK(y[1] < 2e-38f);
  CHECK(y[2] == 1.0f);
  CHECK(y[3] == 0.5f);
  CHECK(y[4] < 2e-38f);
  CHECK(y[5] == 1.0f);

  y = plus(x);
  CHECK(std::isnan(y[0]));
  CHECK(y[1] < 1e-40f);
  CHECK(y[2] == kInfinity);
  CHECK(y[3] == Approx(std::log(2.0)).epsilon(1e-6));
  CHECK(y[5] == 1e30f);

  // At the threshold the exact form still holds; above it x itself.
  const float next = std::nextafter(20.0f, 30.0f);
  y = above({20.0f, next, kNan, 5.0f});
  CHECK(y[0] == Approx(softplus(20)).epsilon(1e-7));
  CHECK(y[1] == next);
  CHECK(std::isnan(y[2]));
  CHECK(y[3] == Approx(softplus(5)).epsilon(1e-6));
}

TEST_CASE("16 lanes go through half words, scaling and back by halves as by whole registers") {
  if (!test::runs_here()) return;
  std::vector<float> x = points(-3, 70000, 4000);
  x.insert(x.end(), {0.0f, -0.0f, kInfinity, -kInfinity, 6e-8f, 1e-5f});
  for (const core::DType dtype : {core::DType::kBf16, core::DType::kFp16}) {
    const auto body = [&](cpu::Context& c) { cpu::round_to(c, 0, dtype); };
    CHECK(Function16(true, body)(x) == Function16(false, body)(x));
  }
  // A neighbour's lanes, and powers that one factor can't hold.
  const auto lanes = [](cpu::Context& c) {
    c.e.vpermilps(cpu::zmm(1), cpu::zmm(0), cpu::imm8(0xb1));
    c.e.vshuff64x2(cpu::zmm(0), cpu::zmm(1), cpu::zmm(0), cpu::imm8(0x1b));
    c.e.vextractf32x4(cpu::xmm(2), cpu::zmm(0), cpu::imm8(3));
    c.e.vbroadcastss(cpu::zmm(3), cpu::xmm(2));
    c.e.vaddps(cpu::zmm(0), cpu::zmm(0), cpu::zmm(3));
  };
  CHECK(Function16(true, lanes)(points(0, 63, 63)) == Function16(false, lanes)(points(0, 63, 63)));
  const auto scaled = [](cpu::Context& c) {
    c.e.vbroadcastss(cpu::zmm(1), c.e.scalar(1.25f));
    c.e.vscalefps(cpu::zmm(0), cpu::zmm(1), cpu::zmm(0));
  };
  CHECK(Function16(true, scaled)(points(-250, 127, 377)) == Function16(false, scaled)(points(-250, 127, 377)));
}

TEST_CASE("what avx2 has no form for is refused as it is emitted") {
  cpu::Emitter e;
  e.narrow(cpu::reg::frame, 0);
  CHECK_THROWS_WITH(e.vpermw(cpu::zmm(0), cpu::zmm(1), cpu::zmm(2)), Catch::Contains("vpermw zmm0"));
  CHECK_THROWS_WITH(e.vmovaps(cpu::zmm(0) | cpu::Opmask(1), cpu::zmm(1)), Catch::Contains("no masks"));
  e.vmovaps(cpu::zmm(1), cpu::zmm(2));
  e.push(cpu::reg::slot);
  CHECK_THROWS_WITH(e.vmovaps(cpu::zmm(3), cpu::zmm(4)), Catch::Contains("between a push and its pop"));
}

TEST_CASE("log2 of decays") {
  if (!test::runs_here()) return;
  const bool narrow = GENERATE(false, true);
  const Function16 logarithm(narrow, [](cpu::Context& c) { cpu::emit_log2(c, 0, 1, 2, 3); });
  auto x = points(1e-6f, 0.99f, 100000);
  for (float value = 1; value > 1e-37f; value *= 0.37f) x.push_back(value * 0.999f);
  CHECK(worst(x, logarithm(x), [](double t) { return std::log2(t); }) < 4e-7);
  const auto y = logarithm({1.0f, 0.5f, 0.0f, 1e-40f, kNan, 1e38f});
  CHECK(y[0] == 0.0f);
  CHECK(y[1] == -1.0f);
  CHECK(y[2] == -200.0f);
  CHECK(y[3] == -200.0f);
  CHECK(std::isnan(y[4]));
  CHECK(y[5] == Approx(std::log2(1e38)));
}

TEST_CASE("more halves than there are registers keep their values") {
  if (!test::runs_here()) return;
  const bool narrow = GENERATE(false, true);
  const Function16 sum(narrow, [](cpu::Context& c) {
    for (int i = 1; i < 32; ++i) c.e.vaddps(cpu::zmm(i), cpu::zmm(i - 1), c.e.constant(1.0f));
    for (int i = 1; i < 32; ++i) c.e.vaddps(cpu::zmm(0), cpu::zmm(0), cpu::zmm(i));
  });
  const auto y = sum(points(0, 15, 15));
  for (std::size_t i = 0; i < 16; ++i) CHECK(y[i] == 32.0f * static_cast<float>(i) + 496.0f);
}

TEST_CASE("the two halves of a pair of sums") {
  if (!test::runs_here()) return;
  const bool narrow = GENERATE(false, true);
  const Function16 sums(narrow, [](cpu::Context& c) {
    c.e.vmulps(cpu::zmm(1), cpu::zmm(0), cpu::zmm(0));
    cpu::emit_sum_pair(c, 0, 0, 1, 2);
  });
  std::vector<float> x;
  for (int i = 0; i < 16; ++i) x.push_back(static_cast<float>(i + 1));
  const auto y = sums(x);
  for (std::size_t i = 0; i < 16; ++i) CHECK(y[i] == (i < 8 ? 136.0f : 1496.0f));
}

TEST_CASE("bf16 is rounded to nearest even, and flushed below the smallest normal number") {
  if (!test::runs_here()) return;
  const bool narrow = GENERATE(false, true);
  const Function16 round(narrow, [](cpu::Context& c) { cpu::round_to(c, 0, core::DType::kBf16); });
  const auto bits = [](std::uint32_t pattern) {
    float value = 0;
    std::memcpy(&value, &pattern, 4);
    return value;
  };
  const auto y = round({bits(0x3f808000), bits(0x3f818000), bits(0x3f808001), bits(0x3f807fff), bits(0x7f7fffff),
                        bits(0xff800000), kNan, bits(0x00800000), bits(0x00400000), bits(0x80400000)});
  CHECK(y[0] == bits(0x3f800000));
  CHECK(y[1] == bits(0x3f820000));
  CHECK(y[2] == bits(0x3f810000));
  CHECK(y[3] == bits(0x3f800000));
  CHECK(y[4] == kInfinity);
  CHECK(y[5] == -kInfinity);
  CHECK(std::isnan(y[6]));
  CHECK(y[7] == bits(0x00800000));
  CHECK(y[8] == 0.0f);
  CHECK(y[9] == 0.0f);
}

namespace {

// The code nearest to a number as fp32 has it, from all codes' values.
class Codes {
 public:
  explicit Codes(core::DType dtype) : dtype_(dtype) {
    for (int code = 0; code < 256; ++code) {
      const auto byte = static_cast<std::byte>(code);
      const double value = oracle::load(dtype, &byte);
      if (!std::isnan(value) && value >= 0) values_.emplace_back(value, code);
    }
    std::sort(values_.begin(), values_.end());
    values_.erase(
        std::unique(values_.begin(), values_.end(), [](const auto& a, const auto& b) { return a.first == b.first; }),
        values_.end());
  }
  double nearest(double x) const {
    const double size = std::min(std::fabs(x), values_.back().first);
    const auto above = std::lower_bound(values_.begin(), values_.end(), std::pair(size, -1));
    if (above == values_.begin()) return std::copysign(above->first, x);
    const auto below = above - 1;
    const double low = size - below->first, high = above->first - size;
    const bool up = high < low || (high == low && above->second % 2 == 0);
    return std::copysign(up ? above->first : below->first, x);
  }

 private:
  core::DType dtype_;
  std::vector<std::pair<double, int>> values_;
};

}  // namespace

TEST_CASE("8-bit numbers are the nearest ones, ties to even, and come back as they are") {
  if (!test::runs_here()) return;
  const bool narrow = GENERATE(false, true);
  for (const core::DType dtype : {core::DType::kE4m3fn, core::DType::kE4m3fnuz}) {
    const Codes codes(dtype);
    const Function16 round(narrow, [&](cpu::Context& c) { cpu::round_to(c, 0, dtype); });
    std::vector<float> x = {0.0f, -0.0f, 1e-30f, -1e-30f, 3e38f, -3e38f, kInfinity, -kInfinity, 1000.0f, -464.0f};
    for (int i = 0; i < 1 << 16; ++i) {  // every exponent from far below to far above, three bits and their ties
      const std::uint32_t bits = 0x37000000u + static_cast<std::uint32_t>(i % 0x8000) * 0x2000u;
      float value = 0;
      std::memcpy(&value, &bits, sizeof(value));
      for (const int sign : {1, -1}) {
        x.push_back(static_cast<float>(sign) * value);
        x.push_back(static_cast<float>(sign) * std::nextafter(value, 0.0f));
      }
    }
    const std::vector<float> y = round(x);
    int wrong = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = codes.nearest(static_cast<double>(x[i]));
      const bool sign_matters = dtype == core::DType::kE4m3fn || want != 0;
      if (static_cast<double>(y[i]) == want && (!sign_matters || std::signbit(y[i]) == std::signbit(want))) continue;
      if (wrong++ == 0) UNSCOPED_INFO("first: " << x[i] << " gives " << y[i] << ", wanted " << want);
    }
    CHECK(wrong == 0);
    for (const float nan : round({kNan, -kNan})) CHECK(std::isnan(nan));
  }
}
