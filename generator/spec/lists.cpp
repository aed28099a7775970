#include "spec/lists.h"

#include <fmt/format.h>

#include <algorithm>

#include "spec/rules.h"
#include "spec/scalars.h"

namespace gdn::spec {
namespace {

class ListReader {
 public:
  ListReader(const Key& key, std::string_view path, Diagnostics& diagnostics)
      : key_(key), path_(path), diagnostics_(diagnostics) {
    entry_.type = key.type == ValueType::kIntegers ? ValueType::kInteger : ValueType::kWord;
    entry_.words = key.words;
  }

  std::optional<Value> read(const Node& node) {
    Value value;
    value.place = node.place;
    bool good = true;
    for (const Node& item : node.items) {
      const std::optional<Value> one = read_value(entry_, item, path_, item.place, diagnostics_);
      if (!one) {
        good = false;
      } else if (key_.type == ValueType::kIntegers) {
        value.integers.push_back(static_cast<int>(one->integer));
      } else if (std::find(value.words.begin(), value.words.end(), one->text) != value.words.end()) {
        diagnostics_.error(item.place, id(RuleId::kValueTwice), fmt::format("{} lists {} twice", path_, one->text));
        good = false;
      } else {
        value.words.push_back(one->text);
      }
    }
    if (!good) return std::nullopt;
    return value;
  }

 private:
  const Key& key_;
  std::string_view path_;
  Diagnostics& diagnostics_;
  Key entry_;  // of one entry
};

}  // namespace

std::optional<Value> read_list(const Key& key, const Node& node, std::string_view path, Place key_place,
                               Diagnostics& diagnostics) {
  const bool may_be_unread = key.type == ValueType::kIntegers;
  if (node.kind == Node::Kind::kList && (!node.items.empty() || !may_be_unread)) {
    return ListReader(key, path, diagnostics).read(node);
  }
  if (may_be_unread && node.kind == Node::Kind::kScalar && node.text == kUnreadWord && !node.quoted) {
    Value value;
    value.place = node.place;
    value.unread = true;
    return value;
  }
  switch (node.kind) {
    case Node::Kind::kRefused:
      break;
    case Node::Kind::kEmpty:
      diagnostics.error(key_place, id(RuleId::kYamlEmpty),
                        fmt::format("{} has no value: write {}", path, wanted_text(key)));
      break;
    default:
      diagnostics.error(node.place, id(RuleId::kValueType), fmt::format("{} is not {}", path, wanted_text(key)));
  }
  return std::nullopt;
}

}  // namespace gdn::spec
