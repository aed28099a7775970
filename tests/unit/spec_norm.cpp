// A layer whose kernels leave the output norm to whoever takes o: what a spec, a layout and a plan say of it.
#include <string>
#include <vector>

#include "core/prefill.h"
#include "layout/resolve.h"
#include "plan/operation.h"
#include "plan/plan.h"
#include "spec/spec_text.h"
#include "support/catch.h"
#include "support/norm_apart.h"
#include "support/specs.h"
#include "verify/bench.h"

using namespace gdn;

namespace {

std::string released_file(const std::string& name) { return std::string(GDN_SOURCE_DIR) + "/specs/" + name + ".yaml"; }

core::KernelPlan plan_of(const spec::Spec& spec, const char* operation, const char* target) {
  return plan::make(layout::resolve(spec), operation, *plan::find_target(target)).kernel;
}

std::vector<std::string> operands_of(const core::KernelPlan& plan) {
  std::vector<std::string> names;
  for (const core::Operand& operand : plan.operands) names.push_back(operand.name);
  return names;
}

std::vector<std::string> stages_of(const core::KernelPlan& plan) {
  std::vector<std::string> bodies;
  for (const core::Stage& stage : plan.stages) bodies.push_back(stage.body);
  return bodies;
}

}  // namespace

TEST_CASE("out_norm: none is read in short and in full, and written so that it reads back") {
  const spec::Spec spec = test::fuzz("fuzz_no_norm");
  CHECK_FALSE(*spec.out_norm.enabled);
  CHECK(spec.out_norm.eps.place.line == 0);
  const std::string text = spec::to_text(spec);
  CHECK(text.find("out_norm:\n  kind: none\noutput_quant:") != std::string::npos);
  CHECK(text.find("norm: fp32") == std::string::npos);
  const spec::Spec again = test::parse_spec("fuzz_no_norm.yaml", text);
  CHECK(spec::to_text(again) == text);
  CHECK(layout::identity(layout::resolve(again), layout::resolve(again).tensor("state")) ==
        layout::identity(layout::resolve(spec), layout::resolve(spec).tensor("state")));
}

TEST_CASE("an overlay takes the norm away, and with it what only the norm reads") {
  const spec::Spec next = test::without_norm(released_file("qwen3_next_80b"));
  CHECK(*next.name == "qwen3_next_80b_vllm_core");
  CHECK_FALSE(spec::find_tensor(next.parameters, "norm_weight"));
  CHECK_FALSE(spec::find_tensor(next.handover, "z"));
  CHECK(spec::find_tensor(next.inputs, "qkvz"));  // z keeps its place in the row
  const spec::Spec kimi = test::without_norm(released_file("kimi_linear_48b"));
  CHECK(spec::find_tensor(test::released("kimi_linear_48b").inputs, "z"));
  CHECK_FALSE(spec::find_tensor(kimi.inputs, "z"));
}

TEST_CASE("no operation reads z or the norm's weight, and norm_quant says why there is none") {
  for (const spec::Spec& spec : {test::without_norm(released_file("qwen3_next_80b")), test::fuzz("fuzz_no_norm"),
                                 test::fuzz("fuzz_kda_no_norm")}) {
    const layout::Layout layout = layout::resolve(spec);
    CHECK_FALSE(plan::has_norm(layout));
    CHECK(plan::why_not(layout, "norm_quant") == layout.spec + " says out_norm: none; norm_quant needs its keys");
    CHECK_THROWS_AS(plan_of(spec, "norm_quant", "sm_90a"), plan::Unplannable);
    for (const char* target : {"sm_90a", "gfx942", "avx512bf16"}) {
      for (const std::string_view operation : plan::operations_on(layout, *plan::find_target(target))) {
        CHECK(operation != "norm_quant");
        const core::KernelPlan plan = plan_of(spec, std::string(operation).c_str(), target);
        INFO(plan.symbol);
        for (const std::string& name : operands_of(plan)) {
          CHECK(name.find("norm_") == std::string::npos);
          CHECK(name != "handover.z");
          CHECK(name != "z");
        }
        CHECK_FALSE(plan.facts.in_z.present());
        CHECK_FALSE(plan.facts.out_z.present());
        CHECK_FALSE(plan.facts.norm_w.present());
      }
    }
  }
}

TEST_CASE("with and without the norm are two kernels") {
  const std::string file = released_file("qwen3_next_80b");
  for (const char* operation : {"decode", "prefill"}) {
    const core::KernelPlan with = plan_of(test::load_spec(file), operation, "sm_90a");
    const core::KernelPlan without = plan_of(test::without_norm(file), operation, "sm_90a");
    CHECK(with.identity.id != without.identity.id);
    CHECK(without.identity.text.find(" norm(none) ") != std::string::npos);
  }
}

TEST_CASE("the fewest bytes of a decode without a norm are less by z and the weight") {
  const std::string file = released_file("qwen3_next_80b");
  const core::KernelPlan with = plan_of(test::load_spec(file), "decode", "sm_90a");
  const core::KernelPlan without = plan_of(test::without_norm(file), "decode", "sm_90a");
  constexpr std::int64_t kRows = 16, kOfZ = 32 * 128 * 2, kOfWeight = 128 * 2;
  CHECK(verify::floor_bytes(with, kRows) - verify::floor_bytes(without, kRows) == kRows * kOfZ + kOfWeight);
}

TEST_CASE("prefill without a norm has no launch of it, and no rows of o in the workspace") {
  spec::Spec spec = test::without_norm(released_file("qwen3_next_80b"));
  for (const char* target : {"sm_90a", "sm_80"}) {
    const core::KernelPlan plan = plan_of(spec, "prefill", target);
    INFO(target);
    CHECK(core::prefill_set(plan) != core::PrefillSet::kNone);
    CHECK(core::rows_in_out(plan));
    CHECK(core::held_bytes(plan, 8192) == 0);
    CHECK(stages_of(plan) == std::vector<std::string>{"prefill_windows"});
  }
  CHECK(stages_of(plan_of(test::released("qwen3_next_80b"), "prefill", "sm_90a")) ==
        std::vector<std::string>{"prefill_windows", "prefill_norm"});
  spec.slots.excess_output.value = core::PaddedOutput::kZero;
  CHECK(stages_of(plan_of(spec, "prefill", "sm_90a")) == std::vector<std::string>{"prefill_windows", "prefill_excess"});
}

TEST_CASE("where out has no 16-byte pieces of 16 bits, prefill without a norm is the plain body") {
  const std::string file = test::fuzz_file("fuzz_no_norm");
  const spec::Spec turned = test::variant(file, "out: {dtype: bf16, dims: [token@launch, value_head, value_dim]}",
                                          "out: {dtype: bf16, dims: [token@launch, value_dim, value_head]}");
  CHECK(core::prefill_set(plan_of(turned, "prefill", "sm_90a")) == core::PrefillSet::kNone);
  CHECK(core::prefill_set(plan_of(test::load_spec(file), "prefill", "sm_90a")) == core::PrefillSet::kWarpGroups);
}
