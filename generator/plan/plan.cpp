#include "plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/arrivals.h"
#include "core/maps.h"
#include "core/prefill.h"
#include "gdn/args.h"
#include "layout/map.h"
#include "plan/block_limits.h"
#include "plan/choices.h"
#include "plan/operation.h"

namespace gdn::plan {
namespace {

using core::Access;
using core::Facts;
using core::Map;

// GPU bodies move up to 16 bytes at a time, so an operand must keep that alignment where its parts do.
constexpr std::int64_t kVectorBytes = 16;

// Which map of Facts a part fills, by the tensor that holds it and by whether the operation reads or writes it.
Map Facts::* slot_of(const std::string& tensor, const std::string& part, Access access) {
  static const std::map<std::string, Map Facts::*> read = {
      {"q", &Facts::in_q}, {"k", &Facts::in_k}, {"v", &Facts::in_v},       {"z", &Facts::in_z}, {"b", &Facts::in_b},
      {"a", &Facts::in_a}, {"g", &Facts::in_g}, {"beta", &Facts::in_beta}, {"o", &Facts::in_o}};
  static const std::map<std::string, Map Facts::*> written = {{"q", &Facts::out_q},
                                                              {"k", &Facts::out_k},
                                                              {"v", &Facts::out_v},
                                                              {"z", &Facts::out_z},
                                                              {"b", &Facts::out_b},
                                                              {"a", &Facts::out_a},
                                                              {"g", &Facts::out_g},
                                                              {"beta", &Facts::out_beta},
                                                              {"o", &Facts::out_o},
                                                              {"out", &Facts::out},
                                                              {"out_scale", &Facts::out_scale}};
  static const std::map<std::string, Map Facts::*> parameters = {{"a_log", &Facts::a_log},
                                                                 {"dt_bias", &Facts::dt_bias},
                                                                 {"norm_weight", &Facts::norm_w},
                                                                 {"norm_bias", &Facts::norm_b},
                                                                 {"intermediate_state", &Facts::intermediate},
                                                                 {"record_k", &Facts::record_k},
                                                                 {"record_u", &Facts::record_u},
                                                                 {"record_decay", &Facts::record_decay},
                                                                 {"state", &Facts::state},
                                                                 {"state_scale", &Facts::state_scale}};
  static const std::map<std::string, Map Facts::*> conv = {
      {"conv_weight.q", &Facts::weight_q}, {"conv_weight.k", &Facts::weight_k}, {"conv_weight.v", &Facts::weight_v},
      {"conv_bias.q", &Facts::bias_q},     {"conv_bias.k", &Facts::bias_k},     {"conv_bias.v", &Facts::bias_v},
      {"conv_state.q", &Facts::window_q},  {"conv_state.k", &Facts::window_k},  {"conv_state.v", &Facts::window_v}};
  if (tensor == "conv_weight_packed" && access == Access::kWrite) return written.at(part);
  for (const char* stem : {"conv_weight", "conv_bias", "conv_state"}) {
    if (tensor.rfind(stem, 0) == 0) return conv.at(fmt::format("{}.{}", stem, part));
  }
  if (const auto found = parameters.find(part); found != parameters.end()) return found->second;
  return (access == Access::kRead ? read : written).at(part);
}

std::string_view name_of(Map Facts::* map) {
  for (const core::NamedMap& named : core::kMaps) {
    if (named.map == map) return named.name;
  }
  return "";
}

void add_checks(const layout::Layout& layout, const layout::PartLayout& part, const Map& map, std::string_view name,
                std::vector<AddressCheck>& checks) {
  const Facts& numbers = layout.numbers;
  const int heads = map.heads == core::HeadKind::kNone  ? 1
                    : map.heads == core::HeadKind::kKey ? numbers.key_heads
                                                        : numbers.value_heads;
  std::int64_t taps = 1;
  for (const layout::Axis& axis : part.axes) {
    if (axis.name == "tap" || axis.name == "step") taps = axis.size;
  }
  const bool state = part.name == "state" || part.name == "intermediate_state";
  const std::int64_t outer = state ? numbers.value_dim : 1;
  std::vector<int> chosen = {0, 1, heads - 1};
  chosen.erase(std::remove_if(chosen.begin(), chosen.end(), [&](int head) { return head >= heads; }), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  for (const int head : chosen) {
    layout::Coordinates at;
    at.key_head = at.value_head = head;
    AddressCheck check{std::string(name), head, layout::address(numbers, part, at), 0, outer, taps};
    at.key_dim = numbers.key_dim - 1;
    at.value_dim = numbers.value_dim - 1;
    at.tap = taps - 1;
    at.scale_group = map.run - 1;
    check.last = layout::address(numbers, part, at);
    checks.push_back(std::move(check));
  }
}

// The operand of indices that stands at `index`; the facts say so.
core::Operand indices_operand(const Use& use, int index, Facts& facts) {
  core::Operand operand;
  operand.name = name_of(use);
  operand.leading = use.leading;
  operand.inner = use.inner;
  operand.dtype = use.dtype;
  operand.optional = use.optional;
  switch (use.indices) {
    case Indices::kOffsets:
      operand.role = core::Role::kOffsets;
      facts.offset_dtype = use.dtype;
      facts.offsets_operand = index;
      break;
    case Indices::kSeed:
      operand.role = core::Role::kSeed;
      facts.seed_operand = index;
      break;
    case Indices::kFlags:
      operand.role = core::Role::kFlags;
      facts.flags_operand = index;
      break;
    case Indices::kSnapshotRows:
      operand.role = core::Role::kSnapshots;
      facts.snapshot_rows_operand = index;
      break;
    case Indices::kSnapshotSlots:
      operand.role = core::Role::kSnapshots;
      facts.snapshot_slots_operand = index;
      break;
    case Indices::kAccepted:
      operand.role = core::Role::kCounts;
      facts.accepted_operand = index;
      break;
    default:
      operand.role = core::Role::kSlots;
      operand.launch_stride = use.inner > 1;
      facts.slots_operand = index;
      break;
  }
  operand.align = static_cast<std::int64_t>(core::size_of(operand.dtype));
  return operand;
}

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

// What two kernels must share to be the same kernel: the operation, where everything lies, and every number.
core::Identity kernel_identity(const core::KernelPlan& plan) {
  const Facts& f = plan.facts;
  std::string text =
      fmt::format("{} rule={} heads={}/{} dims={}/{}", plan.operation, f.rule == core::Rule::kKda ? "kda" : "gdn",
                  f.key_heads, f.value_heads, f.key_dim, f.value_dim);
  text += fmt::format(" conv(width={} activation={} bias={} window={}) qk(norm={} eps={} at={} q_scale={} k_scale={})",
                      f.conv_width, static_cast<int>(f.conv_activation), f.conv_bias, f.window, f.qk_norm, f.qk_eps,
                      static_cast<int>(f.qk_eps_at), f.q_scale, f.k_scale);
  text += fmt::format(" decay(form={} threshold={} bound={} a_log={}) beta({})", static_cast<int>(f.decay_form),
                      f.softplus_threshold, f.decay_bound, static_cast<int>(f.a_stored), f.beta_factor);
  if (f.out.present() && !f.norm_w.present()) {
    text += " norm(none)";
  } else {
    text += fmt::format(" norm(eps={} weight={} gate={} before={})", f.norm_eps, static_cast<int>(f.norm_weight),
                        static_cast<int>(f.norm_gate), f.norm_before_gate);
  }
  text += fmt::format(" round(conv={} qk={} beta={} o={} norm={}) padded={}", core::to_string(f.round_conv),
                      core::to_string(f.round_qk), core::to_string(f.round_beta), core::to_string(f.round_o),
                      core::to_string(f.round_norm), static_cast<int>(f.padded_output));
  if (f.excess_output == core::PaddedOutput::kZero) text += " excess(zero)";
  if (f.chunk != 0) {
    text += fmt::format(" prefill(chunk={} initial={} final={} qk={})", f.chunk, static_cast<int>(f.initial_states),
                        f.final_states, core::to_string(f.round_prefill_qk));
    if (f.snapshots) text += " snapshots";
  }
  if (f.stochastic_state) text += " state(stochastic)";
  if (f.out_scale.present()) {
    text += fmt::format(" quant(group={} max={} floor_at={} floor={} ue8m0={} from={} divides={})", f.quant_group,
                        f.quant_max, static_cast<int>(f.quant_floor_at), f.quant_floor, f.quant_power_of_two,
                        core::to_string(f.quant_from), f.quant_divides);
  }
  if (f.rollback != core::Rollback::kNone) {
    text += fmt::format(" speculative(tokens={} scheme={})", f.tokens, static_cast<int>(f.rollback));
  }
  for (const core::Operand& operand : plan.operands) text += fmt::format("; {}: {}", operand.name, operand.layout.text);
  return core::make_identity(std::move(text));
}

// Memory of a launch, for kernels that hand something to each other.
core::Operand workspace(bool optional) {
  core::Operand operand;
  operand.name = "workspace";
  operand.role = core::Role::kWorkspace;
  operand.access = Access::kReadWrite;
  operand.dtype = core::DType::kUint8;
  operand.align = 128;
  operand.optional = optional;
  operand.layout = core::make_identity("uint8 [byte] workspace");
  return operand;
}

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

// The launches of the plain bodies of prefill: templates/gdn/<operation>.h says what each block does.
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
  if (plan.operation == "decode_spec") rule.shared_bytes = static_cast<int>(inbox_bytes(plan.facts, choices));
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

// Why an operation of a target can't give the output that the spec describes; empty: it can. A block of decode has the
// value heads of one key head; norm_quant's has as many heads as a whole number of groups needs, and keeps a number in
// shared memory for each piece of a group that lies in one head.
std::string output_refused(const layout::Layout& layout, std::string_view operation, const Target& target) {
  const Facts& f = layout.numbers;
  const bool whole = operation == "decode" || operation == "decode_spec";
  const bool normed = operation == "norm_quant" || operation == "prefill";
  if (!whole && !normed) return "";
  if (f.quant_group == 0 || f.value_dim % f.quant_group == 0) return "";
  // The CPU's prefill makes the output of a key head's value heads in one go, too.
  if (whole || (operation == "prefill" && target.family == Family::kCpu)) {
    return fmt::format(
        "{0} on {1}: output_quant.group = {2} does not divide a value head of {3} channels: such a group's scale needs "
        "heads that other {4} compute. Let {0} write a plain output and quantise it with norm_quant, or choose "
        "a group that divides {3}",
        operation, target.name, f.quant_group, f.value_dim, target.family == Family::kCpu ? "threads" : "blocks");
  }
  if (target.family == Family::kCpu) return "";
  const std::int64_t bytes = shared_bytes_of_groups(target, f);
  if (bytes <= target.static_shared) return "";
  return fmt::format(
      "{} on {}: groups of {} channels over heads of {} need {} bytes of shared memory a block, and there are {}",
      operation, target.name, f.quant_group, f.value_dim, bytes, target.static_shared);
}

// A form that a tuning row asks for must have its kernel at the spec's sizes.
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

// Whether neighbours of a state are channels of one head.
bool runs_along_a_channel(const layout::TensorLayout& state) {
  const std::vector<layout::Axis>& axes = state.parts.front().axes;
  return std::any_of(axes.begin(), axes.end(), [](const layout::Axis& axis) {
    return axis.stride == 1 && (axis.name == "key_dim" || axis.name == "value_dim");
  });
}

// Why an operation of a target can't keep the state as the spec says; empty: it can, or has none.
std::string state_refused(const layout::Layout& layout, std::string_view operation, const Target& target) {
  const bool drafts = operation == "decode_spec" || operation == "state_commit";
  const bool by_token = operation == "decode" || operation == "delta_update" || drafts;
  if (!by_token && operation != "chunk_delta" && operation != "prefill") return "";
  const bool scaled = core::size_of(layout.tensor("state").dtype) == 1;
  if (!scaled && !layout.numbers.stochastic_state) return "";
  const char* what = scaled ? "an 8-bit state" : "a state that is rounded by chance";
  if (!by_token) {
    return fmt::format(
        "{} on {}: pools.state is {}{}, and no kernel of whole sequences has {}: it rounds what it stores to nearest, "
        "without scales, which is another state than decode's. Let decode take the tokens one by one; or keep the "
        "state of sequences under way in 16 or 32 bits, rounded to nearest, and convert it for decode",
        operation, target.name, core::to_string(layout.tensor("state").dtype), scaled ? "" : ", rounded by chance",
        what);
  }
  if (scaled || target.family != Family::kCpu || runs_along_a_channel(layout.tensor("state"))) return "";
  return fmt::format(
      "{} on {}: rounding.state = stochastic takes one block of random bits for eight neighbours of a row, and "
      "neighbours of pools.state are of different heads: put key_dim or value_dim last, or round to nearest",
      operation, target.name);
}

// Why a target has no kernel for an operation of a spec; empty: it has.
std::string unavailable(const layout::Layout& layout, std::string_view operation, const Target& target) {
  if (std::string reason = why_not(layout, operation); !reason.empty()) return reason;
  if (std::string reason = output_refused(layout, operation, target); !reason.empty()) return reason;
  if (std::string reason = state_refused(layout, operation, target); !reason.empty()) return reason;
  if (operation != "conv_pack" || target.family == Family::kCpu) return "";
  return fmt::format("conv_pack on {}: there is no GPU kernel that packs; GPU kernels read weights in any order",
                     target.name);
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

  for (const Use& use : uses(layout, operation)) {
    const int index = static_cast<int>(plan.operands.size());
    if (use.tensor == nullptr) {
      plan.operands.push_back(indices_operand(use, index, plan.facts));
      plan.operands.back().layout = identity_of(layout, use);
      continue;
    }
    const layout::TensorLayout& tensor = *use.tensor;
    const auto element = static_cast<std::int64_t>(core::size_of(tensor.dtype));
    core::Operand operand;
    operand.name = tensor.name;
    operand.role = tensor.name == "out_scale"     ? core::Role::kScale
                   : use.access == Access::kWrite ? core::Role::kOutput
                                                  : tensor.role;
    operand.access = use.access;
    operand.dtype = tensor.dtype;
    operand.leading = tensor.leading;
    operand.launch_stride = tensor.launch_stride;
    operand.inner = tensor.inner;
    operand.align = element;
    operand.optional = use.optional;
    operand.layout = identity_of(layout, use);
    for (const layout::PartLayout& part : tensor.parts) {
      if (part.name == "z" && !has_norm(layout)) continue;  // of a row whose other parts are read
      Map Facts::* const place = slot_of(tensor.name, part.name, use.access);
      const Map map = layout::map_of(layout.numbers, tensor, part, index);
      plan.facts.*place = map;
      add_checks(layout, part, map, name_of(place), planned.checks);
      if (target.family != Family::kCpu && map.run > 1) {
        operand.align = std::max(operand.align, std::min(kVectorBytes, map.align * element));
      }
    }
    plan.operands.push_back(std::move(operand));
  }
  const bool in_chunks = core::prefill_set(target.name, operation, plan.facts) != core::PrefillSet::kNone;
  if (operation == "chunk_delta" && in_chunks) plan.operands.push_back(workspace(true));
  // A GPU's prefill keeps o in `out` until the norm, if whatever rounding.o says survives there.
  const core::DType out = layout.outputs.front().dtype;
  if (operation == "prefill" && target.family != Family::kCpu) {
    const bool needed = out != core::DType::kFp32 && out != plan.facts.round_o;
    if (needed || in_chunks) plan.operands.push_back(workspace(!needed));
    if (plan.operands.size() == static_cast<std::size_t>(kMaxOperands))
      plan.operands.pop_back();  // no place for its rows
  }
  for (const Band& band : bands_of(tuning, target, operation, layout.spec, plan.facts)) {
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
