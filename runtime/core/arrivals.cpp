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
  std::size_t variant = 0;
  while (variant < plan.variants.size() && rows > plan.variants[variant].max_rows) ++variant;
  return form_meets_in_memory(plan, variant) ? rows * arrivals_row_bytes(plan.facts) : 0;
}

std::int64_t most_arrivals_bytes(const KernelPlan& plan, int rows) {
  std::int64_t most = arrivals_bytes(plan, rows);
  for (const Variant& variant : plan.variants) {
    if (variant.max_rows < rows) most = std::max(most, arrivals_bytes(plan, variant.max_rows));
  }
  return most;
}

std::size_t variant_of(const KernelPlan& plan, const Args& args) {
  const int arrivals = arrivals_operand(plan);
  const bool meets = arrivals >= 0 && args.operand[arrivals] != nullptr;
  std::size_t i = 0;
  while (i < plan.variants.size() &&
         (args.rows > plan.variants[i].max_rows || (!meets && form_meets_in_memory(plan, i)))) {
    ++i;
  }
  return i;
}

}  // namespace gdn::core
