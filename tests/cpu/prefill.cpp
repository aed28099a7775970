// Operations over whole sequences against the oracle: every spec, by tiles (emulated where there are none) and without.
#include <algorithm>
#include <cstring>

#include "harness.h"
#include "oracle/convert.h"
#include "steps.h"
#include "support/catch.h"

using namespace gdn;

namespace {

constexpr const char* kTargets[] = {"avx512bf16", "amx", "avx2"};

// Sequences of these lengths.
oracle::Options of_lengths(std::vector<int> lengths) {
  oracle::Options options;
  options.rows = static_cast<int>(lengths.size());
  options.lengths = std::move(lengths);
  return options;
}

// Launches of a problem, each from the states that the one before left.
void check(const std::string& file, const std::string& operation, const char* target, const oracle::Options& options,
           int steps) {
  const spec::Spec spec = spec::load_or_throw(file);
  const core::KernelPlan plan = test::plan_of(spec, operation, target);
  oracle::Options of_bf16 = options;
  of_bf16.products = core::DType::kBf16;
  oracle::Problem problem = oracle::make_problem(spec, operation, of_bf16);
  test::check_steps(plan, problem, steps, file + " " + operation + " " + target);
}

// The operations over sequences that a target has for a spec.
std::vector<std::string> operations_of(const std::string& file, const char* target) {
  const spec::Spec spec = spec::load_or_throw(file);
  std::vector<std::string> names;
  for (const std::string_view name : plan::operations_on(layout::resolve(spec), *plan::find_target(target))) {
    if (plan::prefills(name)) names.emplace_back(name);
  }
  return names;
}

std::string fuzz_file(const std::string& name) { return std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml"; }

}  // namespace

TEST_CASE("every spec's operations over sequences agree with the oracle, the next launch continuing from its states") {
  if (!test::runs_here()) return;
  int checked = 0;
  for (const std::string& file : test::held_specs()) {
    const bool fuzz = file.find("/fuzz/") != std::string::npos;
    for (const char* target : kTargets) {
      for (const std::string& operation : operations_of(file, target)) {
        const std::vector<int> lengths =
            fuzz ? std::vector<int>{70, 0, 3, 64} : std::vector<int>{66};  // true sizes take their time
        check(file, operation, target, of_lengths(lengths), fuzz ? 2 : 1);
        ++checked;
      }
    }
  }
  CHECK(checked >= 85);
}

TEST_CASE("tails of every kind, and strides") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_gdn", "fuzz_separate_tiled_vk_bf16_bf16", "fuzz_interleaved_tiled_kv_fp16_fp32"}) {
    for (const char* target : kTargets) {
      for (const std::string& operation : operations_of(fuzz_file(name), target)) {
        oracle::Options options = of_lengths({133, 1, 64, 63, 65, 15, 17, 31, 33, 47, 49, 128, 3, 2, 0, 0});
        options.seed = 5;
        options.extra_stride = 5;
        check(fuzz_file(name), operation, target, options, 1);
      }
    }
  }
}

TEST_CASE("as near as promised, whatever the keys and the decay") {
  if (!test::runs_here()) return;
  struct Case {
    const char* file;
    std::vector<int> lengths;
    std::vector<const char*> targets;
  };
  // True sizes take the oracle its time, and tiles the emulator.
  const Case cases[] = {
      {"/tests/fuzz/fuzz_gdn.yaml", {133}, {"avx512bf16", "amx", "avx2"}},
      {"/tests/fuzz/fuzz_kda.yaml", {133}, {"avx512bf16", "amx", "avx2"}},
      {"/tests/fuzz/fuzz_kda_bounded.yaml", {133}, {"avx512bf16", "amx", "avx2"}},
      {"/tests/fuzz/fuzz_separate_grouped_kv_fp32_fp32.yaml", {133}, {"avx512bf16", "amx", "avx2"}},
      {"/tests/fuzz/fuzz_kda_wide.yaml", {133}, {"avx512bf16", "amx", "avx2"}},
      {"/specs/qwen3_next_80b.yaml", {133}, {"avx512bf16"}},
      {"/specs/kimi_linear_48b.yaml", {70}, {"avx512bf16"}},
      {"/specs/olmo_hybrid_7b.yaml", {133}, {"avx512bf16"}},
  };
  for (const Case& one : cases) {
    for (const auto keys : {oracle::Keys::kRandom, oracle::Keys::kCorrelated, oracle::Keys::kRepeated}) {
      for (const bool strong : {false, true}) {
        for (const char* target : one.targets) {
          oracle::Options options = of_lengths(one.lengths);
          options.keys = keys;
          options.strong_decay = strong;
          const std::string file = std::string(GDN_SOURCE_DIR) + one.file;
          for (const std::string& operation : operations_of(file, target)) check(file, operation, target, options, 1);
        }
      }
    }
  }
}

