// Several tokens of a sequence over states of 8 bits and states rounded by chance: what a launch stores is rounded as
// decode rounds it, and from token to token nothing is.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "layout/resolve.h"
#include "oracle/compare.h"
#include "oracle/convert.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/draft_states.h"
#include "support/rollback_specs.h"
#include "verify/executor.h"
#include "verify/verify.h"

using namespace gdn;

namespace {

const char* const kByRows = "value_head, value_dim, key_dim";
const char* const kByColumns = "value_head, key_dim, value_dim";

void check(verify::Executor& executor, const std::string& scheme, const char* dtype, const char* order) {
  const spec::Spec spec = test::with_drafts(scheme, dtype, order);
  const layout::Layout layout = layout::resolve(spec);
  for (const char* operation : {"decode_spec", "state_commit"}) {
    verify::Options options;
    options.rows = 4;
    options.steps = 3;
    const verify::Result result = verify::verify(executor, spec, layout, operation, options);
    INFO(operation << " of " << scheme << ", " << dtype << " " << order << "\n" << oracle::describe(result.deviations));
    CHECK(!result.deviations.empty());
    CHECK(result.good);
  }
}

std::unique_ptr<verify::Executor> executor_of(const char* target) {
  return verify::open_executor("simt", plan::find_target(target));
}

}  // namespace

TEST_CASE("several tokens with states of 8 bits agree with the oracle, every way to roll back") {
  const auto executor = executor_of("sm_90a");
  for (const char* scheme : {"slots", "replay", "intermediate", "kda"}) {
    check(*executor, scheme, "e4m3fn", kByRows);
    check(*executor, scheme, "e4m3fn", kByColumns);
  }
  const auto wide = executor_of("gfx942");
  check(*wide, "replay", "e4m3fnuz", kByRows);
  check(*wide, "slots", "e4m3fnuz", kByColumns);
}

TEST_CASE("several tokens with states rounded by chance agree with the oracle, every way to roll back") {
  const auto executor = executor_of("sm_90a");
  check(*executor, "slots", "bf16", kByRows);
  check(*executor, "slots", "fp16", kByColumns);
  check(*executor, "replay", "fp16", kByRows);
  check(*executor, "replay", "bf16", kByColumns);
  check(*executor, "intermediate", "bf16", kByRows);
  check(*executor, "intermediate", "fp16", kByColumns);
}

// Matrix products of warps, with as many tokens as a product has columns for and with fewer; V is no multiple of what
// all warps of a block have under way.
TEST_CASE("replay of bf16 states by products of warps agrees with the oracle, whole key heads and parts of them") {
  for (const char* target : {"sm_90a", "sm_80"}) {
    const auto executor = executor_of(target);
    for (const auto& [tokens, rounding] : {std::pair<int, const char*>{4, "nearest"}, {3, "stochastic"}}) {
      const spec::Spec spec = test::replay_of_bf16(tokens, rounding);
      const layout::Layout layout = layout::resolve(spec);
      for (const char* choices : {"threads=64 head_parts=1", "threads=128 head_parts=2"}) {
        verify::Options options;
        options.rows = 5;
        options.steps = 4;
        options.tuning = plan::TuningTable::parse(
            fmt::format("gdn-gen tuning 3\n{} decode_spec * * {} row_parts=1 products=1\n", target, choices));
        const plan::Choices made =
            options.tuning.find(target, "decode_spec", *spec.name, core::Edge::kPlain).front().choices;
        if (!executor->target().clusters && plan::choice_of(made, "head_parts", 1) > 1) continue;
        REQUIRE(plan::choice_of(plan::make(layout, "decode_spec", executor->target(), options.tuning).kernel.choices,
                                "products", 0) == 1);
        const verify::Result result = verify::verify(*executor, spec, layout, "decode_spec", options);
        INFO(target << " " << tokens << " " << choices << "\n" << oracle::describe(result.deviations));
        CHECK(!result.deviations.empty());
        CHECK(result.good);
      }
    }
  }
}

TEST_CASE("the model takes products of warps where a replay's rows of bf16 allow it, and says where they don't") {
  const auto choice = [](const spec::Spec& spec, const char* target) {
    const auto plan = plan::make(layout::resolve(spec), "decode_spec", *plan::find_target(target), {}).kernel;
    return plan::choice_of(plan.choices, "products", 0);
  };
  CHECK(choice(test::replay_of_bf16(4, "nearest"), "sm_90a") == 1);
  CHECK(choice(test::replay_of_bf16(4, "nearest"), "sm_120a") == 1);
  CHECK(choice(test::replay_of_bf16(4, "nearest"), "gfx942") == 0);
  CHECK(choice(test::replay_of_bf16(5, "nearest"), "sm_90a") == 0);
  CHECK(choice(test::with_fp32_states("fuzz_spec_replay"), "sm_90a") == 0);
  const core::Facts facts = layout::resolve(test::replay_of_bf16(5, "nearest")).numbers;
  CHECK(plan::choices_fault(*plan::find_target("sm_90a"), "decode_spec", facts, {{"threads", 64}, {"products", 1}}) ==
        "products = 1: a launch has more than 4 tokens");
}

