// What must hold of speculative decoding wherever it runs: drafts that are rejected leave no trace. Included by one
// source of a test, which says where.
#pragma once

#include <cmath>

#include "oracle/compare.h"
#include "oracle/reference.h"
#include "support/rollback.h"
#include "support/rollback_specs.h"
#include "support/thrown.h"

namespace gdn::test {

// Where the cases below run. Null, having said why, where they can't.
std::unique_ptr<verify::Executor> rollback_executor();

}  // namespace gdn::test

using namespace gdn;

TEST_CASE("any accepted count and draft length, mixed in one batch, is plain decoding to the bit (group 3)") {
  const auto executor = test::rollback_executor();
  if (executor == nullptr) return;
  for (const spec::Spec& spec : test::rollback_specs()) {
    INFO(*spec.name);
    REQUIRE(*spec.heads.value / *spec.heads.key == 3);
    for (const std::uint64_t seed : {1u, 2u}) {
      test::Rollback rollback(*executor, spec, seed);
      rollback.random_launches(6);
      CHECK(rollback.compared_states() > 8);
      CHECK(rollback.compared_outputs() > 8);
      CHECK(rollback.differing_outputs() == 0);
    }
  }
}

// xllm#2247 capped the counter of accepted tokens at width - 1, the inputs that a window had before it had drafts.
TEST_CASE("more accepted tokens than the convolution looks back at") {
  const auto executor = test::rollback_executor();
  if (executor == nullptr) return;
  const spec::Spec spec = test::with_fp32_states("fuzz_spec_replay");
  REQUIRE(*spec.speculative.tokens > *spec.conv.width);
  test::Rollback rollback(*executor, spec, 3);
  rollback.launch({8, 8, 8, 8, 8}, {0, 0, 0, 0, 0});
  rollback.launch({8, 8, 1, 8, 5}, {8, 7, 6, 5, 4});
  rollback.settle({8, 4, 1, 5, 5});
  CHECK(rollback.differing_outputs() == 0);
}

// vllm#39273: a step without drafts after one that accepted all of its tokens read column 0, and the state stood in the
// last one.
TEST_CASE("no drafts after a launch whose last token was accepted") {
  const auto executor = test::rollback_executor();
  if (executor == nullptr) return;
  for (const char* name : {"fuzz_spec_slots", "fuzz_spec_replay"}) {
    INFO(name);
    const spec::Spec spec = test::with_fp32_states(name);
    const int most = *spec.speculative.tokens;
    test::Rollback rollback(*executor, spec, 4);
    rollback.launch(std::vector<int>(5, most), std::vector<int>(5, 0));
    rollback.launch(std::vector<int>(5, 1), std::vector<int>(5, most));
    rollback.launch(std::vector<int>(5, 1), std::vector<int>(5, 1));
    rollback.settle(std::vector<int>(5, 1));
    CHECK(rollback.differing_outputs() == 0);
  }
}

