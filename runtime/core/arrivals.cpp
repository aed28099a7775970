#include "core/arrivals.h"

#include <algorithm>

#include "core/prefill.h"

namespace gdn::core {
namespace {

// The form of a launch of so many rows: its rule and choices.
bool form_meets_in_memory(const KernelPlan& plan, std::size_t variant) {
  if (variant == plan.variants.size()) return meets_in_memory(plan, plan.launch, plan.choices);
  return meets_in_memory(plan, plan.variants[variant].launch, plan.variants[variant].choices);
}

// Of the variants that such a launch fits. `meets`: whether its blocks can meet in memory.
std::size_t first_variant(const KernelPlan& plan, int rows, Edge edge, bool meets) {
  std::size_t i = 0;
  for (; i < plan.variants.size(); ++i) {
    const Variant& variant = plan.variants[i];
    const bool fits = (variant.max_rows == 0 || rows <= variant.max_rows) && has(variant.edges, edge);
    if (fits && (meets || !form_meets_in_memory(plan, i))) break;
  }
  return i;
}

std::int64_t whole_lines(std::int64_t bytes) { return (bytes + kArrivalsAlign - 1) / kArrivalsAlign * kArrivalsAlign; }

}  // namespace

bool meets_in_memory(const KernelPlan& plan, const LaunchRule& rule, const Choices& choices) {
  if (plan.operation != "decode" || rule.threads <= 1 || rule.cluster > 1) return false;
  return choice_of(choices, "head_parts", 1) * choice_of(choices, "row_parts", 1) > 1;
}

int arrivals_operand(const KernelPlan& plan) { return plan.operation == "decode" ? workspace_operand(plan) : -1; }

std::int64_t arrivals_row_bytes(const Facts& facts) {
  return whole_lines(4 * std::int64_t{facts.key_heads} * (1 + facts.group)) +
         whole_lines(4 * std::int64_t{facts.value_heads} * facts.value_dim);
}

std::int64_t arrivals_bytes(const KernelPlan& plan, int rows) {
  if (arrivals_operand(plan) < 0) return 0;
  for (const Edge edge : {Edge::kPlain, Edge::kProgrammatic}) {
    if (form_meets_in_memory(plan, variant_of(plan, rows, edge))) return rows * arrivals_row_bytes(plan.facts);
  }
  return 0;
}

std::int64_t most_arrivals_bytes(const KernelPlan& plan, int rows) {
  std::int64_t most = arrivals_bytes(plan, rows);
  for (const Variant& variant : plan.variants) {
    if (variant.max_rows > 0 && variant.max_rows < rows) {
      most = std::max(most, arrivals_bytes(plan, variant.max_rows));
    }
  }
  return most;
}

std::size_t variant_of(const KernelPlan& plan, const Args& args, Edge edge) {
  const int arrivals = arrivals_operand(plan);
  const bool meets = arrivals >= 0 && args.operand[arrivals] != nullptr;
  return first_variant(plan, args.rows, edge, meets);
}

std::size_t variant_of(const KernelPlan& plan, int rows, Edge edge) { return first_variant(plan, rows, edge, true); }

}  // namespace gdn::core
