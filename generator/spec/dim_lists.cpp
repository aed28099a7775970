#include "spec/dim_lists.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "spec/rules.h"
#include "spec/scalars.h"
#include "spec/tensor_keys.h"

namespace gdn::spec {
namespace {

constexpr std::string_view kAtLaunch = "@launch";

Dim plain(std::string_view name, Place place, bool at_launch = false) {
  return {{std::string(name), place}, at_launch, {}};
}

Part part(std::string_view name, const std::vector<std::string_view>& dims, Place place) {
  Part result{{std::string(name), place}, {}};
  for (const std::string_view dim : dims) result.dims.push_back(plain(dim, place));
  return result;
}

// channel: the channels of the convolution, q, k and v one after the other.
Dim channel(Place place) {
  Dim dim{{"", place}, false, {}};
  dim.parts = {part("q", {"key_head", "key_dim"}, place), part("k", {"key_head", "key_dim"}, place),
               part("v", {"value_head", "value_dim"}, place)};
  return dim;
}

// Whether a tensor's name spells two or more parts, each once: qkvz, ba, qkv, ...
bool spells_parts(std::string_view name) {
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (!part_holds(name.substr(i, 1)) || name.find(name[i], i + 1) != std::string_view::npos) return false;
  }
  return name.size() >= 2;
}

// The packed dimension of a projection whose name spells its parts. Interleaved: below a key head, so that a part has
// what one key head owns of it.
Dim projection(std::string_view name, bool interleaved, core::Rule rule, Place place) {
  Dim dim{{"", place}, false, {}};
  for (std::size_t i = 0; i < name.size(); ++i) {
    const std::string_view letter = name.substr(i, 1);
    std::vector<std::string_view> dims;
    switch (*part_holds(letter)) {
      case Holds::kKeyChannels:
        dims = interleaved ? std::vector<std::string_view>{"key_dim"}
                           : std::vector<std::string_view>{"key_head", "key_dim"};
        break;
      case Holds::kValueChannels:
        dims = {interleaved ? "group" : "value_head", "value_dim"};
        break;
      case Holds::kDecays:
        dims = {interleaved ? "group" : "value_head"};
        if (rule == core::Rule::kKda) dims.push_back("key_dim");
        break;
      default:
        dims = {interleaved ? "group" : "value_head"};
        break;
    }
    dim.parts.push_back(part(letter, dims, place));
  }
  return dim;
}

class DimReader {
 public:
  DimReader(std::string_view path, core::Rule rule, Diagnostics& diagnostics)
      : path_(path), rule_(rule), diagnostics_(diagnostics) {}

  std::optional<std::vector<Dim>> list(const Node& node) {
    if (node.items.empty()) {
      refuse(node.place, RuleId::kDimEntry, fmt::format("{} has an empty list of dimensions", path_));
      return std::nullopt;
    }
    std::vector<Dim> dims;
    bool good = true;
    for (const Node& item : node.items) {
      std::optional<Dim> dim = entry(item);
      good = good && dim;
      if (dim) dims.push_back(std::move(*dim));
    }
    if (!good) return std::nullopt;
    return dims;
  }

  std::optional<std::vector<Dim>> shorthand(const Node& node, std::string_view name) {
    const Place place = node.place;
    if (node.text == "interleaved" || node.text == "flat") {
      if (!spells_parts(name)) {
        return refuse(
            place, RuleId::kShorthand,
            fmt::format("{} = {} needs a tensor whose name spells its parts, such as qkvz or ba: rename {} or "
                        "write the list",
                        path_, node.text, quote(name)));
      }
      std::vector<Dim> dims = {plain("token", place, true)};
      if (node.text == "interleaved") dims.push_back(plain("key_head", place));
      dims.push_back(projection(name, node.text == "interleaved", rule_, place));
      return dims;
    }
    if (node.text == "SD" || node.text == "DS") {
      if (name != "conv_state") {
        return refuse(place, RuleId::kShorthand,
                      fmt::format("{} = {} is a list of conv_state only: write the list", path_, node.text));
      }
      std::vector<Dim> dims = {plain("slot", place, true)};
      if (node.text == "SD") dims.push_back(plain("tap", place));
      dims.push_back(channel(place));
      if (node.text == "DS") dims.push_back(plain("tap", place));
      return dims;
    }
    return refuse(place, RuleId::kShorthand,
                  fmt::format("{} = {} is not a list of dimensions, nor one of interleaved, flat, SD, DS", path_,
                              quote(node.text)));
  }

