// prefill, the whole layer over sequences, held against itself and against decode: however a sequence is cut, the same
// comes out; and as many tile instructions as its chunks need.
#include <memory>

#include "harness.h"
#include "oracle/convert.h"
#include "support/amx_emulator.h"
#include "support/catch.h"
#include "support/rows.h"

using namespace gdn;
using test::copy_row;
using test::error_of;
using test::row_of;

namespace {

struct Launcher {
  Launcher(const spec::Spec& spec, std::string_view operation, const char* on = test::kCpuTarget)
      : target(on), plan(test::plan_of(spec, operation, on)), kernel(cpu::generate(plan)) {}

  void run(oracle::Problem& problem) const {
    const Args args = test::args_of(problem, plan);
    const auto launch = [&] { test::call(kernel, args, 0, test::items_of(args, plan)); };
    if (cpu::cpu_supports(target)) {
      launch();
    } else {
      test::AmxEmulator().run(launch);
    }
  }

  const char* target;
  core::KernelPlan plan;
  cpu::Kernel kernel;
};

spec::Spec fuzz(const std::string& name) {
  return spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml");
}

oracle::Problem sequences_of(const spec::Spec& spec, std::vector<int> lengths) {
  oracle::Options options;
  options.lengths = std::move(lengths);
  options.slots = 4;
  return oracle::make_problem(spec, "prefill", options);
}

// Every pool's row of one sequence, and every input's row of one token.
void copy_pools(const core::KernelPlan& plan, const oracle::Problem& from, std::int64_t from_slot, oracle::Problem& to,
                std::int64_t to_slot) {
  for (const core::Operand& operand : plan.operands) {
    if (operand.role == core::Role::kPool) {
      copy_row(from.buffer(operand.name), from_slot, to.buffer(operand.name), to_slot);
    }
  }
}

void copy_token(const core::KernelPlan& plan, const oracle::Problem& from, int from_row, oracle::Problem& to,
                int to_row) {
  for (const core::Operand& operand : plan.operands) {
    if (operand.role == core::Role::kInput && operand.leading == core::Leading::kToken) {
      copy_row(from.buffer(operand.name), from_row, to.buffer(operand.name), to_row);
    }
  }
}

std::vector<std::string> layers() { return {"fuzz_gdn", "fuzz_separate_tiled_kv_fp32_fp32", "fuzz_kda"}; }

// Of the specs, each by products of vectors and by tiles.
std::vector<std::pair<std::string, const char*>> on_targets(const std::vector<std::string>& names) {
  std::vector<std::pair<std::string, const char*>> all;
  for (const std::string& name : names) {
    for (const char* const target : {test::kCpuTarget, "amx"}) all.emplace_back(name, target);
  }
  return all;
}

}  // namespace

