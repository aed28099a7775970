// States of 8 bits with a scale a value channel, and states of 16 bits rounded by chance.
#include <cstring>

#include "harness.h"
#include "oracle/convert.h"
#include "support/catch.h"
#include "support/draft_states.h"
#include "support/laid_over.h"
#include "support/quant_choices.h"
#include "verify/executor.h"

using namespace gdn;

namespace {

void check(const spec::Spec& spec, std::string_view operation, const char* target) {
  const core::KernelPlan plan = test::plan_of(spec, operation, target);
  const cpu::Kernel kernel = cpu::generate(plan);
  oracle::Options options;
  options.rows = 3;
  options.padding_rows = 1;
  options.extra_stride = 16;
  oracle::Problem problem = oracle::make_problem(spec, operation, options);
  for (int step = 0; step < 3; ++step) {
    if (step > 0) problem.next_step();
    const auto deviations = test::judge(kernel, plan, problem);
    INFO(operation << " on " << target << ", step " << step << "\n" << oracle::describe(deviations));
    CHECK(!deviations.empty());
    CHECK(oracle::all_good(deviations));
  }
}

// A problem whose every sum is exact in fp32 in whatever order, and whose new state no 16 bits hold.
oracle::Problem exact_problem(const spec::Spec& spec) {
  oracle::Options options;
  options.rows = 3;
  options.slots = 5;
  oracle::Problem problem = oracle::make_problem(spec, "delta_update", options);
  const auto fill = [&](const char* name, const auto& value) {
    oracle::Buffer& buffer = problem.buffer(name);
    for (std::int64_t row = 0; row < buffer.rows; ++row) {
      for (std::int64_t i = 0; i < buffer.inner; ++i) {
        oracle::store(buffer.dtype, buffer.data() + buffer.offset(row, i), value(row, i));
      }
    }
  };
  fill("handover.q", [](auto, auto i) { return i % 3 == 0 ? 0.125 : -0.25; });
  fill("handover.k", [](auto row, auto i) { return (i + row) % 2 == 0 ? 0.125 : -0.25; });
  fill("handover.v", [](auto row, auto i) { return static_cast<double>((37 * i + row) % 128 - 64) / 512; });
  fill("handover.g", [](auto, auto) { return 0.0; });
  fill("handover.beta", [](auto, auto) { return 1.0; });
  fill("state", [](auto row, auto i) { return static_cast<double>((29 * i + 7 * row) % 255 - 127) / 256; });
  const std::int64_t seed = 0x123456789abcdefLL;
  std::memcpy(problem.buffer("seed").data(), &seed, sizeof(seed));
  return problem;
}

}  // namespace

TEST_CASE("GDN and KDA with states of 8 bits and states rounded by chance, in every order") {
  if (!test::runs_here()) return;
  const char* const orders[] = {"value_head, value_dim, key_dim", "value_head, key_dim, value_dim",
                                "value_dim, value_head, key_dim", "key_dim, value_head, value_dim"};
  for (const char* name : {"fuzz_gdn", "fuzz_kda"}) {
    for (const char* order : orders) {
      for (const char* dtype : {"e4m3fn", "e4m3fnuz", "bf16", "fp16"}) {
        const spec::Spec spec = test::laid_over(name, test::state_pool(dtype, order, dtype[0] == 'e'));
        for (const char* target : {"avx512bf16", "avx2"}) {
          INFO(name << " " << dtype << " " << order);
          for (const char* operation : {"decode", "delta_update"}) check(spec, operation, target);
        }
      }
    }
  }
}

TEST_CASE("an 8-bit state of which no channel is innermost") {
  if (!test::runs_here()) return;
  for (const char* order : {"value_dim, key_dim, value_head", "key_dim, value_dim, value_head"}) {
    const spec::Spec spec = test::laid_over("fuzz_gdn", test::state_pool("e4m3fn", order, true));
    for (const char* target : {"avx512bf16", "avx2"}) check(spec, "decode", target);
  }
}

TEST_CASE("true sizes, an output of 8 bits beside the state") {
  if (!test::runs_here()) return;
  const test::QuantChoice choice = {"qwen3_next_80b", "e4m3fn", 448,      "head",        "floor_at: none",
                                    "fp32",           "fp32",   "divide", test::kByToken};
  spec::Spec spec = test::laid_over(
      "fuzz_gdn", test::state_pool("e4m3fn", "value_head, value_dim, key_dim", true) + test::text_of(choice));
  spec::Spec chance = test::laid_over("fuzz_gdn", test::state_pool("bf16", "value_head, key_dim, value_dim", false));
  for (spec::Spec* const each : {&spec, &chance}) {
    for (const int key_dim : {128, 256}) {
      each->dims.key.value = key_dim;
      each->dims.value.value = 384 - key_dim;
      for (const char* target : {"avx512bf16", "avx2"}) {
        INFO("K = " << key_dim);
        check(*each, "decode", target);
      }
    }
  }
}

