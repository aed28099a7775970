// Whole sequences in chunks against the oracle: every spec, by tiles (emulated where there are none) and without.
#include <algorithm>
#include <memory>

#include "harness.h"
#include "support/amx_emulator.h"
#include "support/catch.h"

using namespace gdn;

namespace {

constexpr const char* kTargets[] = {"avx512bf16", "amx"};

// Launches of a problem, each from the states that the one before left.
void check(const std::string& file, const char* target, const oracle::Options& options, int steps) {
  const spec::Spec spec = spec::load_or_throw(file);
  const core::KernelPlan plan = test::plan_of(spec, "chunk_delta", target);
  const cpu::Kernel kernel = cpu::generate(plan);
  oracle::Problem problem = oracle::make_problem(spec, "chunk_delta", options);
  std::unique_ptr<test::AmxEmulator> emulator;
  if (!cpu::cpu_supports(target)) emulator = std::make_unique<test::AmxEmulator>();
  for (int step = 0; step < steps; ++step) {
    if (step > 0) problem.next_step();
    const oracle::Expectation expectation = oracle::expect(problem);
    const Args args = test::args_of(problem, plan);
    const auto launch = [&] { test::call(kernel, args, 0, test::items_of(args, plan)); };
    if (emulator != nullptr) {
      emulator->run(launch);
    } else {
      launch();
    }
    const auto deviations = oracle::compare(expectation, problem);
    INFO(file << " " << target << " step " << step << "\n" << oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));
  }
}

bool prefills(const std::string& file) {
  const spec::Spec spec = spec::load_or_throw(file);
  const auto operations = plan::operations_on(layout::resolve(spec), *plan::find_target("amx"));
  return std::find(operations.begin(), operations.end(), "chunk_delta") != operations.end();
}

}  // namespace

TEST_CASE("every spec's chunk_delta agrees with the oracle, the next launch continuing from its states") {
  if (!test::runs_here()) return;
  int specs = 0;
  for (const std::string& file : test::all_specs()) {
    if (!prefills(file)) continue;
    ++specs;
    const bool fuzz = file.find("/fuzz/") != std::string::npos;
    for (const char* target : kTargets) {
      oracle::Options options;
      options.lengths = fuzz ? std::vector<int>{70, 0, 3, 64} : std::vector<int>{66};  // true sizes take their time
      options.rows = static_cast<int>(options.lengths.size());
      check(file, target, options, fuzz ? 2 : 1);
    }
  }
  CHECK(specs >= 18);
}

TEST_CASE("tails of every kind, and strides") {
  if (!test::runs_here()) return;
  const std::string folder = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/";
  for (const char* name : {"fuzz_gdn", "fuzz_separate_tiled_vk_bf16_bf16", "fuzz_interleaved_tiled_kv_fp16_fp32"}) {
    for (const char* target : kTargets) {
      oracle::Options options;
      options.seed = 5;
      options.extra_stride = 5;
      options.lengths = {133, 1, 64, 63, 65, 15, 17, 31, 33, 47, 49, 128, 3};
      options.rows = static_cast<int>(options.lengths.size());
      check(folder + name + ".yaml", target, options, 1);
    }
  }
}

TEST_CASE("correlated keys and mild decay over several chunks") {
  if (!test::runs_here()) return;
  oracle::Options options;
  options.keys = oracle::Keys::kCorrelated;
  options.strong_decay = false;
  options.lengths = {133};
  options.rows = 1;
  check(std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml", "avx512bf16", options, 1);
}
