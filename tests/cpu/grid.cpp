// Every operation by every order and type of the state and every order of the window, at the fuzz geometry and at the
// sizes of released heads, by vectors and by tiles (emulated where there are none).
#include <string>

#include "harness.h"
#include "steps.h"
#include "support/catch.h"

using namespace gdn;

namespace {

struct Pools {
  bool keys_innermost;  // (V, K), else (K, V)
  core::DType state;
  bool taps_innermost;  // DS, else SD

  std::string text() const {
    return std::string(keys_innermost ? "(V, K) " : "(K, V) ") + std::string(core::to_string(state)) +
           (taps_innermost ? " DS" : " SD");
  }
};

std::vector<Pools> all_pools() {
  std::vector<Pools> all;
  for (const bool keys_innermost : {true, false}) {
    for (const core::DType state : {core::DType::kFp32, core::DType::kBf16, core::DType::kFp16}) {
      for (const bool taps_innermost : {false, true}) all.push_back({keys_innermost, state, taps_innermost});
    }
  }
  return all;
}

// The spec with its pools arranged so.
spec::Spec arranged(spec::Spec spec, const Pools& pools) {
  int found = 0;
  for (spec::Tensor& pool : spec.pools) {
    const auto dim = [&](std::string_view name) {
      return std::find_if(pool.dims.begin(), pool.dims.end(), [&](const spec::Dim& one) { return *one.name == name; });
    };
    if (*pool.name == "state") {
      ++found;
      pool.dtype.value = pools.state;
      const auto key = dim("key_dim"), value = dim("value_dim");
      REQUIRE(key != pool.dims.end());
      REQUIRE(value != pool.dims.end());
      if ((value < key) != pools.keys_innermost) std::iter_swap(key, value);
    } else if (pool.name->rfind("conv_state", 0) == 0) {
      ++found;
      const auto tap = dim("tap");
      REQUIRE(tap != pool.dims.end());
      const spec::Dim moved = *tap;
      pool.dims.erase(tap);
      pool.dims.insert(pools.taps_innermost ? pool.dims.end() : pool.dims.begin() + 1, moved);
    }
  }
  REQUIRE(found >= 2);
  if (pools.state != core::DType::kFp32) {
    spec.rounding.state_stochastic.value = false;
    spec.rounding.state_stochastic.place = spec.rounding.norm.place;
  }
  return spec;
}

std::vector<std::pair<const char*, std::string_view>> kernels_with_tiles(const spec::Spec& spec) {
  auto kernels = test::kernels_of(spec);
  for (const std::string_view operation : plan::operations_on(layout::resolve(spec), *plan::find_target("amx"))) {
    kernels.emplace_back("amx", operation);
  }
  return kernels;
}

// Two launches of each kernel, the second one from what the first one left; the number of kernels.
int check(const spec::Spec& spec, const std::string& what) {
  int count = 0;
  for (const auto& [target, operation] : kernels_with_tiles(spec)) {
    const core::KernelPlan plan = test::plan_of(spec, operation, target);
    oracle::Options options;
    options.rows = 2;
    options.products = core::DType::kBf16;
    if (plan::prefills(operation)) options.lengths = {3, 66};
    oracle::Problem problem = oracle::make_problem(spec, operation, options);
    test::check_steps(plan, problem, 2, what + ", " + std::string(operation) + " on " + target);
    ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("every operation by every order and type of its pools, at the fuzz geometry") {
  if (!test::runs_here()) return;
  int kernels = 0;
  for (const char* name : {"fuzz_gdn", "fuzz_kda", "fuzz_snapshots", "fuzz_quant_head", "fuzz_spec_slots",
                           "fuzz_spec_intermediate", "fuzz_spec_replay", "fuzz_spec_kda"}) {
    const spec::Spec spec = spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml");
    for (const Pools& pools : all_pools()) kernels += check(arranged(spec, pools), name + (" " + pools.text()));
  }
  CHECK(kernels >= 12 * 8 * 3 * 2);
}

// With two value heads or so: what a head's kernel does is the same for each of them.
TEST_CASE("every operation by every order and type of its pools, with heads of released models") {
  if (!test::runs_here()) return;
  for (const auto& [name, group] : {std::pair{"qwen3_next_80b", 2}, std::pair{"kimi_linear_48b", 1}}) {
    spec::Spec spec = spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/specs/" + name + ".yaml");
    REQUIRE(*spec.heads.value == *spec.heads.key * group);
    spec.heads.key.value = 2;
    spec.heads.value.value = 2 * group;
    for (const Pools& pools : all_pools()) check(arranged(spec, pools), name + (" " + pools.text()));
  }
}
