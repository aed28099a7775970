// Every choice of output_quant through the bodies: types and maxima, floors, powers of two, groups, where scales lie,
// what is rounded before, GDN and KDA; groups that are silent and nearly so, where the floors disagree.
#include <fmt/format.h>

#include "layout/resolve.h"
#include "oracle/compare.h"
#include "oracle/reference.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/laid_over.h"
#include "support/quant_choices.h"
#include "verify/verify.h"

using namespace gdn;

using test::kByToken;

TEST_CASE("every choice of output_quant, silent and nearly silent groups included") {
  const auto executor = verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET));
  for (const test::QuantChoice& choice : test::kQuantChoices) {
    const spec::Spec spec = test::laid_over(choice.spec, test::text_of(choice));
    const layout::Layout layout = layout::resolve(spec);
    INFO(choice.spec << "\n" << test::text_of(choice));
    if (48 % layout.numbers.quant_group != 0) {
      // Groups that straddle heads: another block computes a part of them.
      CHECK_THROWS_WITH(
          plan::make(layout, "decode", executor->target()),
          Catch::Contains(fmt::format("output_quant.group = {} does not divide a value head of 48 channels",
                                      layout.numbers.quant_group)));
    } else {
      verify::Options options;
      options.steps = 2;
      const verify::Result result = verify::verify(*executor, spec, layout, "decode", options);
      INFO(oracle::describe(result.deviations));
      CHECK(result.good);
    }
    const auto kernel = executor->load(plan::make(layout, "norm_quant", executor->target()));
    oracle::Options options;
    options.rows = 5;
    options.extra_stride = 64;
    options.excess_rows = 1;
    oracle::Problem problem = oracle::make_problem(spec, "norm_quant", options);
    test::hush_rows(problem);
    const oracle::Expectation expectation = oracle::expect(problem);
    kernel->run(problem, verify::views_of(problem, layout));
    const auto deviations = oracle::compare(expectation, problem);
    INFO(oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));
    test::check_scales(problem, expectation, choice);
  }
}

TEST_CASE("every way to launch decode with an output of 8 bits, value heads and channels split over a cluster") {
  const plan::Target& target = *plan::find_target(GDN_TEST_TARGET);
  const auto executor = verify::open_executor("simt", &target);
  for (const char* name : {"fuzz_quant_group", "fuzz_quant_head"}) {
    const spec::Spec spec = test::fuzz(name);
    const layout::Layout layout = layout::resolve(spec);
    int held = 0;
    for (const char* choices : {"threads=128 head_parts=3 row_parts=2", "threads=64 head_parts=1 row_parts=4",
                                "threads=128 head_parts=2 row_parts=1", "threads=256 head_parts=1 row_parts=1"}) {
      verify::Options options;
      options.rows = 3;
      options.tuning =
          plan::TuningTable::parse(fmt::format("gdn-gen tuning 3\n{} decode * * {}\n", target.name, choices));
      const plan::Choices made =
          options.tuning.find(target.name, "decode", *spec.name, core::Edge::kPlain).front().choices;
      const core::Facts facts = plan::make(layout, "decode", target).kernel.facts;
      if (!plan::choices_fault(target, "decode", facts, made).empty()) continue;
      ++held;
      const verify::Result result = verify::verify(*executor, spec, layout, "decode", options);
      INFO(name << " " << choices << "\n" << oracle::describe(result.deviations));
      CHECK(result.good);
    }
    CHECK(held >= (target.clusters ? 4 : 1));
  }
}

TEST_CASE("KDA with states of 8 bits, and with states rounded by chance, and an output of 8 bits beside them") {
  const auto executor = verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET));
  const std::string quantised = test::text_of(
      {"fuzz_kda", "e4m3fn", 448, "16", "floor_at: amax, floor: 1e-10", "fp32", "fp32", "reciprocal", kByToken});
  const char* const states[] = {
      "pools:\n  state: {dtype: e4m3fn, dims: [slot@launch, value_head, value_dim, key_dim]}\n"
      "  state_scale: {dtype: fp32, dims: [slot@launch, value_head, value_dim]}\n",
      "pools:\n  state: {dtype: bf16, dims: [slot@launch, value_head, key_dim, value_dim]}\nrounding: {state: "
      "stochastic}\n",
      "pools:\n  state: {dtype: fp16, dims: [slot@launch, value_head, value_dim, key_dim]}\nrounding: {state: "
      "stochastic}\n"};
  for (const char* state : states) {
    for (const bool with_output : {false, true}) {
      const spec::Spec spec = test::laid_over("fuzz_kda", state + (with_output ? quantised : std::string()));
      const layout::Layout layout = layout::resolve(spec);
      for (const char* operation : {"decode", "delta_update"}) {
        if (with_output && std::string_view(operation) != "decode") continue;
        verify::Options options;
        options.steps = 3;
        const verify::Result result = verify::verify(*executor, spec, layout, operation, options);
        INFO(state << operation << "\n" << oracle::describe(result.deviations));
        CHECK(!result.deviations.empty());
        CHECK(result.good);
      }
    }
  }
}
