#include "plan/plan.h"

#include <fmt/format.h>

#include "gdn/args.h"
#include "plan/forms.h"
#include "plan/kernel_identity.h"
#include "plan/operands.h"
#include "plan/operation.h"
#include "plan/unavailable.h"

namespace gdn::plan {
namespace {

using core::Facts;

// Numbers of prefill belong to its operations: a decode is the same kernel with and without them.
void forget_prefill(Facts& facts) {
  const Facts none;
  facts.chunk = none.chunk;
  facts.initial_states = none.initial_states;
  facts.final_states = none.final_states;
  facts.snapshots = none.snapshots;
  facts.round_prefill_qk = none.round_prefill_qk;
  facts.flag_dtype = none.flag_dtype;
}

// What becomes of the rest of a larger buffer belongs to the operations that write the layer's output.
void forget_excess(core::KernelPlan& plan) {
  for (const char* writes : {"decode", "decode_spec", "norm_quant", "prefill"}) {
    if (plan.operation == writes) return;
  }
  plan.facts.excess_output = Facts().excess_output;
}

// And numbers of the quantisation to the operations that quantise.
void forget_quantisation(Facts& facts) {
  const Facts none;
  facts.quant_group = none.quant_group;
  facts.quant_max = none.quant_max;
  facts.quant_floor_at = none.quant_floor_at;
  facts.quant_floor = none.quant_floor;
  facts.quant_power_of_two = none.quant_power_of_two;
  facts.quant_from = none.quant_from;
  facts.quant_divides = none.quant_divides;
  facts.scale_group_first = none.scale_group_first;
}

// Numbers of speculative decoding belong to the operations that draft: a plain decode is the same kernel with and
// without them.
void forget_drafts(Facts& facts) {
  const Facts none;
  facts.tokens = none.tokens;
  facts.rollback = none.rollback;
  facts.counts = none.counts;
  facts.accepted_dtype = none.accepted_dtype;
}

}  // namespace

std::vector<std::string_view> operations_on(const layout::Layout& layout, const Target& target) {
  std::vector<std::string_view> names;
  for (const std::string_view name : operations()) {
    if (unavailable(layout, name, target).empty()) names.push_back(name);
  }
  return names;
}

std::string symbol(std::string_view spec, std::string_view operation, std::string_view target) {
  return fmt::format("gdn_{}_{}_{}", spec, operation, target);
}

Planned make(const layout::Layout& layout, std::string_view operation, const Target& target, const TuningTable& tuning,
             int rows, core::Edges edges) {
  if (const std::string reason = unavailable(layout, operation, target); !reason.empty()) throw Unplannable(reason);
  Planned planned;
  core::KernelPlan& plan = planned.kernel;
  plan.symbol = symbol(layout.spec, operation, target.name);
  plan.spec = layout.spec;
  plan.spec_file = layout.spec_file;
  plan.operation = operation;
  plan.target = target.name;
  plan.facts = layout.numbers;
  if (!prefills(operation)) forget_prefill(plan.facts);
  if (!drafts(operation)) forget_drafts(plan.facts);
  forget_excess(plan);
  add_operands(layout, target, planned);
  add_forms(plan, target, tuning, rows, edges);
  if (plan.operands.size() > static_cast<std::size_t>(kMaxOperands)) {
    throw Unplannable(fmt::format("{} takes {} operands, a kernel can take {}: pack some of the inputs", operation,
                                  plan.operands.size(), kMaxOperands));
  }
  if (plan.facts.seed_operand < 0) plan.facts.stochastic_state = false;
  if (prefills(operation) && target.family != Family::kCpu) lay_out_prefill(plan);
  if (!plan.facts.out_scale.present()) forget_quantisation(plan.facts);
  check_form(plan);
  plan.identity = kernel_identity(plan);
  return planned;
}

}  // namespace gdn::plan
