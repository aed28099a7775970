#include "plan/forms.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/arrivals.h"
#include "core/prefill.h"
#include "plan/block_limits.h"
#include "plan/choices.h"
#include "plan/operands.h"
#include "plan/operation.h"
#include "plan/plan.h"

namespace gdn::plan {
namespace {

using core::Facts;

// The memory in which blocks of a decode meet that are no cluster, where some launches have such blocks. Its own name
// and layout: what another operation has left in a workspace is not zero.
void add_arrivals(core::KernelPlan& plan) {
  const bool needed = core::meets_in_memory(plan, plan.launch, plan.choices);
  const bool used = std::any_of(plan.variants.begin(), plan.variants.end(), [&](const core::Variant& variant) {
    return core::meets_in_memory(plan, variant.launch, variant.choices);
  });
  if (!needed && !used) return;
  core::Operand operand = workspace(!needed);
  operand.name = "arrivals";
  operand.align = core::kArrivalsAlign;
  operand.layout = core::make_identity("uint8 [byte] arrivals, zero before the first launch");
  plan.operands.push_back(std::move(operand));
}

// Leaves of a plan's forms those for one kind of edges.
void keep_edges(core::KernelPlan& plan, core::Edge edge) {
  std::vector<core::Variant> kept;
  for (core::Variant& variant : plan.variants) {
    if (!core::has(variant.edges, edge)) continue;
    variant.edges = core::Edges::kBoth;
    if (variant.max_rows > 0) {
      kept.push_back(std::move(variant));
      continue;
    }
    plan.launch = variant.launch;
    plan.choices = variant.choices;
  }
  plan.variants = std::move(kept);
}

// Leaves of a plan's forms that of a launch of so many rows, on plain and on programmatic edges. Each computes the same
// of any number of rows. One whose blocks meet in memory goes with the plan's own, for launches without that memory.
void keep_rows(core::KernelPlan& plan, int rows) {
  const auto variant_at = [&](core::Edge edge) {
    const std::size_t i = core::variant_of(plan, rows, edge);
    if (i < plan.variants.size()) return plan.variants[i];
    return core::Variant{0, "", plan.launch, plan.choices, core::Edges::kBoth};
  };
  const core::Variant plain = variant_at(core::Edge::kPlain), early = variant_at(core::Edge::kProgrammatic);
  const bool one = early.choices == plain.choices;
  std::vector<core::Variant> kept;
  if (!core::meets_in_memory(plan, plain.launch, plain.choices)) {
    plan.launch = plain.launch;
    plan.choices = plain.choices;
  } else if (plain.choices != plan.choices) {
    kept.push_back(plain);
    kept.back().edges = one ? core::Edges::kBoth : core::Edges::kPlain;
  }
  if (!one) {
    kept.push_back(early);
    kept.back().edges = core::Edges::kProgrammatic;
    if (!core::meets_in_memory(plan, early.launch, early.choices)) kept.back().max_rows = 0;
  }
  plan.variants = std::move(kept);
}

// The names of a plan's entry points. Forms of equal choices are one.
void name_forms(core::KernelPlan& plan) {
  for (auto variant = plan.variants.begin(); variant != plan.variants.end(); ++variant) {
    const auto same = std::find_if(plan.variants.begin(), variant,
                                   [&](const core::Variant& other) { return other.choices == variant->choices; });
    if (variant->choices == plan.choices) {
      variant->symbol = plan.symbol;
    } else if (same != variant) {
      variant->symbol = same->symbol;
    } else {
      variant->symbol = plan.symbol;
      if (variant->max_rows > 0) variant->symbol += fmt::format("_to_{}", variant->max_rows);
      if (variant->edges == core::Edges::kProgrammatic) variant->symbol += "_programmatic";
    }
  }
}

// Shared memory bounds nothing here: a body takes a group of value heads in turns that fit.
core::LaunchRule launch_rule(const core::KernelPlan& plan, const Target& target, const Choices& choices) {
  if (const std::string fault = choices_fault(target, plan.operation, plan.facts, choices); !fault.empty()) {
    throw Unplannable(fmt::format("{} on {}: {}", plan.operation, target.name, fault));
  }
  if (const std::int64_t bytes = shared_bytes_of_tokens(plan.facts, 1);
      plan.operation == "decode_spec" && target.family != Family::kCpu && bytes > 48 * 1024) {
    throw Unplannable(fmt::format(
        "decode_spec on {}: {} tokens of heads of {} and {} channels need {} bytes of shared memory a block, "
        "and there are "
        "{}: lower speculative.tokens",
        target.name, plan.facts.tokens, plan.facts.key_dim, plan.facts.value_dim, bytes, 48 * 1024));
  }
  const auto parts = static_cast<int>(choice_of(choices, "head_parts", 1) * choice_of(choices, "row_parts", 1));
  core::LaunchRule rule;
  if (plan.operation == "decode_spec") rule.grid = core::Grid::kSequences;
  rule.threads = static_cast<int>(choice_of(choices, "threads", 1));
  rule.shared_bytes = static_cast<int>(inbox_bytes(plan.facts, choices));
  rule.blocks_per_row = plan.facts.key_heads * parts;
  const bool decodes = plan.operation == "decode" || plan.operation == "decode_spec";
  rule.cluster = decodes && target.clusters && choice_of(choices, "arrivals", 0) == 0 ? parts : 1;
  // norm_quant takes whole heads; lay_out_prefill has the last word about prefill.
  if (prefills(plan.operation)) {
    if (target.family == Family::kCpu) rule.grid = core::Grid::kSequences;
  } else if (const std::int64_t heads = choice_of(choices, "heads_per_block", 0); heads > 0) {
    rule.blocks_per_row = plan.facts.value_heads / static_cast<int>(heads);
  } else if (plan.operation == "norm_quant" && plan.facts.quant_group > 0 &&
             plan.facts.value_dim % plan.facts.quant_group != 0) {
    rule.blocks_per_row = 1;  // on the CPU: a whole row, whose groups have channels of several heads
  } else {
    rule.one_dimension =
        target.family != Family::kCpu &&
        (plan.operation == "decode" || plan.operation == "decode_spec" || plan.operation == "delta_update");
  }
  return rule;
}

}  // namespace

void lay_out_prefill(core::KernelPlan& plan) {
  const Facts& f = plan.facts;
  const auto chosen = [&](std::string_view name) {
    const std::int64_t value = choice_of(plan.choices, name, 0);
    if (value > 0) return static_cast<int>(value);
    throw Unplannable(fmt::format("{} on {}: the tuning table's row has no {}", plan.operation, plan.target, name));
  };
  const auto stage = [&](const char* body, core::Grid grid, int blocks) {
    plan.stages.push_back({body, fmt::format("{}_{}", plan.symbol, body), {plan.launch.threads, blocks, 0, grid}, 0});
  };
  if (plan.operation == "conv_prefill") {
    plan.launch.rows_per_block = chosen("tile_rows");
    plan.launch.blocks_per_row = f.key_heads * (2 + f.group * (f.out_z.present() ? 2 : 1));
  } else {
    const int columns = chosen("columns");
    plan.launch.grid = core::Grid::kSequences;
    plan.launch.blocks_per_row = f.value_heads * ((f.value_dim + columns - 1) / columns);
  }
  if (plan.operation == "chunk_delta") return;
  const auto windows = [&](const char* body) {
    stage(body, core::Grid::kSequences, f.key_heads * (2 + f.group));
    plan.stages.back().resident = 1;  // NVIDIA's compiler otherwise allows a thread so few registers that it spills
  };
  if (f.snapshots) windows("prefill_snapshots");
  if (f.final_states) windows("prefill_windows");
  // Last: where it may begin before a chain has ended, windows have no need to wait for it.
  if (plan.operation == "prefill" && f.norm_w.present()) {
    stage("prefill_norm", core::Grid::kTokens, f.value_heads / chosen("heads_per_block"));
  } else if (plan.operation == "prefill" && f.excess_output == core::PaddedOutput::kZero) {
    stage("prefill_excess", core::Grid::kSequences, f.key_heads);
  }
}

void check_form(const core::KernelPlan& plan) {
  if (core::prefill_set(plan) == core::PrefillSet::kNone) return;
  const core::PrefillChoice choice = core::prefill_choice(plan, 1, 1);
  const std::string_view needed =
      choice.form == core::PrefillForm::kSegments ? "segment" : core::to_string(choice.form);
  const std::vector<core::PrefillKernel> kernels = core::prefill_kernels(plan);
  if (std::any_of(kernels.begin(), kernels.end(), [&](const auto& kernel) { return kernel.name == needed; })) return;
  throw Unplannable(fmt::format("{} on {}: the form {} needs other sizes than K = {} and V = {}", plan.operation,
                                plan.target, core::to_string(choice.form), plan.facts.key_dim, plan.facts.value_dim));
}

void add_forms(core::KernelPlan& plan, const Target& target, const TuningTable& tuning, int rows, core::Edges edges) {
  for (const Band& band : bands_of(tuning, target, plan.operation, plan.spec, plan.facts)) {
    const core::LaunchRule rule = launch_rule(plan, target, band.choices);
    if (band.max_rows == 0 && band.edges != core::Edges::kProgrammatic) {
      plan.launch = rule;
      plan.choices = band.choices;
    } else {
      plan.variants.push_back({band.max_rows, "", rule, band.choices, band.edges});
    }
  }
  add_arrivals(plan);  // whatever forms are kept: a launch's operands are the same
  for (const core::Edge edge : {core::Edge::kPlain, core::Edge::kProgrammatic}) {
    if (edges == core::only(edge)) keep_edges(plan, edge);
  }
  if (rows > 0) keep_rows(plan, rows);
  name_forms(plan);
}

}  // namespace gdn::plan