  std::nullopt_t refuse(Place place, RuleId rule, std::string message) {
    diagnostics_.error(place, id(rule), std::move(message));
    return std::nullopt;
  }

 private:
  std::optional<Dim> entry(const Node& node) {
    switch (node.kind) {
      case Node::Kind::kScalar:
        return named(node);
      case Node::Kind::kMap:
        return packed(node);
      case Node::Kind::kRefused:
        return std::nullopt;
      case Node::Kind::kEmpty:
      case Node::Kind::kList:
        break;
    }
    return refuse(node.place, RuleId::kDimEntry,
                  fmt::format("{}: an entry is a dimension's name or a map from parts to lists, not {}", path_,
                              node.kind == Node::Kind::kList ? "a list" : "nothing"));
  }

  std::optional<Dim> named(const Node& node) {
    std::string_view name = node.text;
    const bool at_launch = name.size() > kAtLaunch.size() && name.substr(name.size() - kAtLaunch.size()) == kAtLaunch;
    if (at_launch) name.remove_suffix(kAtLaunch.size());
    if (name == "channel" && !at_launch) return channel(node.place);
    std::vector<std::string_view> names;
    for (const DimName& dim : dim_names()) {
      if (dim.name == name) return plain(name, node.place, at_launch);
      names.push_back(dim.name);
    }
    names.push_back("channel");
    const std::string_view near = nearest(name, names);
    return refuse(
        node.place, RuleId::kDimUnknown,
        fmt::format("{}: {} is not a dimension{}", path_, quote(node.text),
                    near.empty() ? "; there are " + listed(names, "and") : fmt::format("; did you mean {}?", near)));
  }

  std::optional<Dim> packed(const Node& node) {
    Dim dim{{"", node.place}, false, {}};
    bool good = !node.entries.empty() && !node.incomplete;
    if (node.entries.empty())
      refuse(node.place, RuleId::kDimEntry, fmt::format("{}: a packed dimension has no parts", path_));
    for (const Entry& entry : node.entries) {
      Part part{{entry.key, entry.place}, {}};
      std::optional<std::vector<Dim>> dims;
      if (entry.value.kind == Node::Kind::kList) {
        dims = list(entry.value);
      } else if (entry.value.kind != Node::Kind::kRefused) {
        const bool empty = entry.value.kind == Node::Kind::kEmpty;
        refuse(empty ? entry.place : entry.value.place, empty ? RuleId::kYamlEmpty : RuleId::kDimEntry,
               fmt::format("{}: part {} needs its list of dimensions, such as [key_head, key_dim]", path_,
                           quote(entry.key)));
      }
      good = good && dims;
      if (dims) part.dims = std::move(*dims);
      dim.parts.push_back(std::move(part));
    }
    if (!good) return std::nullopt;
    return dim;
  }

  std::string_view path_;
  core::Rule rule_;
  Diagnostics& diagnostics_;
};

}  // namespace

std::optional<std::vector<Dim>> read_dims(const Node& node, std::string_view path, std::string_view name,
                                          core::Rule rule, Place key_place, Diagnostics& diagnostics) {
  DimReader reader(path, rule, diagnostics);
  switch (node.kind) {
    case Node::Kind::kList:
      return reader.list(node);
    case Node::Kind::kScalar:
      return reader.shorthand(node, name);
    case Node::Kind::kRefused:
      return std::nullopt;
    case Node::Kind::kEmpty:
      return reader.refuse(key_place, RuleId::kYamlEmpty, fmt::format("{}.dims has no value: write a list", path));
    case Node::Kind::kMap:
      break;
  }
  return reader.refuse(node.place, RuleId::kValueType,
                       fmt::format("{}.dims is a map: write a list of dimensions", path));
}

}  // namespace gdn::spec
