#include "oracle/interpret.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace gdn::oracle {
namespace {

bool starts_with(const std::string& text, const std::string& prefix) { return text.rfind(prefix, 0) == 0; }

int groups(const spec::Spec& spec) { return *spec.heads.value / *spec.heads.key; }

// The part that a tensor without a packed dimension holds.
std::string own_part(const spec::Tensor& tensor) {
  for (const char* prefix : {"conv_weight_", "conv_bias_", "conv_state_"}) {
    if (starts_with(*tensor.name, prefix)) return tensor.name.value.substr(std::string(prefix).size());
  }
  return *tensor.name;
}

[[noreturn]] void refuse(const spec::Tensor& tensor, const std::string& what) {
  throw std::invalid_argument(fmt::format("tensor {}: {}", *tensor.name, what));
}

// One wheel of the odometer: how far it turns and which coordinate it moves.
struct Wheel {
  int size = 0;
  int Coordinates::* coordinate = nullptr;
};

Wheel wheel_of(const spec::Spec& spec, const spec::Tensor& tensor, const std::string& name) {
  if (name == "key_head") return {*spec.heads.key, &Coordinates::key_head};
  if (name == "value_head") return {*spec.heads.value, &Coordinates::value_head};
  if (name == "group") return {groups(spec), &Coordinates::group};
  if (name == "key_dim") return {*spec.dims.key, &Coordinates::key_channel};
  if (name == "value_dim") return {*spec.dims.value, &Coordinates::value_channel};
  if (name == "scale_group") {
    return {*spec.heads.value * *spec.dims.value / channels_of_group(spec), &Coordinates::scale_group};
  }
  if (name == "step") return {*spec.speculative.tokens, &Coordinates::tap};
  if (name == "tap") {
    if (starts_with(*tensor.name, "conv_weight")) return {*spec.conv.width, &Coordinates::tap};
    if (starts_with(*tensor.name, "conv_state")) return {*spec.conv.window, &Coordinates::tap};
    refuse(tensor, "only conv weights and conv states have taps");
  }
  refuse(tensor, fmt::format("dimension {} has no meaning here", name));
}

struct Walker {
  const spec::Spec& spec;
  const spec::Tensor& tensor;
  const std::function<bool(const std::string&, const Coordinates&)>& visit;
  Coordinates at;
  std::string part;

  // Turns the wheels of todo[from..], the last one fastest. A packed dimension is its parts one after the other, each
  // with everything that follows the packed dimension inside it.
  bool turn(const std::vector<const spec::Dim*>& todo, std::size_t from) {
    if (from == todo.size()) return visit_here();
    const spec::Dim& dim = *todo[from];
    if (dim.packed()) {
      for (const spec::Part& packed : dim.parts) {
        std::vector<const spec::Dim*> inside;
        for (const spec::Dim& own : packed.dims) inside.push_back(&own);
        inside.insert(inside.end(), todo.begin() + static_cast<std::ptrdiff_t>(from) + 1, todo.end());
        const std::string outer_part = part;
        part = *packed.name;
        const bool go_on = turn(inside, 0);
        part = outer_part;
        if (!go_on) return false;
      }
      return true;
    }
    const Wheel wheel = wheel_of(spec, tensor, *dim.name);
    if (at.*wheel.coordinate != -1) refuse(tensor, fmt::format("dimension {} appears twice", *dim.name));
    for (int x = 0; x < wheel.size; ++x) {
      at.*wheel.coordinate = x;
      if (!turn(todo, from + 1)) return false;
    }
    at.*wheel.coordinate = -1;
    return true;
  }

  bool visit_here() {
    Coordinates here = at;
    if (here.group != -1) {
      if (here.key_head == -1) refuse(tensor, "a group without its key_head");
      if (here.value_head != -1) refuse(tensor, "value_head and group name the same thing");
      here.value_head = value_head_of(spec, here.key_head, here.group);
    }
    return visit(part, here);
  }
};

}  // namespace

const PartMap* TensorMap::part(const std::string& name) const {
  for (const PartMap& map : parts) {
    if (map.name == name) return &map;
  }
  return nullptr;
}

int channels_of_group(const spec::Spec& spec) {
  const spec::OutputQuant& quant = spec.output_quant;
  if (!*quant.given) return 0;
  if (*quant.group == spec::OutputQuant::kHead) return *spec.dims.value;
  if (*quant.group == spec::OutputQuant::kToken) return *spec.heads.value * *spec.dims.value;
  return *quant.group;
}

int value_head_of(const spec::Spec& spec, int key_head, int group) {
  if (*spec.heads.pairing == core::Pairing::kTiled) return group * *spec.heads.key + key_head;
  return key_head * groups(spec) + group;
}

int key_head_of(const spec::Spec& spec, int value_head) {
  if (*spec.heads.pairing == core::Pairing::kTiled) return value_head % *spec.heads.key;
  return value_head / groups(spec);
}