TEST_CASE("several tokens with states of 8 bits and states rounded by chance, every way to roll back") {
  if (!test::runs_here()) return;
  for (const char* scheme : {"slots", "replay", "intermediate", "kda"}) {
    for (const char* order : {"value_head, value_dim, key_dim", "value_head, key_dim, value_dim"}) {
      for (const char* dtype : {"e4m3fn", "e4m3fnuz", "bf16", "fp16"}) {
        const spec::Spec spec = test::with_drafts(scheme, dtype, order);
        for (const char* target : {"avx512bf16", "avx2"}) {
          INFO(scheme << " " << dtype << " " << order);
          for (const char* operation : {"decode_spec", "state_commit"}) check(spec, operation, target);
        }
      }
    }
  }
}

TEST_CASE("a draft's first token rounds its state by chance as decode does, bit for bit") {
  if (!test::runs_here()) return;
  oracle::Options options;
  options.rows = 3;
  options.slots = 16;
  for (const char* dtype : {"bf16", "fp16"}) {
    for (const char* order : {"value_head, value_dim, key_dim", "value_head, key_dim, value_dim"}) {
      const spec::Spec spec = test::with_drafts("slots", dtype, order);
      const core::KernelPlan plan = test::plan_of(spec, "decode_spec"), plain_plan = test::plan_of(spec, "decode");
      oracle::Problem drafts = oracle::make_problem(spec, "decode_spec", options);
      drafts.arrange({1, 1, 1}, {0, 0, 0});
      oracle::Problem plain = test::decode_of(spec, drafts, options), other = plain;
      other.buffer("seed").data()[2] ^= std::byte{1};
      const auto run = [](const core::KernelPlan& of, oracle::Problem& problem) {
        const Args args = test::args_of(problem, of);
        test::call(cpu::generate(of), args, 0, test::items_of(args, of));
      };
      run(plan, drafts);
      run(plain_plan, plain);
      run(plain_plan, other);
      const oracle::Buffer& state = drafts.buffer("state");
      const auto same = [&](const oracle::Problem& problem) {
        return std::memcmp(state.data(), problem.buffer("state").data(), state.size_bytes()) == 0;
      };
      INFO(dtype << " " << order);
      CHECK(same(plain));
      CHECK_FALSE(same(other));
    }
  }
}

TEST_CASE("rounding by chance gives the bits that the GPU's bodies give") {
  if (!test::runs_here()) return;
  const auto shim = verify::open_executor("simt");
  for (const char* dtype : {"bf16", "fp16"}) {
    for (const char* order : {"value_head, value_dim, key_dim", "value_head, key_dim, value_dim"}) {
      spec::Spec spec = test::laid_over("fuzz_gdn", test::state_pool(dtype, order, false));
      spec.qk_norm.enabled.value = false;
      spec.qk_scale.q.value = spec.qk_scale.k.value = 1;
      const layout::Layout layout = layout::resolve(spec);
      const oracle::Problem fresh = exact_problem(spec);
      oracle::Problem wanted = fresh;
      shim->load(plan::make(layout, "delta_update", shim->target()))->run(wanted, verify::views_of(wanted, layout));
      const oracle::Buffer& want = wanted.buffer("state");
      const std::size_t bytes = want.size_bytes();
      REQUIRE(std::memcmp(want.data(), fresh.buffer("state").data(), bytes) != 0);
      for (const char* target : {"avx512bf16", "avx2"}) {
        const core::KernelPlan plan = test::plan_of(spec, "delta_update", target);
        const cpu::Kernel kernel = cpu::generate(plan);
        const auto run = [&](oracle::Problem& problem) {
          const Args args = test::args_of(problem, plan);
          test::call(kernel, args, 0, test::items_of(args, plan));
          return std::memcmp(want.data(), problem.buffer("state").data(), bytes) == 0;
        };
        INFO(dtype << " " << order << " " << target);
        oracle::Problem same = fresh, other = fresh;
        other.buffer("seed").data()[5] ^= std::byte{1};
        CHECK(run(same));
        CHECK_FALSE(run(other));
      }
    }
  }
}

TEST_CASE("what no kernel keeps in such a state says so, and what to do") {
  const std::string eight = test::state_pool("e4m3fn", "value_head, value_dim, key_dim", true);
  for (const char* operation : {"prefill", "chunk_delta"}) {
    CHECK_THROWS_WITH(
        test::plan_of(test::laid_over("fuzz_gdn", eight), operation),
        Catch::Contains("no kernel of whole sequences has an 8-bit state") && Catch::Contains("convert it for decode"));
  }
  const spec::Spec apart =
      test::laid_over("fuzz_gdn", test::state_pool("bf16", "value_dim, key_dim, value_head", false));
  CHECK_THROWS_WITH(test::plan_of(apart, "decode"),
                    Catch::Contains("rounding.state = stochastic") && Catch::Contains("put key_dim or value_dim last"));
}