TEST_CASE("a sequence continued from its stored state is one long sequence") {
  if (!test::runs_here()) return;
  for (const auto& [name, target] : on_targets(layers())) {
    const spec::Spec spec = fuzz(name);
    const Launcher prefill(spec, "prefill", target);
    struct Cut {
      int first, second;
      double limit;  // 0: cut between chunks, every bit is the same where the state is kept in fp32
    };
    for (const Cut& cut : {Cut{64, 69, 0}, Cut{128, 1, 0}, Cut{1, 132, 8e-3}, Cut{2, 70, 8e-3}, Cut{19, 46, 8e-3}}) {
      oracle::Problem whole = sequences_of(spec, {cut.first + cut.second});
      oracle::Problem first = sequences_of(spec, {cut.first}), second = sequences_of(spec, {cut.second});
      REQUIRE(whole.sequences()[0].initial);
      REQUIRE(second.sequences()[0].initial);
      const std::int64_t slot = whole.sequences()[0].slot;
      for (int row = 0; row < cut.first; ++row) copy_token(prefill.plan, whole, row, first, row);
      copy_pools(prefill.plan, whole, slot, first, first.sequences()[0].slot);
      prefill.run(whole);
      prefill.run(first);
      copy_pools(prefill.plan, first, first.sequences()[0].slot, second, second.sequences()[0].slot);
      for (int row = 0; row < cut.second; ++row) copy_token(prefill.plan, whole, cut.first + row, second, row);
      prefill.run(second);
      std::vector<double> got, want;
      const auto append = [](std::vector<double>& to, const std::vector<double>& row) {
        to.insert(to.end(), row.begin(), row.end());
      };
      for (int row = 0; row < cut.second; ++row) {
        append(got, row_of(second.buffer("out"), row));
        append(want, row_of(whole.buffer("out"), cut.first + row));
      }
      INFO(name << " on " << target << ": " << cut.first << " tokens and " << cut.second);
      CHECK(error_of(got, want) <= cut.limit);
      for (const core::Operand& operand : prefill.plan.operands) {
        if (operand.role != core::Role::kPool) continue;
        const bool window = operand.name != "state";
        CHECK(error_of(row_of(second.buffer(operand.name), second.sequences()[0].slot),
                       row_of(whole.buffer(operand.name), slot)) <= (window ? 0 : cut.limit));
      }
    }
  }
}

TEST_CASE("prefill then decode is decode all the way") {
  if (!test::runs_here()) return;
  for (const auto& [name, target] : on_targets(layers())) {
    const spec::Spec spec = fuzz(name);
    const Launcher prefill(spec, "prefill", target), decode(spec, "decode");
    constexpr int kTokens = 70;
    oracle::Problem part = sequences_of(spec, {kTokens});
    oracle::Options one;
    one.rows = 1;
    oracle::Problem step = oracle::make_problem(spec, "decode", one), after = step;
    const std::int64_t from = part.sequences()[0].slot, to = step.row_slot(0);
    copy_pools(prefill.plan, part, from, step, to);
    const oracle::Problem tokens = sequences_of(spec, {kTokens + 1});
    for (int row = 0; row < kTokens; ++row) copy_token(prefill.plan, tokens, row, part, row);
    std::vector<double> all, separately;
    prefill.run(part);
    for (int row = 0; row <= kTokens; ++row) {
      copy_token(prefill.plan, tokens, row, step, 0);
      decode.run(step);
      if (row == kTokens) break;
      const std::vector<double> of_decode = row_of(step.buffer("out"), 0), of_prefill = row_of(part.buffer("out"), row);
      separately.insert(separately.end(), of_decode.begin(), of_decode.end());
      all.insert(all.end(), of_prefill.begin(), of_prefill.end());
    }
    copy_pools(prefill.plan, part, from, after, to);
    copy_token(prefill.plan, tokens, kTokens, after, 0);
    decode.run(after);
    INFO(name << " on " << target);
    CHECK(error_of(all, separately) < 1e-2);
    CHECK(error_of(row_of(after.buffer("out"), 0), row_of(step.buffer("out"), 0)) < 1e-2);
    for (const core::Operand& operand : prefill.plan.operands) {
      if (operand.role != core::Role::kPool) continue;
      const double error = error_of(row_of(after.buffer(operand.name), to), row_of(step.buffer(operand.name), to));
      CHECK(error <= (operand.name == "state" ? 6e-3 : 0));
    }
  }
}