// vllm#40756, #48475, #50021: a count of 0 became an index of -1.
TEST_CASE("accepted = 0 starts from where the sequence stands, never from an index of -1") {
  const auto executor = test::rollback_executor();
  if (executor == nullptr) return;
  for (const char* name : {"fuzz_spec_slots", "fuzz_spec_slots_kv", "fuzz_spec_replay", "fuzz_spec_replay_kv"}) {
    const spec::Spec spec = test::load_spec(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml");
    INFO(name);
    const layout::Layout layout = layout::resolve(spec);
    const auto kernel = executor->load(plan::make(layout, "decode_spec", executor->target()));
    oracle::Problem problem = oracle::make_problem(spec, "decode_spec", {});
    problem.arrange({1, 2, 3, 2}, {0, 0, 0, 0});
    for (const double stale : {0.0, -1.0, -7.0}) {
      oracle::Problem again = problem;
      oracle::Buffer& accepted = again.buffer("accepted");
      for (int i = 0; i < 4; ++i) oracle::store(accepted.dtype, accepted.row(i), stale);
      // What is expected is worked out from the problem's own numbers: that no token was accepted.
      const bool drafts = *spec.speculative.counts == core::Counts::kDrafts;
      const oracle::Expectation expectation = oracle::expect(again);
      if (drafts && stale == 0.0) continue;  // one token
      kernel->run(again, verify::views_of(again, layout));
      const auto deviations = oracle::compare(expectation, again);
      INFO(stale << "\n" << oracle::describe(deviations));
      CHECK(oracle::all_good(deviations));
    }
  }
}

// A peer's kernel went from token to token by value heads where the gates have value heads and channels.
TEST_CASE("multi-token gates of kda advance by head and channel, and by head alone is noticed") {
  const auto executor = test::rollback_executor();
  if (executor == nullptr) return;
  for (const char* name : {"fuzz_spec_kda", "fuzz_spec_kda_kv"}) {
    INFO(name);
    const spec::Spec spec = test::fuzz(name);
    const layout::Layout layout = layout::resolve(spec);
    const auto kernel = executor->load(plan::make(layout, "decode_spec", executor->target()));
    oracle::Problem problem = oracle::make_problem(spec, "decode_spec", {});
    problem.arrange({3, 2, 3, 1}, {0, 1, 2, 3});
    const oracle::Expectation expectation = oracle::expect(problem);
    oracle::Problem right = problem;
    kernel->run(right, verify::views_of(right, layout));
    const auto deviations = oracle::compare(expectation, right);
    INFO(oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));

    // What that kernel would have read as the gates of the later tokens.
    oracle::Buffer& gates = problem.buffer("a");
    const std::size_t heads = static_cast<std::size_t>(*spec.heads.value) * core::size_of(gates.dtype);
    const std::size_t row = static_cast<std::size_t>(gates.inner) * core::size_of(gates.dtype);
    for (const oracle::TokenRun& sequence : problem.sequences()) {
      std::vector<std::byte> all(static_cast<std::size_t>(sequence.tokens) * row);
      for (int t = 0; t < sequence.tokens; ++t) {
        std::memcpy(all.data() + static_cast<std::size_t>(t) * row, gates.row(sequence.first + t), row);
      }
      for (int t = 1; t < sequence.tokens; ++t) {
        std::memcpy(gates.row(sequence.first + t), all.data() + static_cast<std::size_t>(t) * heads, row);
      }
    }
    kernel->run(problem, verify::views_of(problem, layout));
    bool noticed = false;
    for (const oracle::Deviation& deviation : oracle::compare(expectation, problem)) {
      if (deviation.name == "out") noticed = deviation.error > 10 * deviation.tolerance;
    }
    CHECK(noticed);
  }
}

TEST_CASE("columns of slots in the wrong order are noticed") {
  const auto executor = test::rollback_executor();
  if (executor == nullptr) return;
  const spec::Spec spec = test::fuzz("fuzz_spec_slots");
  const layout::Layout layout = layout::resolve(spec);
  const auto kernel = executor->load(plan::make(layout, "decode_spec", executor->target()));
  oracle::Problem problem = oracle::make_problem(spec, "decode_spec", {});
  problem.arrange({4, 4, 3, 4}, {2, 4, 1, 3});
  const oracle::Expectation expectation = oracle::expect(problem);
  oracle::Buffer& slots = problem.buffer("slots");
  const int last = *spec.speculative.tokens - 1;
  for (int i = 0; i < 4; ++i) {
    const auto at = [&](int step) { return slots.row(i) + static_cast<std::size_t>(step) * 4; };
    std::int32_t first = 0, second = 0;
    std::memcpy(&first, at(1), 4);
    std::memcpy(&second, at(last), 4);
    std::memcpy(at(1), &second, 4);
    std::memcpy(at(last), &first, 4);
  }
  kernel->run(problem, verify::views_of(problem, layout));
  // The slots themselves differ from what they were when the expectation was made; states must differ too.
  bool states_differ = false;
  for (const oracle::Deviation& deviation : oracle::compare(expectation, problem)) {
    states_differ = states_differ || (deviation.name == "state" && !deviation.good());
  }
  CHECK(states_differ);
}

