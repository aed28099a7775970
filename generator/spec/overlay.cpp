#include "spec/overlay.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "spec/keys.h"
#include "spec/rules.h"
#include "spec/tensor_keys.h"

namespace gdn::spec {
namespace {

Entry* find(Node& map, std::string_view key) {
  for (Entry& entry : map.entries) {
    if (entry.key == key) return &entry;
  }
  return nullptr;
}

void replace(Node& map, Entry entry) {
  if (Entry* known = find(map, entry.key)) {
    *known = std::move(entry);
  } else {
    map.entries.push_back(std::move(entry));
  }
}

bool is_tensor_section(std::string_view name) {
  return std::any_of(tensor_sections().begin(), tensor_sections().end(),
                     [&](const SectionKey& section) { return section.name == name; });
}

// The key of the table, or null.
const Key* known_key(std::string_view path) {
  for (const Key& key : keys()) {
    if (key.path == path) return &key;
  }
  return nullptr;
}

class Overlay {
 public:
  Overlay(Node& spec, const std::string& file, Diagnostics& diagnostics)
      : spec_(spec), file_(file), diagnostics_(diagnostics) {}

  void apply(Node overlay) {
    check_head(overlay);
    check_for(overlay);
    for (Entry& entry : overlay.entries) {
      if (entry.key == "gdn_gen" || entry.key == "overlay" || entry.key == "engine" || entry.key == "for") continue;
      if (entry.value.kind != Node::Kind::kMap) {
        top(std::move(entry));
      } else if (entry.key == "inputs") {
        replace(spec_, std::move(entry));
      } else if (is_tensor_section(entry.key)) {
        tensors(std::move(entry));
      } else {
        keys_of(std::move(entry));
      }
    }
  }

 private:
  void error(Place place, RuleId rule, std::string message) { diagnostics_.error(place, id(rule), std::move(message)); }

  void check_head(const Node& overlay) {
    const auto text = [&](const char* key) -> const Node* {
      const Entry* entry = overlay.find(key);
      return entry && entry->value.kind == Node::Kind::kScalar ? &entry->value : nullptr;
    };
    const Place file{0, 0, 1, overlay.place.source};
    const Node* version = text("gdn_gen");
    if (!version || version->text != "1" || version->quoted) {
      error(version ? version->place : file, RuleId::kOverlayHead, "an overlay says gdn_gen: 1, the language it is in");
    }
    const std::string name = overlay_name(file_);
    const Node* overlaid = text("overlay");
    if (!overlaid || overlaid->text != name) {
      error(overlaid ? overlaid->place : file, RuleId::kOverlayHead,
            fmt::format("an overlay says its own name: write overlay: {}, as the file is called", name));
    }
    if (!text("engine")) error(file, RuleId::kOverlayHead, "an overlay says whose choices it holds: write engine: ...");
  }

  // What stands under `for`, against the spec as the model's file says it.
  void check_for(const Node& overlay) {
    const Entry* entry = overlay.find("for");
    if (!entry) return;
    if (entry->value.kind != Node::Kind::kMap || entry->value.entries.empty()) {
      bad_for(entry->value.place);
      return;
    }
    for (const Entry& leaf : entry->value.entries) {
      if (leaf.key == "rule") {
        check_rule(leaf.value);
      } else if (leaf.key == "models") {
        check_models(leaf.value);
      } else {
        bad_for(leaf.place);
      }
    }
  }

  void bad_for(Place place) {
    error(place, RuleId::kOverlayHead,
          "an overlay is for a rule or for models: write for: {rule: gdn} or for: {models: [qwen3_5_*]}, or both");
  }

  // A scalar of the spec's top, as written; empty when it is missing, which the reader reports.
  std::string top_of_spec(std::string_view key) const {
    const Entry* entry = spec_.find(key);
    return entry && entry->value.kind == Node::Kind::kScalar ? entry->value.text : std::string();
  }

  void check_rule(const Node& rule) {
    if (rule.kind != Node::Kind::kScalar || (rule.text != "gdn" && rule.text != "kda")) {
      bad_for(rule.place);
      return;
    }
    const std::string has = top_of_spec("rule");
    if (has.empty() || has == rule.text) return;
    error(rule.place, RuleId::kOverlayFor,
          fmt::format("{} is for layers with rule: {}, and {} has rule: {}: look for this engine's other overlay",
                      overlay_name(file_), rule.text, top_of_spec("name"), has));
  }

