// The shim itself: what a block of threads can rely on, and what the shim reports instead of hanging.
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "gdn/numeric.h"
#include "support/catch.h"

namespace {

constexpr int kThreads = 2 * gdn::kWaveSize + gdn::kWaveSize / 2;  // the last wave is only half there

struct Result {
  int status;
  std::string message;
};

Result launch(void (*kernel)(gdn::Args), const gdn::Args& args, int grid_x, int grid_y, int threads, unsigned order,
              int cluster = 1) {
  char message[512];
  const int status =
      gdn_host_launch(kernel, &args, grid_x, grid_y, threads, cluster, 0, order, message, sizeof(message));
  return {status, message};
}

gdn::Args with(void* operand) {
  gdn::Args args{};
  args.operand[0] = operand;
  return args;
}

template <int kDistance>
void exchange(gdn::Args args) {
  const float got = gdn::shuffle_xor<kDistance>(static_cast<float>(gdn::thread_id()));
  static_cast<float*>(args.operand[0])[gdn::thread_id()] = got;
}

template <int kDistance>
void check_exchange() {
  std::vector<float> got(kThreads, -1);
  const Result result = launch(exchange<kDistance>, with(got.data()), 1, 1, kThreads, 3);
  CHECK(result.message == "");
  for (int i = 0; i < kThreads; ++i) CHECK(got[static_cast<std::size_t>(i)] == static_cast<float>(i ^ kDistance));
}

void sum_groups(gdn::Args args) {
  const float id = static_cast<float>(gdn::thread_id());
  float x[2] = {id, 1000 * id};
  gdn::sum_over_lanes<4, 2>(x);  // lanes l, l^2, l^4, l^6
  float* to = static_cast<float*>(args.operand[0]);
  to[2 * gdn::thread_id()] = x[0];
  to[2 * gdn::thread_id() + 1] = x[1];
}

// A rotation through shared memory: right only if all writes come before all reads.
void rotate(gdn::Args args) {
  struct Shared {
    float x[kThreads];
  };
  GDN_SHARED(Shared, shared);
  float value = static_cast<float>(gdn::thread_id());
  for (int turn = 0; turn < 3; ++turn) {
    shared.x[gdn::thread_id()] = value;
    gdn::barrier();
    value = shared.x[(gdn::thread_id() + 1) % kThreads];
    gdn::barrier();
  }
  static_cast<float*>(args.operand[0])[gdn::thread_id()] = value;
}

void read_unwritten(gdn::Args args) {
  struct Shared {
    float x[2];
  };
  GDN_SHARED(Shared, shared);
  static_cast<float*>(args.operand[0])[gdn::block_row()] = shared.x[0];
  shared.x[0] = 1;  // the next block must not see it
}

void half_skip_barrier(gdn::Args) {
  if (gdn::thread_id() >= 7) gdn::barrier();
}
void wave_meets_barrier_and_shuffle(gdn::Args) {
  if (gdn::thread_id() == 3) {
    gdn::barrier();
  } else {
    gdn::shuffle_xor<1>(0);
  }
}
void lanes_disagree(gdn::Args) {
  if (gdn::thread_id() % 2 == 0) {
    gdn::shuffle_xor<1>(0);
  } else {
    gdn::shuffle_xor<2>(0);
  }
}
void no_partner(gdn::Args) { gdn::shuffle_xor<gdn::kWaveSize / 2>(0); }
void misaligned(gdn::Args args) { gdn::load<16>(static_cast<float*>(args.operand[0]) + 1); }
void too_much_shared(gdn::Args) {
  struct Shared {
    float x[17000];
  };
  GDN_SHARED(Shared, shared);
  shared.x[0] = 0;
}
void nothing(gdn::Args) {}

std::vector<int>* visits = nullptr;
void note_visit(gdn::Args) {
  if (gdn::thread_id() == 0) visits->push_back(gdn::block_row() + 10 * gdn::block_head());
}

}  // namespace

