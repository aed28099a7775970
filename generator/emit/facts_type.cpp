#include "emit/facts_type.h"

#include <fmt/format.h>

#include <cctype>
#include <map>

#include "core/arrivals.h"
#include "core/maps.h"
#include "core/prefill.h"

namespace gdn::emit {
namespace {

using core::Facts;
using core::Map;

// One "static constexpr" member and, behind it, the key of the spec that it came from.
std::string member(std::string_view type, std::string_view name, std::string_view value, std::string_view key) {
  return fmt::format("{:<80} // {}\n", fmt::format("  static constexpr {} {} = {};", type, name, value), key);
}

std::string integer(std::string_view name, std::int64_t value, std::string_view key) {
  return member("int", name, fmt::format("{}", value), key);
}

std::string boolean(std::string_view name, bool value, std::string_view key) {
  return member("bool", name, value ? "true" : "false", key);
}

std::string real(std::string_view name, double value, std::string_view key) {
  std::string text = fmt::format("{}", static_cast<float>(value));
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return member("float", name, text + "f", key);
}

template <class E>
std::string choice(std::string_view type, std::string_view name, E value, std::initializer_list<const char*> names,
                   std::string_view key) {
  const char* word = names.begin()[static_cast<std::size_t>(value)];
  return member(fmt::format("gdn::{}", type), name, fmt::format("gdn::{}::{}", type, word), key);
}

std::string_view element(core::DType dtype) {
  switch (dtype) {
    case core::DType::kFp32:
      return "float";
    case core::DType::kBf16:
      return "gdn::Bf16";
    case core::DType::kFp16:
      return "gdn::Fp16";
    case core::DType::kInt32:
      return "int";
    case core::DType::kInt64:
      return "long long";
    case core::DType::kE4m3fn:
      return "gdn::E4m3fn";
    case core::DType::kE4m3fnuz:
      return "gdn::E4m3fnuz";
    case core::DType::kUint8:
      return "unsigned char";
  }
  return "void";
}

std::string alias(std::string_view name, std::string_view type, std::string_view key) {
  return fmt::format("{:<80} // {}\n", fmt::format("  using {} = {};", name, type), key);
}

std::string times(std::string_view index, std::int64_t stride) {
  if (stride == 0) return "";
  return stride == 1 ? std::string(index) : fmt::format("{} * {}", index, stride);
}

std::string sum(const std::vector<std::string>& terms) {
  std::string text;
  for (const std::string& term : terms) {
    if (!term.empty() && term != "0") text += text.empty() ? term : " + " + term;
  }
  return text.empty() ? "0" : text;
}

// The body of base(head), in the shortest form that the strides allow.
std::string base_formula(const Facts& facts, const Map& map) {
  std::string offset = fmt::format("{}", map.offset);
  if (map.heads == core::HeadKind::kNone) return offset;
  if (map.heads == core::HeadKind::kKey) return sum({offset, times("key_head", map.key_head_stride)});
  const bool grouped = facts.pairing == core::Pairing::kGrouped;
  if (grouped && map.key_head_stride == facts.group * map.group_stride) {
    return sum({offset, times("value_head", map.group_stride)});
  }
  if (!grouped && map.group_stride == facts.key_heads * map.key_head_stride) {
    return sum({offset, times("value_head", map.key_head_stride)});
  }
  const int divisor = grouped ? facts.group : facts.key_heads;
  const std::string quotient = fmt::format("(value_head / {})", divisor);
  const std::string rest = fmt::format("(value_head % {})", divisor);
  return sum({times(grouped ? quotient : rest, map.key_head_stride), offset,
              times(grouped ? rest : quotient, map.group_stride)});
}

std::string_view head_parameter(const Map& map) {
  switch (map.heads) {
    case core::HeadKind::kNone:
      return "int";
    case core::HeadKind::kKey:
      return "int key_head";
    case core::HeadKind::kValue:
      return "int value_head";
  }
  return "int";
}

// What stands in the spec for this map: the operand's name and its canonical dimension list.
std::string origin(const core::KernelPlan& plan, const Map& map) {
  const core::Operand& operand = plan.operands[static_cast<std::size_t>(map.operand)];
  return fmt::format("{}: {}", operand.name, operand.layout.text);
}

std::string map_type(const core::KernelPlan& plan, std::string_view name, const Map& map) {
  if (!map.present()) return "";  // gdn::NoParts says so
  std::string text = fmt::format("  struct {} {{  // {}\n", name, origin(plan, map));
  text += fmt::format("    using Element = {};\n", element(map.dtype));
  text +=
      fmt::format("    static constexpr bool kPresent = true;\n    static constexpr int kOperand = {};\n", map.operand);
  text += fmt::format("    GDN_HD static constexpr int base({}) {{ return {}; }}\n", head_parameter(map),
                      base_formula(plan.facts, map));
  text += fmt::format(
      "    static constexpr int kRun = {}, kInnerStride = {}, kOuterStride = {}, kTapStride = {}, kAlign = {};\n",
      map.run, map.inner_stride, map.outer_stride, map.tap_stride, map.align);
  return text + "  };\n";
}

// One static_assert a map: its first and last element at the first, second and last head.
std::string address_checks(const plan::Planned& planned, const std::string& type) {
  std::string text;
  std::string condition;
  for (std::size_t i = 0; i < planned.checks.size(); ++i) {
    const plan::AddressCheck& check = planned.checks[i];
    std::string lengths;
    if (check.outer > 1 || check.taps > 1) lengths = fmt::format(", {}", check.outer);
    if (check.taps > 1) lengths += fmt::format(", {}", check.taps);
    condition += fmt::format("{}gdn::spans<{}::{}>({}, {}, {}{})", condition.empty() ? "" : " && ", type, check.part,
                             check.head, check.first, check.last, lengths);
    if (i + 1 < planned.checks.size() && planned.checks[i + 1].part == check.part) continue;
    text += fmt::format("static_assert({}, GDN_MAPS_DISAGREE);\n", condition);
    condition.clear();
  }
  return text;
}

std::string choice_name(const std::string& name) { return "k" + type_name(name); }

// What one form of a kernel has of its own.
std::string form(const core::KernelPlan& plan, const core::LaunchRule& rule, const core::Choices& choices) {
  std::string text;
  for (const auto& [name, value] : choices) text += integer(choice_name(name), value, "choice of the plan");
  // The facts of a form for few rows are made from those of the plan's own, whose choices would be its too.
  for (const auto& choice : plan.choices) {
    if (core::choice_of(choices, choice.first, -1) == -1) {
      text += integer(choice_name(choice.first), 0, "left out by the plan");
    }
  }
  if (const int arrivals = core::arrivals_operand(plan); arrivals >= 0) {
    const bool meets = core::meets_in_memory(plan, rule, choices);
    text += integer("kArrivalsOperand", meets ? arrivals : -1,
                    meets ? "where parts of a key head meet" : "parts of a key head do not meet in memory");
    if (meets) text += integer("kArrivalsRowBytes", core::arrivals_row_bytes(plan.facts), "of a row's record there");
  }
  return text;
}

}  // namespace

std::string type_name(const std::string& operation) {
  std::string name;
  bool upper = true;
  for (const char c : operation) {
    if (c == '_') {
      upper = true;
      continue;
    }
    name += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = false;
  }
  return name;
}

std::string variant_type(const core::KernelPlan& plan, const core::Variant& variant) {
  std::string name = type_name(plan.operation);
  if (variant.max_rows > 0) name += fmt::format("To{}", variant.max_rows);
  if (variant.edges == core::Edges::kProgrammatic) name += "Programmatic";
  return name;
}

namespace {

// Which launches take an entry point, for people.
std::string launches_of(const core::KernelPlan& plan, const std::string& symbol) {
  std::string text;
  for (const core::Variant& variant : plan.variants) {
    if (variant.symbol != symbol) continue;
    text += text.empty() ? "launches of " : ", of ";
    text += variant.max_rows > 0 ? fmt::format("up to {} rows", variant.max_rows) : "any number of rows";
    if (variant.edges != core::Edges::kBoth) text += fmt::format(" on {} edges", core::to_string(variant.edges));
  }
  return text;
}

}  // namespace

std::string facts_type(const plan::Planned& planned) {
  const core::KernelPlan& plan = planned.kernel;
  const Facts& f = plan.facts;
  const std::string type = type_name(plan.operation);
  std::string text = fmt::format("struct {} : gdn::NoParts {{\n", type);

  text += choice("Rule", "kRule", f.rule, {"kGdn", "kKda"}, "rule");
  text += integer("kKeyHeads", f.key_heads, "heads.key");
  text += integer("kValueHeads", f.value_heads, "heads.value");
  text += integer("kGroup", f.group, "heads.value / heads.key");
  text += choice("Pairing", "kPairing", f.pairing, {"kGrouped", "kTiled"}, "heads.pairing");
  text += integer("kKeyDim", f.key_dim, "dims.key");
  text += integer("kValueDim", f.value_dim, "dims.value");

  const std::initializer_list<const char*> activations = {"kNone", "kSilu", "kSigmoid"};
  text += integer("kConvWidth", f.conv_width, "conv.width");
  text += choice("Activation", "kConvActivation", f.conv_activation, activations, "conv.activation");
  text += boolean("kConvBias", f.conv_bias, "conv.bias");
  text += boolean("kTapsOldestFirst", f.taps_oldest_first, "conv.taps");
  text += integer("kWindow", f.window, "conv.window");
  text += choice("Anchor", "kAnchor", f.anchor, {"kFirst", "kLast"}, "conv.anchor");

  text += boolean("kQkNorm", f.qk_norm, "qk_norm.kind");
  text += real("kQkEps", f.qk_eps, "qk_norm.eps");
  text += choice("EpsAt", "kQkEpsAt", f.qk_eps_at, {"kSum", "kMean", "kMax"}, "qk_norm.eps_at");
  text += real("kQScale", f.q_scale, "qk_scale.q");
  text += real("kKScale", f.k_scale, "qk_scale.k");

  text += choice("DecayForm", "kDecayForm", f.decay_form, {"kSoftplus", "kBounded"}, "decay.form");
  text += real("kSoftplusThreshold", f.softplus_threshold, "decay.threshold (0: none)");
  text += real("kDecayBound", f.decay_bound, "decay.bound");
  text += choice("AStored", "kAStored", f.a_stored, {"kLog", "kNegativeExp", "kAbsent"}, "decay.a_log");
  text +=
      choice("Domain", "kGHandover", f.g_handover, {"kLogit", "kLn", "kLog2", "kExp", "kSigmoid"}, "decay.handover");
  text += real("kBetaFactor", f.beta_factor, "beta.factor");

  text += real("kNormEps", f.norm_eps, "out_norm.eps");
  text += choice("NormWeight", "kNormWeight", f.norm_weight, {"kW", "kOnePlusW", "kTwiceOnePlusW"}, "out_norm.weight");
  text += choice("Activation", "kNormGate", f.norm_gate, activations, "out_norm.gate");
  text += boolean("kNormBeforeGate", f.norm_before_gate, "out_norm.order");

  if (f.out_scale.present()) {
    text += integer("kQuantGroup", f.quant_group, "output_quant.group");
    text += real("kQuantMax", f.quant_max, "output_quant.max");
    text += choice("FloorAt", "kQuantFloorAt", f.quant_floor_at, {"kNone", "kAmax", "kScale", "kReplace"},
                   "output_quant.floor_at");
    text += real("kQuantFloor", f.quant_floor, "output_quant.floor");
    text += boolean("kScalePowerOfTwo", f.quant_power_of_two, "output_quant.scale");
    text += alias("QuantFrom", element(f.quant_from), "output_quant.from");
    text += boolean("kQuantDivides", f.quant_divides, "output_quant.arithmetic");
    text += boolean("kScaleGroupFirst", f.scale_group_first, "outputs.out_scale");
  }
  if (f.stochastic_state) {
    text += boolean("kStochasticState", f.stochastic_state, "rounding.state");
    text += integer("kSeedOperand", f.seed_operand, "where the seed of the state's rounding stands");
  }
  text += alias("RoundConv", element(f.round_conv), "rounding.conv");
  text += alias("RoundQk", element(f.round_qk), "rounding.qk");
  text += alias("RoundBeta", element(f.round_beta), "rounding.beta");
  text += alias("RoundO", element(f.round_o), "rounding.o");
  text += alias("RoundNorm", element(f.round_norm), "rounding.norm");

  text += alias("Slot", element(f.slot_dtype), "slots.dtype");
  text += choice("Padding", "kPadding", f.padding, {"kNone", "kNegative", "kZeroOrNegative"}, "slots.padding");
  text += choice("PaddedOutput", "kPaddedOutput", f.padded_output, {"kZero", "kUntouched"}, "slots.padded_output");
  text += choice("PaddedOutput", "kExcessOutput", f.excess_output, {"kZero", "kUntouched"}, "slots.excess_output");
  text += integer("kSlotsOperand", f.slots_operand, "where the slot indices stand; -1: the operation takes none");
  if (f.offsets_operand >= 0 || f.rollback != core::Rollback::kNone) {
    text += alias("Offset", element(f.offset_dtype), "dtype of the sequences' offsets");
    text += integer("kOffsetsOperand", f.offsets_operand, "where the sequences' offsets stand");
  }
  if (f.rollback != core::Rollback::kNone) {
    text += integer("kTokens", f.tokens, "speculative.tokens");
    text += choice("Rollback", "kRollback", f.rollback, {"kNone", "kSlots", "kIntermediate", "kReplay"},
                   "speculative.scheme");
    text += choice("Counts", "kCounts", f.counts, {"kTokens", "kDrafts"}, "speculative.counts");
    text += alias("Accepted", element(f.accepted_dtype), "speculative.accepted");
    text += integer("kAcceptedOperand", f.accepted_operand, "where accepted stands; -1: the operation takes none");
  }
  if (f.chunk != 0) {
    text += integer("kChunk", f.chunk, "prefill.chunk");
    text += choice("InitialStates", "kInitialStates", f.initial_states, {"kNone", "kAll", "kFlagged"},
                   "prefill.initial_states");
    text += boolean("kFinalStates", f.final_states, "prefill.final_states");
    text += alias("RoundPrefillQk", element(f.round_prefill_qk), "prefill.qk");
    text += alias("Flag", element(f.flag_dtype), "prefill.flags");
    text += integer("kFlagsOperand", f.flags_operand, "where has_initial_state stands; -1: the operation takes none");
    if (f.snapshots) {
      text += integer("kSnapshotRowsOperand", f.snapshot_rows_operand, "where snapshot_rows stands");
      text += integer("kSnapshotSlotsOperand", f.snapshot_slots_operand, "where snapshot_slots stands");
    }
    if (const int workspace = core::workspace_operand(plan); workspace >= 0) {
      text += integer("kWorkspaceOperand", workspace, "where the workspace stands");
      if (core::holds_o(plan)) text += boolean("kHoldsO", true, "o waits for the norm in the workspace");
      if (core::rows_in_out(plan))
        text += boolean("kRowsInOut", true, "with a workspace out has v, then o, until then");
    }
  }
  text += form(plan, plan.launch, plan.choices);

  for (const core::NamedMap& named : core::kMaps) text += map_type(plan, named.name, f.*named.map);
  text += "};\n";
  for (const core::Variant* variant : core::distinct_forms(plan)) {
    text += fmt::format("struct {} : {} {{  // {}\n", variant_type(plan, *variant), type,
                        launches_of(plan, variant->symbol));
    text += form(plan, variant->launch, variant->choices);
    text += "};\n";
  }
  return text + address_checks(planned, type);
}

}  // namespace gdn::emit