TEST_CASE("a sequence continued from a snapshot is one long sequence") {
  if (!test::runs_here()) return;
  for (const auto& [name, target] : on_targets({"fuzz_snapshots", "fuzz_kda_snapshots"})) {
    const spec::Spec spec = fuzz(name);
    const Launcher prefill(spec, "prefill", target);
    for (const int first : {1, 2, 3, 40, 64, 65}) {
      constexpr int kSecond = 69;
      oracle::Options options;
      options.lengths = {first + kSecond};
      options.slots = 6;
      options.snapshots = {first - 1, first + 3};  // the second one is padding
      oracle::Problem whole = oracle::make_problem(spec, "prefill", options);
      options.lengths = {kSecond};
      options.snapshots = {0};
      oracle::Problem second = oracle::make_problem(spec, "prefill", options);
      REQUIRE(second.sequences()[0].initial);
      REQUIRE_FALSE(whole.snapshots()[0].padding);
      prefill.run(whole);
      const std::int64_t slot = second.sequences()[0].slot;
      copy_pools(prefill.plan, whole, whole.snapshots()[0].slot, second, slot);
      for (int row = 0; row < kSecond; ++row) copy_token(prefill.plan, whole, first + row, second, row);
      prefill.run(second);
      std::vector<double> got, want;
      for (int row = 0; row < kSecond; ++row) {
        const std::vector<double> one = row_of(second.buffer("out"), row);
        const std::vector<double> other = row_of(whole.buffer("out"), first + row);
        got.insert(got.end(), one.begin(), one.end());
        want.insert(want.end(), other.begin(), other.end());
      }
      INFO(name << " on " << target << ": behind token " << first - 1);
      CHECK(error_of(got, want) < 1e-2);
      for (const core::Operand& operand : prefill.plan.operands) {
        if (operand.role != core::Role::kPool || !*spec.prefill.final_states) continue;
        const double error = error_of(row_of(second.buffer(operand.name), slot),
                                      row_of(whole.buffer(operand.name), whole.sequences()[0].slot));
        CHECK(error <= (operand.name == "state" ? 6e-3 : 0));
      }
    }
  }
}

TEST_CASE("lengths around a chunk's end, each alone") {
  if (!test::runs_here()) return;
  const spec::Spec spec = fuzz("fuzz_gdn");
  const Launcher prefill(spec, "prefill");
  const int chunk = *spec.prefill.chunk;
  for (const int length : {1, 2, 31, 32, 33, chunk - 1, chunk, chunk + 1, 2 * chunk, 2 * chunk + 5}) {
    oracle::Problem problem = sequences_of(spec, {0, length, 0});
    for (int step = 0; step < 2; ++step) {
      if (step > 0) problem.next_step();
      const oracle::Expectation expectation = oracle::expect(problem);
      prefill.run(problem);
      const auto deviations = oracle::compare(expectation, problem);
      INFO(length << " tokens, step " << step << "\n" << oracle::describe(deviations));
      CHECK(oracle::all_good(deviations));
    }
  }
}

TEST_CASE("a layer's chunks take as many tile instructions as the delta rule's, one configuration a call") {
  if (!test::runs_here() || cpu::cpu_supports("amx")) return;
  // chunk.cpp counts them one by one: 1,344 products and 1,200 loads, 408 blocks zeroed and stored, of a key head
  // with two value heads of 128 x 128.
  const spec::Spec spec = spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml");
  const core::KernelPlan plan = test::plan_of(spec, "prefill", "amx");
  const cpu::Kernel kernel = cpu::generate(plan);
  oracle::Problem problem = sequences_of(spec, {128, 64});
  const Args args = test::args_of(problem, plan);
  test::AmxEmulator emulator;
  const auto count = [&](std::int64_t begin, std::int64_t end) {
    emulator.reset_counts();
    emulator.run([&] { test::call(kernel, args, begin, end); });
    return emulator.counts();
  };
  const std::int64_t key_heads = *spec.heads.key;
  for (const auto& [item, chunks] : {std::pair{std::int64_t{0}, 2u}, std::pair{key_heads, 1u}}) {
    const auto counts = count(item, item + 1);
    CHECK(counts.multiply == chunks * 1344);
    CHECK(counts.load == chunks * 1200);
    CHECK(counts.zero == chunks * 408);
    CHECK(counts.store == chunks * 408);
    CHECK(counts.configure == 1);
    CHECK(counts.release == 1);
  }
  CHECK(count(key_heads - 1, key_heads + 1).configure == 1);
  CHECK(count(3, 3).configure == 0);
}
