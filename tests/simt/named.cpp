// Accidents of others that have a name, each as a test of its own.
#include <cmath>

#include "layout/resolve.h"
#include "oracle/compare.h"
#include "oracle/convert.h"
#include "oracle/reference.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/laid_over.h"
#include "verify/verify.h"

using namespace gdn;

namespace {

std::unique_ptr<verify::Executor> shim() { return verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET)); }

bool all_finite(const oracle::Buffer& buffer, int rows) {
  for (int row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < buffer.inner; ++i) {
      if (!std::isfinite(oracle::load(buffer.dtype, buffer.data() + buffer.offset(row, i)))) return false;
    }
  }
  return true;
}

}  // namespace

// vllm#54146: the state was fp32 and what was read out of it fp16, which overflowed before the norm made it small.
TEST_CASE("vllm_54146: a read-out beyond fp16 that rounding.o keeps in fp32 comes out of the norm as a number") {
  const auto executor = shim();
  for (const bool wide : {true, false}) {
    const std::string o = wide ? "fp32" : "fp16";
    const spec::Spec spec = test::laid_over(
        "fuzz_gdn", "rounding: {o: " + o + "}\nhandover:\n  o: {dtype: " + o +
                        ", dims: [token@launch, value_head, value_dim]}\n"
                        "outputs:\n  out: {dtype: fp16, dims: [token@launch, value_head, value_dim]}\n");
    const layout::Layout layout = layout::resolve(spec);
    const auto kernel = executor->load(plan::make(layout, "decode", executor->target()));
    oracle::Options options;
    options.rows = 3;
    oracle::Problem problem = oracle::make_problem(spec, "decode", options);
    oracle::Buffer& state = problem.buffer("state");
    for (std::int64_t slot = 0; slot < state.rows; ++slot) {
      for (std::int64_t i = 0; i < state.inner; ++i) {
        std::byte* const at = state.data() + state.offset(slot, i);
        oracle::store(state.dtype, at, oracle::load(state.dtype, at) * 1e8);
      }
    }
    const oracle::Expectation expectation = oracle::expect(problem);
    kernel->run(problem, verify::views_of(problem, layout));
    INFO((wide ? "rounding.o: fp32" : "rounding.o: fp16"));
    CHECK(all_finite(problem.buffer("out"), problem.rows()) == wide);
    if (!wide) continue;  // and what overflows is no number in the oracle either
    const auto deviations = oracle::compare(expectation, problem);
    INFO(oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));
  }
}

// A fused kernel was written for K = V = 128. OLMo-Hybrid has K = 96 and V = 192.
TEST_CASE("K = 96 with V = 192, in both orders of the state, alone and with drafts") {
  const auto executor = shim();
  const char* const states[] = {"fp32, dims: [slot@launch, value_head, value_dim, key_dim]",
                                "fp32, dims: [slot@launch, value_head, key_dim, value_dim]",
                                "bf16, dims: [slot@launch, value_head, key_dim, value_dim]"};
  for (const char* name : {"fuzz_gdn", "fuzz_spec_replay"}) {
    for (const std::string state : states) {
      spec::Spec spec = test::laid_over(name, "pools:\n  state: {dtype: " + state + "}\n" +
                                                  (state.find("bf16") == 0 ? "rounding: {state: nearest}\n" : ""));
      spec.dims.key.value = 96;
      spec.dims.value.value = 192;
      spec.qk_scale.q.value = std::pow(96.0, -0.5);
      spec.rounding.conv.value = core::DType::kFp32;  // no ties whose two sides the records would tell apart
      const layout::Layout layout = layout::resolve(spec);
      const char* const operation = std::string_view(name) == "fuzz_gdn" ? "decode" : "decode_spec";
      verify::Options options;
      options.steps = 2;
      const verify::Result result = verify::verify(*executor, spec, layout, operation, options);
      INFO(name << " " << state << "\n" << oracle::describe(result.deviations));
      CHECK(!result.deviations.empty());
      CHECK(result.good);
    }
  }
}

// Three value heads a key head: an order that is wrong for any other group may be right for a group of 1 or 2.
TEST_CASE("group 3, grouped and tiled: each is right, and neither is the other") {
  const auto executor = shim();
  const spec::Spec grouped = test::fuzz("fuzz_gdn");
  REQUIRE(*grouped.heads.value / *grouped.heads.key == 3);
  spec::Spec tiled = grouped;
  tiled.heads.pairing.value = core::Pairing::kTiled;
  const spec::Spec* const specs[] = {&grouped, &tiled};
  for (const spec::Spec* made_for : specs) {
    const layout::Layout layout = layout::resolve(*made_for);
    const auto kernel = executor->load(plan::make(layout, "decode", executor->target()));
    for (const spec::Spec* given : specs) {
      oracle::Problem problem = oracle::make_problem(*given, "decode", {});
      const oracle::Expectation expectation = oracle::expect(problem);
      kernel->run_unchecked(problem, verify::views_of(problem, layout::resolve(*given)));
      CHECK(oracle::all_good(oracle::compare(expectation, problem)) == (made_for == given));
    }
  }
}
