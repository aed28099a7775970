#include "plan/operands.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "core/maps.h"
#include "core/prefill.h"
#include "gdn/args.h"
#include "layout/map.h"
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

}  // namespace

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

void add_operands(const layout::Layout& layout, const Target& target, Planned& planned) {
  core::KernelPlan& plan = planned.kernel;
  for (const Use& use : uses(layout, plan.operation)) {
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
  const bool in_chunks = core::prefill_set(target.name, plan.operation, plan.facts) != core::PrefillSet::kNone;
  if (plan.operation == "chunk_delta" && in_chunks) plan.operands.push_back(workspace(true));
  // A GPU's prefill keeps o in `out` until the norm, if whatever rounding.o says survives there.
  const core::DType out = layout.outputs.front().dtype;
  if (plan.operation == "prefill" && target.family != Family::kCpu) {
    const bool needed = out != core::DType::kFp32 && out != plan.facts.round_o;
    if (needed || in_chunks) plan.operands.push_back(workspace(!needed));
    if (plan.operands.size() == static_cast<std::size_t>(kMaxOperands))
      plan.operands.pop_back();  // no place for its rows
  }
}

}  // namespace gdn::plan