TEST_CASE("shuffles exchange values inside a wave") {
  check_exchange<1>();
  check_exchange<2>();
  check_exchange<4>();
  check_exchange<8>();
  check_exchange<gdn::kWaveSize / 4>();
}

TEST_CASE("sums over lanes stay inside their group") {
  std::vector<float> got(2 * gdn::kWaveSize);
  const Result result = launch(sum_groups, with(got.data()), 1, 1, gdn::kWaveSize, 9);
  CHECK(result.message == "");
  for (int lane = 0; lane < gdn::kWaveSize; ++lane) {
    const int want = lane + (lane ^ 2) + (lane ^ 4) + (lane ^ 6);
    CHECK(got[static_cast<std::size_t>(2 * lane)] == static_cast<float>(want));
    CHECK(got[static_cast<std::size_t>(2 * lane + 1)] == static_cast<float>(1000 * want));
  }
}

TEST_CASE("a barrier parts what comes before from what comes after, in any order of threads") {
  for (const unsigned order : {0u, 1u, 2u, 77u}) {
    std::vector<float> got(kThreads, -1);
    const Result result = launch(rotate, with(got.data()), 1, 1, kThreads, order);
    CHECK(result.message == "");
    for (int i = 0; i < kThreads; ++i) {
      CHECK(got[static_cast<std::size_t>(i)] == static_cast<float>((i + 3) % kThreads));
    }
  }
}

TEST_CASE("shared memory starts as NaN in every block") {
  std::vector<float> got(3, 0);
  CHECK(launch(read_unwritten, with(got.data()), 3, 1, 1, 0).status == 0);
  for (const float x : got) CHECK(std::isnan(x));
}

TEST_CASE("blocks run in the order asked for, each once") {
  std::vector<int> seen;
  visits = &seen;
  const auto run = [&](unsigned order) {
    seen.clear();
    CHECK(launch(note_visit, gdn::Args{}, 3, 2, 2, order).status == 0);
    return seen;
  };
  CHECK(run(0) == std::vector<int>{0, 1, 2, 10, 11, 12});
  CHECK(run(1) == std::vector<int>{12, 11, 10, 2, 1, 0});
  const std::vector<int> shuffled = run(5);
  CHECK(shuffled != run(0));
  CHECK(std::set<int>(shuffled.begin(), shuffled.end()).size() == 6);
  CHECK(shuffled == run(5));
}

TEST_CASE("what would hang or fault on a GPU ends the launch with a reason") {
  std::vector<float> memory(64);
  struct Row {
    void (*kernel)(gdn::Args);
    int threads;
    const char* reason;
  };
  const Row table[] = {
      {half_skip_barrier, 64,
       "block (0, 0) is deadlocked: 57 threads wait at a barrier (first: 7), 0 in a shuffle (first: "
       "-1), 0 for the cluster (first: -1), 0 at a mailbox (first: -1), 0 for a phase (first: -1), 7 have returned "
       "(first: 0)"},
      {wave_meets_barrier_and_shuffle, gdn::kWaveSize, "1 threads wait at a barrier (first: 3)"},
      {lanes_disagree, gdn::kWaveSize, "meet in different shuffles, over distances"},
      {no_partner, gdn::kWaveSize / 2, "has no partner"},
      {misaligned, 1, "an access of 16 bytes at"},
      {too_much_shared, 1, "bytes of shared memory in one block"},
      {nothing, 0, "0 threads a block"},
      {nothing, 2000, "2000 threads a block"},
  };
  for (const Row& row : table) {
    const Result result = launch(row.kernel, with(memory.data()), 1, 1, row.threads, 0);
    INFO(result.message);
    CHECK(result.status == 1);
    CHECK(result.message.find(row.reason) != std::string::npos);
  }
  CHECK(launch(nothing, gdn::Args{}, 0, 1, 1, 0).message.find("empty") != std::string::npos);
  CHECK(launch(nothing, gdn::Args{}, 2, 2, 64, 0).status == 0);  // a failed launch leaves the machine usable
}

