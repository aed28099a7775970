#include "review/language.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "spec/keys.h"
#include "spec/rules.h"
#include "spec/tensor_keys.h"

namespace gdn::review {
namespace {

using nlohmann::ordered_json;
using spec::Holds;
using spec::Key;
using spec::ValueType;

std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string values_of(const Key& key) {
  if (key.type == ValueType::kDtype) return "`bf16`, `fp16`, or `fp32` for no rounding";
  if (key.words.empty()) {
    switch (key.type) {
      case ValueType::kIntegerOrUnread:
        return "a whole number, or `unread`";
      case ValueType::kIntegers:
        return "a list of whole numbers, or `unread`";
      case ValueType::kInteger:
        return "a whole number";
      case ValueType::kReal:
        return "a number";
      case ValueType::kRealOrNone:
        return "a number, or `none`";
      case ValueType::kScale:
        return "a number, `key_dim^-0.5` or `key_dim^-0.25`";
      case ValueType::kBoolean:
        return "`true`, `false`";
      default:
        return "text";
    }
  }
  std::string text = key.type == ValueType::kWords   ? "a list of "
                     : key.type == ValueType::kCount ? "a whole number, "
                                                     : "";
  const std::size_t start = text.size();
  for (const spec::Word& word : key.words) {
    text += fmt::format("{}`{}`{}", text.size() == start ? "" : ", ", word.text, word.later ? " (not yet)" : "");
  }
  return text;
}

std::string dims_of(const spec::TensorKey& key) {
  std::string text = key.leads == spec::Leads::kToken      ? "token"
                     : key.leads == spec::Leads::kSlot     ? "slot"
                     : key.leads == spec::Leads::kSequence ? "sequence"
                                                           : "";
  const auto add = [&](std::string_view name) { text += fmt::format("{}{}", text.empty() ? "" : ", ", name); };
  switch (key.holds) {
    case Holds::kInputParts:
      add("the part that it is named after, or a packed dimension of parts");
      break;
    case Holds::kConvParts:
      add("channel (q, k and v packed)");
      break;
    case Holds::kKeyChannels:
      add("key_head, key_dim");
      break;
    case Holds::kValueChannels:
      add("value heads, value_dim");
      break;
    case Holds::kValueHeads:
      add("value heads");
      break;
    case Holds::kDecays:
      add("value heads; and key_dim where rule is kda");
      break;
    case Holds::kValueDim:
      add("value_dim");
      break;
    case Holds::kState:
      add("value heads, key_dim, value_dim");
      break;
    case Holds::kStateRows:
      add("value heads, value_dim");
      break;
    case Holds::kScaleGroups:
      add("scale_group, in either order");
      break;
  }
  if (key.tap) add("tap");
  if (key.step) add("step");
  return text;
}

std::string dtypes_of(const spec::TensorKey& key) {
  std::string text;
  for (const core::DType dtype : spec::dtypes(key.dtypes)) {
    text += fmt::format("{}{}", text.empty() ? "" : ", ", core::to_string(dtype));
  }
  return text;
}

// "conv" of "conv.width"; empty for a key at the top.
std::string_view section_of(std::string_view path) {
  const std::size_t dot = path.find('.');
  return dot == std::string_view::npos ? std::string_view() : path.substr(0, dot);
}

ordered_json schema_of(const Key& key) {
  ordered_json schema;
  ordered_json words = ordered_json::array();
  for (const spec::Word& word : key.words) {
    if (!word.later) words.push_back(word.text);
  }
  switch (key.type) {
    case ValueType::kInteger:
      schema["type"] = "integer";
      break;
    case ValueType::kReal:
      schema["type"] = "number";
      break;
    case ValueType::kRealOrNone:
      schema["anyOf"] = {{{"type", "number"}}, {{"const", "none"}}};
      break;
    case ValueType::kScale:
      schema["anyOf"] = {{{"type", "number"}}, {{"enum", {"key_dim^-0.5", "key_dim^-0.25"}}}};
      break;
    case ValueType::kBoolean:
      schema["type"] = "boolean";
      break;
    case ValueType::kText:
      schema["type"] = "string";
      break;
    case ValueType::kWord:
      schema["enum"] = std::move(words);
      break;
    case ValueType::kCount:
      schema["anyOf"] = {{{"type", "integer"}, {"minimum", 1}}, {{"enum", std::move(words)}}};
      break;
    case ValueType::kDtype:
      schema["enum"] = {"bf16", "fp16", "fp32"};
      break;
    case ValueType::kIntegerOrUnread:
      schema["anyOf"] = {{{"type", "integer"}}, {{"const", "unread"}}};
      break;
    case ValueType::kIntegers:
      schema["anyOf"] = {{{"type", "array"}, {"minItems", 1}, {"items", {{"type", "integer"}}}}, {{"const", "unread"}}};
      break;
    case ValueType::kWords:
      schema["type"] = "array";
      schema["uniqueItems"] = true;
      schema["items"] = {{"enum", std::move(words)}};
      break;
  }
  schema["description"] = key.help;
  return schema;
}

ordered_json object_schema() {
  return {{"type", "object"},
          {"additionalProperties", false},
          {"required", ordered_json::array()},
          {"properties", ordered_json::object()}};
}

ordered_json tensor_schema(const spec::TensorKey& key) {
  ordered_json dtypes = ordered_json::array();
  for (const core::DType dtype : spec::dtypes(key.dtypes)) dtypes.push_back(core::to_string(dtype));
  ordered_json schema = object_schema();
  schema["required"] = {"dtype", "dims"};
  schema["properties"]["dtype"] = {{"enum", std::move(dtypes)}};
  schema["properties"]["dims"] = {{"$ref", "#/definitions/dims"}};
  schema["properties"]["replicated"] = {{"type", "boolean"}};
  schema["description"] = key.help;
  return schema;
}

}  // namespace

std::string language_markdown() {
  std::string text =
      "| key | values | unit | meaning | chosen by | rules | prevents |\n|---|---|---|---|---|---|---|\n";
  for (const Key& key : spec::keys()) {
    std::string rules;
    for (const spec::RuleId rule : key.rules) rules += fmt::format("{}{}", rules.empty() ? "" : ", ", spec::id(rule));
    std::string help = cell(key.help);
    if (!key.applies_text.empty()) help += fmt::format(" (only where {})", cell(key.applies_text));
    text += fmt::format("| `{}` | {} | {} | {} | {} | {} | {} |\n", key.path, values_of(key), key.unit, help,
                        key.engine ? "engine" : "model", rules, cell(key.prevents));
  }
  for (const spec::OptionalSection& section : spec::optional_sections()) {
    text += fmt::format("| `{}` | `none`, or its keys |  | {} | engine |  | {} |\n", section.name, section.help,
                        section.prevents);
  }
  for (const spec::LaterKey& key : spec::later_keys()) {
    text += fmt::format("| `{}` | `none` |  | {} | model | later |  |\n", key.path, key.help);
  }
  text +=
      "| `unverified` | a list of keys and tensors; may be left out |  | values that nobody has read in the model's "
      "own files: every command warns | model | unverified | hearsay that becomes a fact by being copied |\n";

  text += "\n| tensor | dimensions | dtypes | holds |\n|---|---|---|---|\n";
  for (const spec::TensorKey& key : spec::tensor_keys()) {
    text += fmt::format("| `{}.{}` | {} | {} | {}{} |\n", key.section, key.name == "*" ? "(any name)" : key.name,
                        dims_of(key), dtypes_of(key), cell(key.help), key.later ? " (not yet)" : "");
  }
  text += "\n| dimension | size |\n|---|---|\n";
  for (const spec::DimName& dim : spec::dim_names()) text += fmt::format("| `{}` | {} |\n", dim.name, dim.help);
  text += "\n| rule | says |\n|---|---|\n";
  for (const spec::RuleText& rule : spec::rules()) text += fmt::format("| {} | {} |\n", rule.id, cell(rule.says));
  return text;
}

std::string language_schema() {
  ordered_json root = object_schema();
  root["$schema"] = "http://json-schema.org/draft-07/schema#";
  root["title"] = "A gdn-gen spec";
  for (const Key& key : spec::keys()) {
    const std::string section(section_of(key.path));
    ordered_json* home = &root;
    if (!section.empty()) {
      if (!root["properties"].contains(section)) {
        root["properties"][section] = object_schema();
        root["required"].push_back(section);
      }
      home = &root["properties"][section];
    }
    const std::string leaf(key.path.substr(section.empty() ? 0 : section.size() + 1));
    (*home)["properties"][leaf] = schema_of(key);
    if (key.applies == nullptr) (*home)["required"].push_back(leaf);
  }
  // A section whose kind may be none may be that word, and then has no other key.
  for (auto& [name, schema] : root["properties"].items()) {
    if (!schema.contains("properties") || !schema["properties"].contains("kind")) continue;
    const ordered_json& kinds = schema["properties"]["kind"]["enum"];
    if (std::find(kinds.begin(), kinds.end(), "none") == kinds.end()) continue;
    schema = {{"anyOf", {{{"const", "none"}}, schema}}};
  }
  for (const spec::OptionalSection& section : spec::optional_sections()) {
    ordered_json& schema = root["properties"][std::string(section.name)];
    schema = {{"anyOf", {{{"const", "none"}}, schema}}, {"description", section.help}};
  }
  for (const spec::LaterKey& key : spec::later_keys()) {
    root["properties"][std::string(key.path)] = {{"const", "none"}, {"description", key.help}};
    root["required"].push_back(key.path);
  }
  root["properties"]["unverified"] = {
      {"type", "array"},
      {"minItems", 1},
      {"items", {{"type", "string"}}},
      {"description", "keys and tensors whose values nobody has read in the model's files"}};
  for (const spec::SectionKey& section : spec::tensor_sections()) {
    ordered_json schema = object_schema();
    schema.erase("required");
    schema["description"] = section.help;
    for (const spec::TensorKey& key : spec::tensor_keys()) {
      if (key.section != section.name || key.later) continue;
      if (key.name == "*") {
        schema["additionalProperties"] = tensor_schema(key);
      } else {
        schema["properties"][std::string(key.name)] = tensor_schema(key);
      }
    }
    root["properties"][std::string(section.name)] = std::move(schema);
    root["required"].push_back(section.name);
  }
  ordered_json names = ordered_json::array();
  for (const spec::DimName& dim : spec::dim_names()) names.push_back(dim.name);
  names.push_back("channel");
  names.push_back("token@launch");
  names.push_back("slot@launch");
  names.push_back("scale_group@launch");
  names.push_back("sequence@launch");
  const ordered_json plain = {{"type", "array"}, {"minItems", 1}, {"items", {{"enum", names}}}};
  const ordered_json packed = {{"type", "object"},
                               {"minProperties", 1},
                               {"additionalProperties", plain},
                               {"propertyNames", {{"enum", {"q", "k", "v", "z", "b", "a"}}}}};
  root["definitions"]["dims"] = {
      {"description", "dimensions, slowest first, or a shorthand for them"},
      {"anyOf",
       {{{"enum", {"interleaved", "flat", "SD", "DS"}}},
        {{"type", "array"}, {"minItems", 1}, {"items", {{"anyOf", {{{"enum", names}}, packed}}}}}}}};
  return root.dump(2) + "\n";
}

}  // namespace gdn::review
