// The layer's output as 8-bit numbers: every choice of output_quant through every operation that quantises, on every
// target, and a norm with a bias.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "harness.h"
#include "oracle/convert.h"
#include "oracle/quantise.h"
#include "support/amx_emulator.h"
#include "support/catch.h"
#include "support/laid_over.h"
#include "support/quant_choices.h"

using namespace gdn;

namespace {

const char* const kTargets[] = {"avx512bf16", "avx2", "amx"};

// One launch, by the emulator where the processor lacks the target.
void launch(const cpu::Kernel& kernel, const core::KernelPlan& plan, const Args& args, const char* target) {
  const auto run = [&] { test::call(kernel, args, 0, test::items_of(args, plan)); };
  if (cpu::cpu_supports(target)) {
    run();
  } else {
    test::AmxEmulator().run(run);
  }
}

void check(const spec::Spec& spec, std::string_view operation, const char* target, const oracle::Options& options,
           int steps) {
  const core::KernelPlan plan = test::plan_of(spec, operation, target);
  const cpu::Kernel kernel = cpu::generate(plan);
  oracle::Problem problem = oracle::make_problem(spec, operation, options);
  for (int step = 0; step < steps; ++step) {
    if (step > 0) problem.next_step();
    const oracle::Expectation expectation = oracle::expect(problem);
    const Args args = test::args_of(problem, plan);
    launch(kernel, plan, args, target);
    test::zero_excess(plan, args, problem);
    const auto deviations = oracle::compare(expectation, problem);
    INFO(operation << " on " << target << ", step " << step << "\n" << oracle::describe(deviations));
    CHECK(!deviations.empty());
    CHECK(oracle::all_good(deviations));
  }
}

// prefill's codes and scales are those of the output that it gives in fp32 where nothing quantises it.
void check_quantiser(const spec::Spec& spec, const char* fuzz_name, const char* target,
                     const oracle::Options& options) {
  const spec::Spec plain_spec =
      test::laid_over(fuzz_name, "outputs:\n  out: {dtype: fp32, dims: [token@launch, value_head, value_dim]}\n");
  oracle::Problem quantised = oracle::make_problem(spec, "prefill", options);
  oracle::Problem plain = oracle::make_problem(plain_spec, "prefill", options);
  for (oracle::Buffer& buffer : plain.buffers()) {  // gates are drawn otherwise where an output is quantised
    const oracle::Buffer& same = quantised.buffer(buffer.name);
    if (buffer.name != "out") std::memcpy(buffer.data(), same.data(), buffer.size_bytes());
  }
  const auto run = [&](const spec::Spec& of, oracle::Problem& problem) {
    const core::KernelPlan plan = test::plan_of(of, "prefill", target);
    launch(cpu::generate(plan), plan, test::args_of(problem, plan), target);
  };
  run(spec, quantised);
  run(plain_spec, plain);
  const oracle::Buffer &y = plain.buffer("out"), &codes = quantised.buffer("out"),
                       &scales = quantised.buffer("out_scale");
  const auto number = [](const oracle::Buffer& buffer, int row, std::int64_t i) {
    return oracle::load(buffer.dtype, buffer.data() + buffer.offset(row, i));
  };
  const int least = codes.dtype == core::DType::kE4m3fn ? -6 : -7;  // exponent of the smallest normal number
  const int group = layout::resolve(spec).numbers.quant_group;
  int wrong_scales = 0, wrong_codes = 0, checked = 0;
  for (const oracle::TokenRun& sequence : quantised.sequences()) {
    for (int row = sequence.first; row < sequence.first + sequence.tokens; ++row) {
      for (std::int64_t first = 0; first < codes.inner; first += group) {
        double amax = 0;
        const auto value = [&](std::int64_t i) {
          return sequence.padding ? 0 : oracle::round_to(*spec.output_quant.from, number(y, row, first + i));
        };
        for (std::int64_t i = 0; i < group; ++i) amax = std::max(amax, std::fabs(value(i)));
        const double scale = sequence.padding ? 0 : oracle::quantisation_scale(spec.output_quant, amax);
        wrong_scales += number(scales, row, first / group) == scale ? 0 : 1;
        for (std::int64_t i = 0; i < group; ++i) {
          const double exact = oracle::quantised(spec.output_quant, value(i), scale);
          const double code = number(codes, row, first + i);
          // Half a step, and what the reciprocal's and the product's roundings add.
          const double step = std::ldexp(1, std::max(std::ilogb(std::max(std::fabs(exact), 1e-30)), least) - 3);
          wrong_codes += std::fabs(code - exact) <= step / 2 + 1e-6 * std::fabs(exact) ? 0 : 1;
          ++checked;
        }
      }
    }
  }
  INFO("prefill on " << target);
  CHECK(checked > 90 * codes.inner / 2);
  CHECK(wrong_scales == 0);
  CHECK(wrong_codes == 0);
}

bool straddles(const spec::Spec& spec) {
  const core::Facts facts = layout::resolve(spec).numbers;
  return facts.value_dim % facts.quant_group != 0;
}

}  // namespace

