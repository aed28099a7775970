// A 16-bit state rounded by chance: no drift over thousands of steps where rounding to nearest drifts, the same bits
// from the same seed, and random numbers that are those of Philox4x32-10.
#include <cmath>
#include <cstring>
#include <vector>

#include "layout/resolve.h"
#include "oracle/convert.h"
#include "oracle/delta.h"
#include "support/catch.h"
#include "support/specs.h"
#include "verify/verify.h"

#include "gdn/state_store.h"

using namespace gdn;

namespace {

constexpr int kDim = 16, kSteps = 4096;
constexpr double kBeta = 0.002;

// One head of 16 by 16 with the state of a fuzz geometry.
spec::Spec small(const std::string& name, bool stochastic) {
  spec::Spec spec = test::fuzz(name);
  spec.heads.key.value = spec.heads.value.value = 1;
  spec.dims.key.value = spec.dims.value.value = kDim;
  spec.rounding.state_stochastic.value = stochastic;
  spec.qk_norm.enabled.value = false;
  spec.qk_scale.q.value = spec.qk_scale.k.value = 1;
  return spec;
}

void fill(oracle::Problem& problem, const char* name, double value) {
  oracle::Buffer& buffer = problem.buffer(name);
  for (std::int64_t i = 0; i < buffer.inner; ++i) {
    oracle::store(buffer.dtype, buffer.data() + buffer.offset(0, i), value);
  }
}

// Thousands of small steps towards one value: what the state is after them. Nothing decays.
struct Run {
  std::vector<double> state;
  double mean_error = 0;  // of the state's elements, by the size of the exact ones
};

Run run(const spec::Spec& spec, std::int64_t first_seed, int steps) {
  const auto executor = verify::open_executor("simt");
  const layout::Layout layout = layout::resolve(spec);
  const auto kernel = executor->load(plan::make(layout, "delta_update", executor->target()));
  oracle::Options options;
  options.rows = 1;
  oracle::Problem problem = oracle::make_problem(spec, "delta_update", options);
  const double k = 0.25;  // sixteen of them are one long
  for (const char* name : {"handover.q", "handover.k"}) fill(problem, name, k);
  fill(problem, "handover.v", 1);
  fill(problem, "handover.g", 0);
  fill(problem, "handover.beta", kBeta);
  oracle::Buffer& state = problem.buffer("state");
  const std::int64_t slot = problem.row_slot(0);
  for (std::int64_t i = 0; i < state.inner; ++i) oracle::store(state.dtype, state.data() + state.offset(slot, i), 0);

  std::vector<double> exact(kDim * kDim, 0.0), keys(kDim, k), values(kDim, 1.0), g(kDim, 0.0), o(kDim);
  const double beta = static_cast<double>(static_cast<float>(kBeta));
  const std::vector<runtime::View> views = verify::views_of(problem, layout);
  for (int step = 0; step < steps; ++step) {
    if (*spec.rounding.state_stochastic) {
      oracle::Buffer& seed = problem.buffer("seed");
      oracle::store(seed.dtype, seed.data(), static_cast<double>(first_seed + step));
    }
    kernel->run(problem, views);
    oracle::delta_step(kDim, kDim, keys.data(), keys.data(), values.data(), g.data(), beta, exact.data(), o.data());
  }
  Run result;
  double size = 0;
  for (std::int64_t i = 0; i < state.inner; ++i) {  // all elements are alike, whatever their order
    result.state.push_back(oracle::load(state.dtype, state.data() + state.offset(slot, i)));
    result.mean_error += result.state.back() - exact[static_cast<std::size_t>(i)];
    size += std::fabs(exact[static_cast<std::size_t>(i)]);
  }
  result.mean_error /= size;
  return result;
}

}  // namespace

TEST_CASE("4096 small steps: rounding to nearest loses them, rounding by chance keeps their mean") {
  for (const char* name : {"fuzz_state_chance_bf16", "fuzz_state_chance_fp16"}) {
    const double nearest = run(small(name, false), 0, kSteps).mean_error;
    const double by_chance = run(small(name, true), 1, kSteps).mean_error;
    CAPTURE(name, nearest, by_chance);
    CHECK(std::fabs(by_chance) < 0.01);
    // fp16 has three bits more, and steps eight times finer.
    CHECK(nearest < (std::string(name) == "fuzz_state_chance_bf16" ? -0.2 : -0.02));
  }
}

TEST_CASE("the same seed gives the same bits, another seed others") {
  for (const char* name : {"fuzz_state_chance_bf16", "fuzz_state_chance_fp16"}) {
    const spec::Spec spec = small(name, true);
    const Run once = run(spec, 7, 64), again = run(spec, 7, 64), other = run(spec, 100007, 64);
    CHECK(once.state == again.state);
    CHECK(once.state != other.state);
  }
}

TEST_CASE("random words are those of Philox4x32-10") {
  struct Row {
    unsigned counter[4], key[2], words[4];
  };
  // Known answers of Random123.
  const Row rows[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}},
      {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}},
      {{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u},
       {0xa4093822u, 0x299f31d0u},
       {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}},
  };
  for (const Row& row : rows) {
    const Words4 words =
        philox({{row.counter[0], row.counter[1], row.counter[2], row.counter[3]}}, row.key[0], row.key[1]);
    for (int i = 0; i < 4; ++i) CHECK(words.x[i] == row.words[i]);
  }
}

TEST_CASE("a number is rounded to a neighbour of its own, as often up as it lies above") {
  for (const float x : {1.003f, -1.003f, 0.1f, 3e-6f, -2.2e-7f, 65000.0f, 1e-8f}) {
    double fp16 = 0, bf16 = 0;
    for (unsigned random = 0; random < 0x10000u; random += 16) {
      const float a = rounded_by_chance<Fp16>(x, random), b = rounded_by_chance<Bf16>(x, random);
      CHECK(oracle::round_to(core::DType::kFp16, a) == static_cast<double>(a));
      CHECK(oracle::round_to(core::DType::kBf16, b) == static_cast<double>(b));
      fp16 += a, bf16 += b;
    }
    CAPTURE(x);
    CHECK(fp16 / 4096 == Approx(static_cast<double>(x)).epsilon(2e-3).margin(1e-10));
    CHECK(bf16 / 4096 == Approx(static_cast<double>(x)).epsilon(2e-5));
  }
  CHECK(rounded_by_chance<Fp16>(1e6f, 1u) == 1e6f);  // infinity once it is stored
  CHECK(std::isnan(rounded_by_chance<Bf16>(std::nanf(""), 0xffffu)));
}