void walk(const spec::Spec& spec, const spec::Tensor& tensor,
          const std::function<bool(const std::string&, const Coordinates&)>& visit) {
  std::vector<const spec::Dim*> todo;
  for (std::size_t i = 0; i < tensor.dims.size(); ++i) {
    const spec::Dim& dim = tensor.dims[i];
    if (*dim.name == "token" || *dim.name == "slot" || *dim.name == "sequence") {
      const bool behind_groups = i == 1 && *tensor.dims[0].name == "scale_group" && tensor.dims.size() == 2;
      if (i != 0 && !behind_groups) refuse(tensor, fmt::format("{} is not the first dimension", *dim.name));
      continue;
    }
    todo.push_back(&dim);
  }
  Walker walker{spec, tensor, visit, Coordinates{}, own_part(tensor)};
  walker.turn(todo, 0);
}

TensorMap interpret(const spec::Spec& spec, const spec::Tensor& tensor) {
  TensorMap map;
  if (!tensor.dims.empty()) {
    const std::string& first = *tensor.dims.front().name;
    if (first == "token") map.leading = Leading::kToken;
    if (first == "slot") map.leading = Leading::kSlot;
    if (first == "scale_group") map.leading = Leading::kScaleGroup;
    if (first == "sequence") map.leading = Leading::kSequence;
    map.launch_stride = tensor.dims.front().at_launch;
  }

  // The largest coordinates that the walk meets are the extents of a part.
  struct Seen {
    std::string name;
    std::vector<std::pair<Coordinates, std::int64_t>> elements;  // with their positions
    Coordinates largest;
  };
  std::vector<Seen> seen;
  std::int64_t position = 0;
  std::size_t last = 0;
  walk(spec, tensor, [&](const std::string& part, const Coordinates& at) {
    if (seen.empty() || seen[last].name != part) {
      const auto known = std::find_if(seen.begin(), seen.end(), [&](const Seen& s) { return s.name == part; });
      last = static_cast<std::size_t>(known - seen.begin());
      if (known == seen.end()) seen.push_back(Seen{part, {}, {}});
    }
    Seen& s = seen[last];
    for (auto coordinate :
         {&Coordinates::key_head, &Coordinates::group, &Coordinates::value_head, &Coordinates::key_channel,
          &Coordinates::value_channel, &Coordinates::tap, &Coordinates::scale_group}) {
      s.largest.*coordinate = std::max(s.largest.*coordinate, at.*coordinate);
    }
    s.elements.emplace_back(at, position++);
    return true;
  });
  if (position > std::numeric_limits<std::int32_t>::max()) refuse(tensor, "a row has more than 2^31 elements");
  map.inner = position;
  if (*tensor.name == "a_log" && *spec.decay.a_log_padded) map.inner = *spec.decay.a_log_entries;  // zeros behind them

  for (const Seen& s : seen) {
    PartMap part;
    part.name = s.name;
    const bool of_values = s.largest.value_head != -1;
    if (of_values) {
      part.heads_of = HeadsOf::kValue;
    } else if (s.largest.key_head != -1) {
      part.heads_of = HeadsOf::kKey;
    }
    part.heads = 1 + std::max(0, of_values ? s.largest.value_head : s.largest.key_head);
    if (s.largest.scale_group != -1) part.heads = 1 + s.largest.scale_group;
    part.key_dim = 1 + std::max(0, s.largest.key_channel);
    part.value_dim = 1 + std::max(0, s.largest.value_channel);
    part.taps = 1 + std::max(0, s.largest.tap);
    part.offset.assign(static_cast<std::size_t>(part.count()), -1);
    for (const auto& [at, where] : s.elements) {
      const int head = std::max({0, of_values ? at.value_head : at.key_head, at.scale_group});
      std::int32_t& place = part.offset[static_cast<std::size_t>(
          part.index(head, std::max(0, at.key_channel), std::max(0, at.value_channel), std::max(0, at.tap)))];
      if (place != -1) refuse(tensor, fmt::format("an element of part {} lies at two places", s.name));
      place = static_cast<std::int32_t>(where);
    }
    if (std::count(part.offset.begin(), part.offset.end(), -1) != 0) {
      refuse(tensor, fmt::format("an element of part {} lies nowhere", s.name));
    }
    map.parts.push_back(std::move(part));
  }
  return map;
}

std::string describe(const spec::Spec& spec, const spec::Tensor& tensor, std::int64_t position) {
  std::string text;
  std::int64_t left = position;
  walk(spec, tensor, [&](const std::string& part, const Coordinates& at) {
    if (left-- > 0) return true;
    text = part;
    if (at.value_head != -1) {
      const int key_head = key_head_of(spec, at.value_head);
      int group = 0;
      while (group + 1 < groups(spec) && value_head_of(spec, key_head, group) != at.value_head) ++group;
      text += fmt::format(", value head {} (key head {}, group {})", at.value_head, key_head, group);
    } else if (at.key_head != -1) {
      text += fmt::format(", key head {}", at.key_head);
    }
    if (at.key_channel != -1) text += fmt::format(", key channel {}", at.key_channel);
    if (at.value_channel != -1) text += fmt::format(", value channel {}", at.value_channel);
    if (at.scale_group != -1) text += fmt::format(", scale group {}", at.scale_group);
    if (at.tap != -1) text += fmt::format(", tap {}", at.tap);
    return false;
  });
  return text.empty() ? fmt::format("position {}, outside the row", position) : text;
}

}  // namespace gdn::oracle