TEST_CASE("16-bit conversions are exact one way and round to nearest even the other") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const unsigned short half = static_cast<unsigned short>(bits);
    const int exponent = static_cast<int>(bits >> 10 & 0x1f);
    const float fraction = static_cast<float>(bits & 0x3ff) / 1024.0f;
    const float sign = bits & 0x8000 ? -1.0f : 1.0f;
    const float want = exponent == 0      ? sign * std::ldexp(fraction, -14)
                       : exponent < 0x1f  ? sign * std::ldexp(1 + fraction, exponent - 15)
                       : fraction == 0.0f ? sign * infinity
                                          : std::numeric_limits<float>::quiet_NaN();
    const float got = gdn::half_to_float(half);
    if (std::isnan(want)) {
      REQUIRE(std::isnan(got));
      REQUIRE(std::isnan(gdn::half_to_float(gdn::float_to_half(got))));
    } else {
      REQUIRE(got == want);
      REQUIRE(gdn::float_to_half(got) == half);
    }
  }
  CHECK(gdn::float_to_half(1.0f + 0x1p-11f) == 0x3c00);  // a tie goes to even
  CHECK(gdn::float_to_half(1.0f + 3 * 0x1p-11f) == 0x3c02);
  CHECK(gdn::float_to_half(65519.9f) == 0x7bff);
  CHECK(gdn::float_to_half(65520.0f) == 0x7c00);
  CHECK(gdn::float_to_half(0x1p-25f) == 0);  // half of the smallest denormal
  CHECK(gdn::float_to_half(0x1.002p-25f) == 1);
  CHECK(gdn::float_to_bf16(1.0f + 0x1p-8f) == 0x3f80);
  CHECK(gdn::float_to_bf16(1.0f + 3 * 0x1p-8f) == 0x3f82);
  CHECK(gdn::float_to_bf16(infinity) == 0x7f80);
  CHECK(std::isnan(gdn::float_of(static_cast<unsigned>(gdn::float_to_bf16(gdn::float_of(0x7f800001u))) << 16)));
}

TEST_CASE("scalar functions keep their relative error over the whole range") {
  for (double x = -80; x < 85; x += 0.00731) {
    const float in = static_cast<float>(x);
    const double exact = static_cast<double>(in);
    CAPTURE(in);
    const auto close = [](float got, double want) { return std::abs(got - want) <= 5e-7 * std::abs(want) + 1e-37; };
    REQUIRE(close(gdn::exponential(in), std::exp(exact)));
    REQUIRE(close(gdn::softplus(in, 0.0f), std::log1p(std::exp(exact))));
    REQUIRE(close(gdn::softplus(in, 20.0f), exact > 20 ? exact : std::log1p(std::exp(exact))));
    REQUIRE(close(gdn::sigmoid(in), 1 / (1 + std::exp(-exact))));
  }
  // SiLU for bf16: what the GPU's tanh is off by, times x / 2, is little beside what a neighbour near 1 is rounded by.
  for (double x = -40; x < 40; x += 0.00731) {
    const float in = static_cast<float>(x);
    const double exact = static_cast<double>(in) / (1 + std::exp(-static_cast<double>(in)));
    CAPTURE(in);
    REQUIRE(std::abs(gdn::silu_of_half(0.5f * in) - exact) <= std::abs(x) * 0x1.01p-12 + 1e-37);
    REQUIRE((x <= 0 || std::abs(gdn::silu_of_half(0.5f * in) - exact) <= exact * 0x1p-11));
  }
  CHECK(gdn::silu_of_half(0.0f) == 0.0f);
  CHECK(gdn::exponential(-1e30f) == 0.0f);
  CHECK(std::isinf(gdn::exponential(1e30f)));
  CHECK(std::isnan(gdn::exponential(std::numeric_limits<float>::quiet_NaN())));
}