  void check_models(const Node& models) {
    if (models.kind != Node::Kind::kList || models.items.empty()) {
      bad_for(models.place);
      return;
    }
    const std::string name = top_of_spec("name");
    bool fits = name.empty();
    std::string list;
    for (const Node& item : models.items) {
      if (item.kind != Node::Kind::kScalar || item.text.empty()) {
        bad_for(item.place);
        return;
      }
      fits = fits || matches(item.text, name);
      list += (list.empty() ? "" : ", ") + item.text;
    }
    if (fits) return;
    error(models.place, RuleId::kOverlayFor,
          fmt::format("{0} is for {1}, and {2} isn't one of them: look for this engine's other overlay, or write {2} "
                      "here once its layout in this engine was read",
                      overlay_name(file_), list, name));
  }

  // A star at the end stands for any rest.
  static bool matches(const std::string& pattern, const std::string& name) {
    if (pattern.back() != '*') return pattern == name;
    return name.compare(0, pattern.size() - 1, pattern, 0, pattern.size() - 1) == 0;
  }

  // A key at the top that is no section: the model's, or a mistake that the reader reports.
  void top(Entry entry) {
    if (const Key* key = known_key(entry.key); key && !key->engine) {
      refuse(entry.place, entry.key);
      return;
    }
    replace(spec_, std::move(entry));
  }

  void refuse(Place place, std::string_view path) {
    error(place, RuleId::kOverlayModel,
          fmt::format("{} is the model's: an overlay sets what an engine may choose", path));
  }

  Entry& section_of_spec(const Entry& entry) {
    Entry* section = find(spec_, entry.key);
    if (!section || section->value.kind != Node::Kind::kMap) {
      Entry empty{entry.key, entry.place, {}};
      empty.value.kind = Node::Kind::kMap;
      empty.value.place = entry.value.place;
      replace(spec_, std::move(empty));
      section = find(spec_, entry.key);
    }
    return *section;
  }

  void keys_of(Entry entry) {
    Entry& section = section_of_spec(entry);
    for (Entry& leaf : entry.value.entries) {
      const std::string path = entry.key + "." + leaf.key;
      const Key* key = known_key(path);
      if (key && !key->engine) {
        refuse(leaf.place, path);
      } else {
        replace(section.value, std::move(leaf));
      }
    }
  }

  void tensors(Entry entry) {
    Entry& section = section_of_spec(entry);
    for (Entry& tensor : entry.value.entries) {
      drop_other_form(section.value, tensor.key);
      Entry* known = find(section.value, tensor.key);
      const bool both = known && known->value.kind == Node::Kind::kMap && tensor.value.kind == Node::Kind::kMap;
      if (!both) {
        replace(section.value, std::move(tensor));
        continue;
      }
      known->place = tensor.place;
      for (Entry& leaf : tensor.value.entries) replace(known->value, std::move(leaf));
    }
  }

  // conv_state replaces conv_state_q, _k and _v, and each of these replaces conv_state.
  void drop_other_form(Node& section, const std::string& name) {
    for (const std::string stem : {"conv_weight", "conv_bias", "conv_state"}) {
      const bool whole = name == stem, part = name == stem + "_q" || name == stem + "_k" || name == stem + "_v";
      if (!whole && !part) continue;
      auto& entries = section.entries;
      entries.erase(std::remove_if(entries.begin(), entries.end(),
                                   [&](const Entry& other) {
                                     return part ? other.key == stem
                                                 : other.key == stem + "_q" || other.key == stem + "_k" ||
                                                       other.key == stem + "_v";
                                   }),
                    entries.end());
    }
  }

  Node& spec_;
  const std::string& file_;
  Diagnostics& diagnostics_;
};

}  // namespace

void apply_overlay(Node& spec, Node overlay, const std::string& file, Diagnostics& diagnostics) {
  Overlay(spec, file, diagnostics).apply(std::move(overlay));
}

std::string overlay_name(const std::string& file) {
  const std::string base = file.substr(file.find_last_of('/') + 1);
  const std::size_t dot = base.rfind(".yaml");
  return dot == std::string::npos ? base : base.substr(0, dot);
}

}  // namespace gdn::spec