TEST_CASE("a token that is no number leaves the ones before it alone where all are one product") {
  const auto executor = executor_of("sm_90a");
  const spec::Spec spec = test::replay_of_bf16(4, "nearest");
  const layout::Layout layout = layout::resolve(spec);
  const auto kernel = executor->load(plan::make(layout, "decode_spec", executor->target()));
  oracle::Problem clean = oracle::make_problem(spec, "decode_spec", {});
  clean.arrange({4, 4, 3, 4}, {2, 4, 0, 3});
  oracle::Problem spoiled = clean;
  oracle::Buffer& rows = spoiled.buffer("qkvz");
  const std::int64_t last = spoiled.sequences()[0].first + 2;  // the third token of the first sequence
  for (std::int64_t i = 0; i < rows.inner; ++i) {
    oracle::store(rows.dtype, rows.data() + rows.offset(last, i), std::nan(""));
  }
  kernel->run(clean, verify::views_of(clean, layout));
  kernel->run(spoiled, verify::views_of(spoiled, layout));
  const oracle::Buffer &want = clean.buffer("out"), &got = spoiled.buffer("out");
  for (std::int64_t row = 0; row < clean.rows(); ++row) {
    const bool same =
        std::memcmp(want.row(row), got.row(row), static_cast<std::size_t>(want.inner) * core::size_of(want.dtype)) == 0;
    INFO("row " << row);
    CHECK(same == (row < last || row > last + 1));
  }
  const oracle::Buffer &states = clean.buffer("state"), &others = spoiled.buffer("state");
  CHECK(std::memcmp(states.row(0), others.row(0), static_cast<std::size_t>(states.inner) * 2) == 0);
}

// Decode multiplies the sums of an 8-bit row by its scale, a draft the row: their scales differ by roundings of fp32.
TEST_CASE("a launch of one token stores decode's numbers, bit for bit where they are rounded by chance") {
  const auto executor = executor_of("sm_90a");
  oracle::Options options;
  options.rows = 3;
  options.slots = 16;
  for (const auto& [dtype, order] : {std::pair<const char*, const char*>{"bf16", kByRows},
                                     {"fp16", kByColumns},
                                     {"e4m3fn", kByRows},
                                     {"e4m3fn", kByColumns}}) {
    const spec::Spec spec = test::with_drafts("slots", dtype, order);
    const layout::Layout layout = layout::resolve(spec);
    oracle::Problem drafts = oracle::make_problem(spec, "decode_spec", options);
    drafts.arrange({1, 1, 1}, {0, 0, 0});
    oracle::Problem plain = test::decode_of(spec, drafts, options);
    const auto run = [&](const char* operation, oracle::Problem& problem) {
      executor->load(plan::make(layout, operation, executor->target()))
          ->run(problem, verify::views_of(problem, layout));
    };
    run("decode_spec", drafts);
    run("decode", plain);
    INFO(dtype << " " << order);
    const bool scaled = dtype[0] == 'e';
    for (const char* name : {"state", "state_scale"}) {
      if (!scaled && std::string(name) == "state_scale") continue;
      const oracle::Buffer& of_drafts = drafts.buffer(name);
      const oracle::Buffer& of_plain = plain.buffer(name);
      int differing = 0;
      double furthest = 0;
      for (const oracle::TokenRun& sequence : drafts.sequences()) {
        for (std::int64_t i = 0; i < of_plain.inner; ++i) {
          const double got = oracle::load(of_drafts.dtype, of_drafts.data() + of_drafts.offset(sequence.slots[0], i));
          const double want = oracle::load(of_plain.dtype, of_plain.data() + of_plain.offset(sequence.slots[0], i));
          differing += got != want ? 1 : 0;
          furthest = std::max(furthest, std::fabs(got - want) / std::max(std::fabs(want), 1e-30));
        }
      }
      INFO(name << ": " << differing << " differ");
      if (!scaled) CHECK(differing == 0);
      // A code at the middle of two may fall to either side.
      if (of_plain.dtype == core::DType::kE4m3fn) CHECK(differing <= of_plain.inner / 1000);
      if (scaled && of_plain.dtype == core::DType::kFp32) CHECK(furthest < 1e-6);
    }
  }
}