TEST_CASE("every choice of output_quant by norm_quant, silent and nearly silent groups included") {
  if (!test::runs_here()) return;
  for (const test::QuantChoice& choice : test::kQuantChoices) {
    const spec::Spec spec = test::laid_over(choice.spec, test::text_of(choice));
    for (const char* const target : kTargets) {
      const core::KernelPlan plan = test::plan_of(spec, "norm_quant", target);
      const cpu::Kernel kernel = cpu::generate(plan);
      oracle::Options options;
      options.rows = 5;
      options.extra_stride = 64;
      options.excess_rows = 1;
      oracle::Problem problem = oracle::make_problem(spec, "norm_quant", options);
      test::hush_rows(problem);
      const oracle::Expectation expectation = oracle::expect(problem);
      launch(kernel, plan, test::args_of(problem, plan), target);
      const auto deviations = oracle::compare(expectation, problem);
      INFO(target << "\n" << test::text_of(choice) << oracle::describe(deviations));
      CHECK(oracle::all_good(deviations));
      test::check_scales(problem, expectation, choice);
    }
  }
}

TEST_CASE("every choice of output_quant by decode and prefill, rows of padding included") {
  if (!test::runs_here()) return;
  int refused = 0;
  for (const test::QuantChoice& choice : test::kQuantChoices) {
    const spec::Spec spec = test::laid_over(choice.spec, test::text_of(choice));
    INFO(choice.spec << "\n" << test::text_of(choice));
    for (const char* const target : kTargets) {
      if (straddles(spec)) {
        for (const char* operation : {"decode", "prefill"}) {
          CHECK_THROWS_WITH(test::plan_of(spec, operation, target),
                            Catch::Contains("does not divide a value head of 48 channels") &&
                                Catch::Contains("quantise it with norm_quant"));
        }
        ++refused;
        continue;
      }
      oracle::Options options;
      options.rows = 4;
      options.padding_rows = 1;
      options.extra_stride = 32;
      options.excess_rows = 1;
      check(spec, "decode", target, options, 2);
      options.lengths = {3, 70, 0, 17};
      check_quantiser(spec, choice.spec, target, options);
      // What products round leads scales that are powers of two across one now and then, and codes then count double.
      if (!*spec.output_quant.power_of_two) check(spec, "prefill", target, options, 1);
    }
  }
  CHECK(refused == 9);
}

TEST_CASE("groups that are no whole vectors, and their neighbours' bytes") {
  if (!test::runs_here()) return;
  for (const char* group : {"24", "8", "3", "1", "36", "72"}) {
    for (const char* dims : {test::kByToken, test::kByGroup}) {
      const test::QuantChoice choice = {"fuzz_gdn", "e4m3fn", 448,      group, "floor_at: scale, floor: 1e-10",
                                        "fp32",     "bf16",   "divide", dims};
      const spec::Spec spec = test::laid_over("fuzz_gdn", test::text_of(choice));
      for (const char* const target : {"avx512bf16", "avx2"}) {
        INFO("group " << group << " " << dims);
        oracle::Options options;
        options.rows = 3;
        options.extra_stride = 7;
        options.excess_rows = 1;
        check(spec, "norm_quant", target, options, 1);
        if (!straddles(spec)) check(spec, "decode", target, options, 2);
      }
    }
  }
}

TEST_CASE("drafts with an output of 8 bits, padding and mistakes among them") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_spec_slots", "fuzz_spec_replay_kv"}) {
    test::QuantChoice choice = test::kQuantChoices[1];
    choice.group = "16";
    const spec::Spec spec = test::laid_over(name, test::text_of(choice));
    for (const char* const target : {"avx512bf16", "avx2"}) {
      INFO(name);
      oracle::Options options;
      options.rows = 4;
      options.excess_rows = 1;
      check(spec, "decode_spec", target, options, 3);
    }
  }
}

TEST_CASE("a norm with a bias, plain and gated on either side, by every operation that has a norm") {
  if (!test::runs_here()) return;
  spec::Spec spec = test::laid_over("fuzz_gdn", "parameters:\n  norm_bias: {dtype: fp32, dims: [value_dim]}\n");
  for (const bool norm_before_gate : {true, false}) {
    spec.out_norm.norm_before_gate.value = norm_before_gate;
    for (const char* const target : kTargets) {
      INFO(norm_before_gate);
      oracle::Options options;
      options.rows = 3;
      for (const char* operation : {"decode", "norm_quant"}) check(spec, operation, target, options, 2);
      options.lengths = {65, 1};
      check(spec, "prefill", target, options, 1);
    }
  }
}