TEST_CASE("what a caller counts wrongly is refused before a launch, and never touches a state") {
  const auto executor = test::rollback_executor();
  if (executor == nullptr) return;
  const spec::Spec spec = test::fuzz("fuzz_spec_replay");
  const layout::Layout layout = layout::resolve(spec);
  const auto kernel = executor->load(plan::make(layout, "decode_spec", executor->target()));
  oracle::Problem good = oracle::make_problem(spec, "decode_spec", {});
  good.arrange({2, 3, 2, 2}, {0, 0, 0, 0});
  kernel->run(good, verify::views_of(good, layout));

  struct Bad {
    const char* what;
    const char* operand;
    int at, value;
    const char* says;
    bool computed;  // by the kernel, which does not see this mistake
  };
  const std::vector<Bad> table = {
      {"more accepted than there were", "accepted", 0, 3, "accepted 3 tokens, and slot", false},
      {"more accepted than a launch has", "accepted", 1, 9,
       "accepted 9 tokens (accepted = 9), and a launch has at most 8", false},
      {"offsets that descend", "cu_seqlens", 2, 1, "sequence 1 has rows 2 to before 1", false},
      {"offsets behind the rows", "cu_seqlens", 4, 99, "sequence 3 has rows 7 to before 99", false},
      {"a slot beyond the pools", "slots", 2, 1000, "sequence 2 has slot 1000", false},
      {"one slot twice", "slots", 2, -2, "both write slot", true},
  };
  for (const Bad& bad : table) {
    INFO(bad.what);
    oracle::Problem problem = good;
    oracle::Buffer& buffer = problem.buffer(bad.operand);
    const double value = bad.value == -2 ? oracle::load(buffer.dtype, buffer.row(0)) : bad.value;
    oracle::store(buffer.dtype, buffer.row(bad.at), value);
    const auto thrown = test::thrown_by([&] { kernel->run(problem, verify::views_of(problem, layout)); });
    INFO(thrown.text);
    REQUIRE(thrown.code);
    CHECK(thrown.has(bad.says));
    if (bad.computed) continue;
    // On a GPU nobody looks: the kernel leaves the sequence's state alone and says NaN in its rows.
    const oracle::Problem before = problem;
    kernel->run_unchecked(problem, verify::views_of(problem, layout));
    const std::size_t i = static_cast<std::size_t>(std::min(bad.at, 3));
    const std::size_t mistaken = bad.says[0] == 's' ? static_cast<std::size_t>(bad.says[9] - '0') : i;
    const oracle::TokenRun& sequence = good.sequences()[mistaken];
    const oracle::Buffer& state = problem.buffer("state");
    const std::int64_t slot = sequence.slots[0];
    CHECK(std::memcmp(state.row(slot), before.buffer("state").row(slot),
                      static_cast<std::size_t>(state.inner) * core::size_of(state.dtype)) == 0);
    if (std::string(bad.operand) == "cu_seqlens") continue;  // whose rows they are is the question
    const oracle::Buffer& out = problem.buffer("out");
    CHECK(std::isnan(oracle::load(out.dtype, out.row(sequence.first))));
  }
}

TEST_CASE("a commit of more tokens than there were leaves state and window alone") {
  const auto executor = test::rollback_executor();
  if (executor == nullptr) return;
  for (const char* name : {"fuzz_spec_replay", "fuzz_spec_replay_kv", "fuzz_spec_kda"}) {
    INFO(name);
    const spec::Spec spec = test::fuzz(name);
    const layout::Layout layout = layout::resolve(spec);
    test::Bench drafts(*executor, spec, "decode_spec", {});
    drafts.problem.arrange({2, 3, 2, 2}, {0, 0, 0, 0});
    drafts.run();
    test::Bench commit(*executor, spec, "state_commit", {});
    commit.problem.arrange({1, 1, 1, 1}, {3, 3, 2, 0});
    test::Rollback::copy_pools(drafts.problem, commit.problem);
    const oracle::Problem before = commit.problem;
    commit.kernel->run_unchecked(commit.problem, verify::views_of(commit.problem, layout));
    for (const oracle::Buffer& buffer : commit.problem.buffers()) {
      if (buffer.kind != oracle::Kind::kPool) continue;
      const auto touched = [&](std::size_t i) {
        const std::int64_t slot = commit.problem.sequences()[i].slots[0];
        return std::memcmp(buffer.row(slot), before.buffer(buffer.name).row(slot),
                           static_cast<std::size_t>(buffer.inner) * core::size_of(buffer.dtype)) != 0;
      };
      INFO(buffer.name);
      CHECK_FALSE(touched(0));
      const bool kept = buffer.name.find("record") == 0;
      for (const std::size_t i : {1u, 2u}) CHECK(touched(i) == !kept);
      CHECK_FALSE(touched(3));
    }
  }
}