TEST_CASE("the comparison is fed q, k and v as the products take them") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_separate_grouped_kv_fp32_fp32", "fuzz_kda_wide"}) {
    const spec::Spec spec = spec::load_or_throw(fuzz_file(name));
    const core::KernelPlan plan = test::plan_of(spec, "chunk_delta");
    const cpu::Kernel kernel = cpu::generate(plan);
    const auto worst = [&](core::DType products) {
      oracle::Options options = of_lengths({70});
      options.products = products;
      oracle::Problem problem = oracle::make_problem(spec, "chunk_delta", options);
      double error = 0;
      for (const auto& deviation : test::judge(kernel, plan, problem)) error = std::max(error, deviation.error);
      return error;
    };
    INFO(name);
    CHECK(worst(core::DType::kBf16) < 0.9 * worst(core::DType::kFp32));
  }
}

// Windows of every kind: lengths around what a window holds, several launches on.
TEST_CASE("short sequences leave windows of old and new inputs") {
  if (!test::runs_here()) return;
  for (const std::string& file : test::held_specs()) {
    if (file.find("/fuzz/") == std::string::npos) continue;
    for (const std::string& operation : operations_of(file, test::kCpuTarget)) {
      if (operation == "chunk_delta") continue;
      oracle::Options options = of_lengths({1, 2, 3, 4, 5, 0, 1, 7, 8, 9});
      check(file, operation, test::kCpuTarget, options, 3);
    }
  }
}

