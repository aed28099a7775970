#include "probe/parts.h"

#include <fmt/format.h>

#include "core/maps.h"

namespace gdn::runtime {
namespace {

enum class Shape { kScalar, kDecay, kInner, kInnerTap, kState };  // kDecay: by key channel where the rule is kda

struct Known {
  std::string_view map, name;
  Shape shape;
  bool key_dim;  // which of the two head dimensions `inner` runs along
};

constexpr Known kKnown[] = {
    {"InputQ", "q", Shape::kInner, true},
    {"InputK", "k", Shape::kInner, true},
    {"InputV", "v", Shape::kInner, false},
    {"InputZ", "z", Shape::kInner, false},
    {"InputB", "b", Shape::kScalar, false},
    {"InputA", "a", Shape::kDecay, true},
    {"InputG", "g", Shape::kDecay, true},
    {"InputBeta", "beta", Shape::kScalar, false},
    {"InputO", "o", Shape::kInner, false},
    {"OutputQ", "out.q", Shape::kInner, true},
    {"OutputK", "out.k", Shape::kInner, true},
    {"OutputV", "out.v", Shape::kInner, false},
    {"OutputZ", "out.z", Shape::kInner, false},
    {"OutputB", "out.b", Shape::kScalar, false},
    {"OutputA", "out.a", Shape::kDecay, true},
    {"OutputG", "out.g", Shape::kDecay, true},
    {"OutputBeta", "out.beta", Shape::kScalar, false},
    {"OutputO", "out.o", Shape::kInner, false},
    {"Out", "out", Shape::kInner, false},
    {"WeightQ", "conv_weight.q", Shape::kInnerTap, true},
    {"WeightK", "conv_weight.k", Shape::kInnerTap, true},
    {"WeightV", "conv_weight.v", Shape::kInnerTap, false},
    {"BiasQ", "conv_bias.q", Shape::kInner, true},
    {"BiasK", "conv_bias.k", Shape::kInner, true},
    {"BiasV", "conv_bias.v", Shape::kInner, false},
    {"WindowQ", "conv_state.q", Shape::kInnerTap, true},
    {"WindowK", "conv_state.k", Shape::kInnerTap, true},
    {"WindowV", "conv_state.v", Shape::kInnerTap, false},
    {"State", "state", Shape::kState, true},
    {"ALog", "a_log", Shape::kScalar, false},
    {"DtBias", "dt_bias", Shape::kDecay, true},
    {"NormW", "norm_weight", Shape::kInner, false},
    {"NormB", "norm_bias", Shape::kInner, false},
};

const Known* known(std::string_view map) {
  for (const Known& candidate : kKnown) {
    if (candidate.map == map) return &candidate;
  }
  return nullptr;
}

Part part_of(const core::KernelPlan& plan, const Known& known, const core::Map& map) {
  const core::Facts& facts = plan.facts;
  const core::Operand& operand = plan.operands[static_cast<std::size_t>(map.operand)];
  Part part;
  part.name = known.name;
  part.map = map;
  part.leading = operand.leading;
  if (map.heads == core::HeadKind::kKey) part.axes.push_back({"key_head", facts.key_heads});
  if (map.heads == core::HeadKind::kValue) part.axes.push_back({"value_head", facts.value_heads});
  if (known.shape == Shape::kState) part.axes.push_back({"value_dim", facts.value_dim});
  const bool single = known.shape == Shape::kScalar || (known.shape == Shape::kDecay && facts.rule == core::Rule::kGdn);
  if (!single) {
    part.axes.push_back({known.key_dim ? "key_dim" : "value_dim", known.key_dim ? facts.key_dim : facts.value_dim});
  }
  if (known.shape == Shape::kInnerTap) {
    part.axes.push_back({"tap", operand.role == core::Role::kPool ? facts.window : facts.conv_width});
  }
  return part;
}

}  // namespace

std::int64_t Part::elements() const {
  std::int64_t product = 1;
  for (const PartAxis& axis : axes) product *= axis.size;
  return product;
}

std::vector<Part> parts_of(const core::KernelPlan& plan) {
  std::vector<Part> parts;
  for (const core::NamedMap& named : core::kMaps) {
    const core::Map& map = plan.facts.*named.map;
    const Known* entry = known(named.name);
    if (!map.present() || entry == nullptr || static_cast<std::size_t>(map.operand) >= plan.operands.size()) continue;
    parts.push_back(part_of(plan, *entry, map));
  }
  return parts;
}

std::int64_t address_of(const core::Facts& facts, const Part& part, std::int64_t n) {
  const core::Map& map = part.map;
  std::int64_t address = map.offset;
  for (std::size_t i = part.axes.size(); i-- > 0;) {
    const PartAxis& axis = part.axes[i];
    const std::int64_t index = n % axis.size;
    n /= axis.size;
    if (axis.name == "key_head") {
      address += index * map.key_head_stride;
    } else if (axis.name == "value_head") {
      const bool grouped = facts.pairing == core::Pairing::kGrouped;
      address += (grouped ? index / facts.group : index % facts.key_heads) * map.key_head_stride;
      address += (grouped ? index % facts.group : index / facts.key_heads) * map.group_stride;
    } else if (axis.name == "tap") {
      address += index * map.tap_stride;
    } else if (axis.name == "value_dim" && part.name == "state") {
      address += index * map.outer_stride;
    } else {
      address += index * map.inner_stride;
    }
  }
  return address;
}

std::string coordinates_text(const Part& part, std::int64_t row, std::int64_t n) {
  std::string text;
  for (std::size_t i = part.axes.size(); i-- > 0;) {
    const PartAxis& axis = part.axes[i];
    text = fmt::format("{} {}{}{}", axis.name, n % axis.size, text.empty() ? "" : ", ", text);
    n /= axis.size;
  }
  if (part.leading != core::Leading::kNone) {
    text = fmt::format("{} {}{}{}", part.leading == core::Leading::kToken ? "row" : core::to_string(part.leading), row,
                       text.empty() ? "" : ", ", text);
  }
  return fmt::format("{}[{}]", part.name, text);
}

}  // namespace gdn::runtime