namespace {

// A problem's launch with some operands left out.
oracle::Problem launched(const oracle::Problem& from, const core::KernelPlan& plan, const cpu::Kernel& kernel,
                         const std::vector<std::string_view>& left_out) {
  oracle::Problem problem = from;
  Args args = test::args_of(problem, plan);
  for (std::size_t i = 0; i < plan.operands.size(); ++i) {
    const std::string_view name = plan.operands[i].name;
    if (std::find(left_out.begin(), left_out.end(), name) != left_out.end()) args.operand[i] = nullptr;
  }
  test::call(kernel, args, 0, test::items_of(args, plan));
  return problem;
}

bool same(const oracle::Buffer& a, const oracle::Buffer& b) {
  return a.size_bytes() == b.size_bytes() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

std::vector<std::string_view> names_of(const core::KernelPlan& plan, bool pools) {
  std::vector<std::string_view> names;
  for (const core::Operand& operand : plan.operands) {
    if (pools ? operand.role == core::Role::kPool : operand.role == core::Role::kOutput) names.push_back(operand.name);
  }
  return names;
}

}  // namespace

TEST_CASE("pools, slots and flags may be left out") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_gdn", "fuzz_kda"}) {
    const spec::Spec spec = spec::load_or_throw(fuzz_file(name));
    for (const std::string& operation : operations_of(fuzz_file(name), test::kCpuTarget)) {
      const core::KernelPlan plan = test::plan_of(spec, operation);
      const cpu::Kernel kernel = cpu::generate(plan);
      oracle::Options options = of_lengths({20, 3, 2, 70});
      const oracle::Problem problem = oracle::make_problem(spec, operation, options);
      const auto pools = names_of(plan, true), outputs = names_of(plan, false);
      INFO(name << " " << operation);
      REQUIRE_FALSE(pools.empty());
      REQUIRE_FALSE(outputs.empty());

      // No pools: all sequences start from zeros and leave nothing, as without has_initial_state but for what is kept.
      std::vector<std::string_view> neither = pools;
      neither.push_back("slots");
      const oracle::Problem no_pools = launched(problem, plan, kernel, neither);
      const oracle::Problem no_flags = launched(problem, plan, kernel, {"has_initial_state"});
      for (const std::string_view output : outputs) {
        CHECK(same(no_pools.buffer(output), no_flags.buffer(output)));
        CHECK_FALSE(same(no_pools.buffer(output), problem.buffer(output)));
      }
      oracle::Problem none_set = problem;
      oracle::Buffer& flags = none_set.buffer("has_initial_state");
      std::memset(flags.data(), 0, flags.size_bytes());
      none_set = launched(none_set, plan, kernel, {});
      for (const std::string_view pool : pools) {
        CHECK(same(no_pools.buffer(pool), problem.buffer(pool)));
        CHECK_FALSE(same(no_flags.buffer(pool), problem.buffer(pool)));
        CHECK(same(no_flags.buffer(pool), none_set.buffer(pool)));
      }

      // One pool by itself: the others' sequences start and end as they would.
      for (const std::string_view pool : pools) {
        const oracle::Problem without = launched(problem, plan, kernel, {pool});
        CHECK(same(without.buffer(pool), problem.buffer(pool)));
      }

      // Null slots: sequence i has slot i.
      oracle::Problem numbered = problem;
      oracle::Buffer& slots = numbered.buffer("slots");
      for (int i = 0; i < 4; ++i) oracle::store(slots.dtype, slots.row(i), i);
      numbered = launched(numbered, plan, kernel, {});
      const oracle::Problem by_number = launched(problem, plan, kernel, {"slots"});
      for (std::size_t i = 0; i < plan.operands.size(); ++i) {
        if (plan.operands[i].name == "slots") continue;
        CHECK(same(numbered.buffers()[i], by_number.buffers()[i]));
      }
    }
  }
}

TEST_CASE("a sequence whose slot is -1 or outside of the pools touches no pool, and gets zeros") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_gdn", "fuzz_kda"}) {
    const spec::Spec spec = spec::load_or_throw(fuzz_file(name));
    for (const std::string& operation : operations_of(fuzz_file(name), test::kCpuTarget)) {
      const core::KernelPlan plan = test::plan_of(spec, operation);
      const cpu::Kernel kernel = cpu::generate(plan);
      oracle::Options options = of_lengths({5, 70, 9});
      const oracle::Problem problem = oracle::make_problem(spec, operation, options);
      const oracle::Problem whole = launched(problem, plan, kernel, {});
      for (const std::int64_t slot : {std::int64_t{-1}, std::int64_t{problem.slots()}, std::int64_t{1} << 30}) {
        oracle::Problem padded = problem;
        oracle::store(padded.buffer("slots").dtype, padded.buffer("slots").row(1), static_cast<double>(slot));
        padded = launched(padded, plan, kernel, {});
        INFO(name << " " << operation << ", slot " << slot);
        for (const std::string_view output : names_of(plan, false)) {
          const oracle::Buffer& got = padded.buffer(output);
          const auto bytes = static_cast<std::size_t>(got.inner) * core::size_of(got.dtype);
          const std::vector<std::byte> zeros(bytes);
          for (int row = 0; row < 84; ++row) {
            const bool of_padding = row >= 5 && row < 75;
            const std::byte* const want = of_padding ? zeros.data() : whole.buffer(output).row(row);
            CHECK(std::memcmp(got.row(row), want, bytes) == 0);
          }
        }
        for (const std::string_view pool : names_of(plan, true)) {
          const std::int64_t own = problem.sequences()[1].slot;
          const oracle::Buffer& got = padded.buffer(pool);
          const auto bytes = static_cast<std::size_t>(got.inner) * core::size_of(got.dtype);
          for (std::int64_t row = 0; row < got.rows; ++row) {
            const oracle::Problem& wanted = row == own ? problem : whole;
            CHECK(std::memcmp(got.row(row), wanted.buffer(pool).row(row), bytes) == 0);
          }
        }
      }
    }
  }
}
