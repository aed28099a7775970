#include "spec/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <iterator>
#include <memory>
#include <set>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include "spec/dim_lists.h"
#include "spec/document.h"
#include "spec/keys.h"
#include "spec/overlay.h"
#include "spec/rules.h"
#include "spec/scalars.h"
#include "spec/tensor_keys.h"
#include "spec/validator.h"
#include "spec/validator_norm.h"

namespace gdn::spec {
namespace {

std::string joined(std::string_view section, std::string_view key) {
  return section.empty() ? std::string(key) : fmt::format("{}.{}", section, key);
}

std::string_view section_of(std::string_view path) {
  const std::size_t dot = path.find('.');
  return dot == std::string_view::npos ? std::string_view() : path.substr(0, dot);
}

std::string_view leaf_of(std::string_view path) { return path.substr(path.find('.') + 1); }

// Reads one document by the tables of keys.h. A key with a typing mistake is read as the key that it resembles, so that
// the mistake is reported once, and not a second time as a missing key.
class SpecReader {
 public:
  SpecReader(const Node& root, bool overlaid, Spec& spec, Diagnostics& diagnostics)
      : root_(root), overlaid_(overlaid), spec_(spec), diagnostics_(diagnostics) {}

  void read() {
    match_top();
    for (const Key& key : keys()) read_key(key);
    for (const LaterKey& key : later_keys()) read_later(key);
    for (const SectionKey& section : tensor_sections()) read_section(section);
    read_unverified();
    unread_is_unverified();
    report_missing_sections();
    evaluate_scales();
  }

 private:
  using Names = std::vector<std::string_view>;

  void error(Place place, RuleId rule, std::string message) { diagnostics_.error(place, id(rule), std::move(message)); }

  // The entries of a map by the key that they are meant to be.
  struct Matched {
    std::vector<std::pair<std::string_view, const Entry*>> entries;

    const Entry* find(std::string_view name) const {
      for (const auto& [known, entry] : entries) {
        if (known == name) return entry;
      }
      return nullptr;
    }
  };

  Matched match(const Node& map, std::string_view section, const Names& known) {
    Matched matched;
    std::vector<const Entry*> strangers;
    for (const Entry& entry : map.entries) {
      bool found = false;
      for (const std::string_view name : known) {
        if (name != entry.key) continue;
        matched.entries.emplace_back(name, &entry);
        found = true;
      }
      if (!found) strangers.push_back(&entry);
    }
    for (const Entry* entry : strangers) {
      // Hints are for people: a file with more mistakes than are kept gets none for the rest.
      const bool shown = diagnostics_.dropped() == 0;
      const std::string_view near = shown ? nearest(entry->key, known) : std::string_view();
      std::string hint;
      if (!near.empty()) {
        hint = fmt::format("; did you mean {}?", near);
        if (!matched.find(near)) matched.entries.emplace_back(near, entry);
      } else if (shown) {
        hint = elsewhere(entry->key, section, known);
      }
      error(entry->place, RuleId::kKeyUnknown,
            fmt::format("unknown key {}{}{}", quote(entry->key),
                        section.empty() ? std::string() : fmt::format(" in {}", section), hint));
    }
    return matched;
  }

  // A known key's home, for a key that stands in the wrong section; else the keys that may stand here.
  std::string elsewhere(std::string_view name, std::string_view section, const Names& known) const {
    Names homes;
    for (const Key& key : keys()) {
      if (leaf_of(key.path) == name) homes.push_back(key.path);
    }
    for (const TensorKey& key : tensor_keys()) {
      if (key.name == name && homes.empty()) return fmt::format("; it belongs to {}", key.section);
    }
    if (!homes.empty() && homes.size() <= 3) return fmt::format("; did you mean {}?", listed(homes));
    return section.empty() ? std::string() : fmt::format("; there are {}", listed(known, "and"));
  }

  void match_top() {
    Names names;
    const auto add = [&](std::string_view name) {
      for (const std::string_view known : names) {
        if (known == name) return;
      }
      names.push_back(name);
    };
    for (const Key& key : keys()) add(section_of(key.path).empty() ? key.path : section_of(key.path));
    for (const LaterKey& key : later_keys()) add(key.path);
    for (const SectionKey& section : tensor_sections()) add(section.name);
    add(kUnverifiedKey);
    top_ = match(root_, "", names);
  }

  // `prefill: none` is short for `prefill: {kind: none}`, for every section whose kind can be none. Null for any other
  // value.
  const Node* without_shorthand(const Entry& entry, std::string_view section) {
    if (entry.value.kind != Node::Kind::kScalar || entry.value.text != "none" || entry.value.quoted) return nullptr;
    for (const Key& key : keys()) {
      if (section_of(key.path) != section || leaf_of(key.path) != "kind") continue;
      for (const Word& word : key.words) {
        if (word.text != "none") continue;
        Node& map = expanded_.emplace_back();
        map.kind = Node::Kind::kMap;
        map.place = entry.value.place;
        map.entries.push_back({"kind", entry.value.place, entry.value});
        return &map;
      }
    }
    return nullptr;
  }

  // The entries of a section of keys, matched once; null where it is missing or not a map, which is then reported.
  const Matched* section(std::string_view name) {
    for (const auto& [known, matched] : sections_) {
      if (known == name) return matched.get();
    }
    std::unique_ptr<Matched> result;
    const Entry* entry = top_.find(name);
    const OptionalSection* optional = optional_section(name);
    if (!entry) {
      missing_.push_back(name);
    } else if (optional && entry->value.kind == Node::Kind::kScalar && entry->value.text == "none") {
      optional->store(spec_, false, entry->value.place);
    } else if (const Node* map = without_shorthand(*entry, name); map != nullptr || expect_map(*entry, name)) {
      if (optional) optional->store(spec_, true, entry->place);
      Names names;
      for (const Key& key : keys()) {
        if (section_of(key.path) == name) names.push_back(leaf_of(key.path));
      }
      result = std::make_unique<Matched>(match(map != nullptr ? *map : entry->value, name, names));
    }
    sections_.emplace_back(name, std::move(result));
    return sections_.back().second.get();
  }

  bool expect_map(const Entry& entry, std::string_view path) {
    switch (entry.value.kind) {
      case Node::Kind::kMap:
        return true;
      case Node::Kind::kRefused:
        return false;
      case Node::Kind::kEmpty:
        error(entry.place, RuleId::kYamlEmpty, fmt::format("{} has no value: write its keys", path));
        return false;
      case Node::Kind::kScalar:
      case Node::Kind::kList:
        error(entry.value.place, RuleId::kValueType,
              optional_section(path) ? fmt::format("{} is neither none nor a map of its keys", path)
                                     : fmt::format("{} is not a map of keys", path));
        return false;
    }
    return false;
  }

  void read_key(const Key& key) {
    const std::string_view home = section_of(key.path);
    const Matched* matched = home.empty() ? &top_ : section(home);
    if (!matched) return;
    const Entry* entry = matched->find(leaf_of(key.path));
    const Applies applies = key.applies ? key.applies(spec_) : Applies::kYes;
    if (!entry) {
      if (applies == Applies::kYes) report_missing(key, home);
      return;
    }
    if (applies == Applies::kNo) {
      // What the spec had to write before an overlay changed the key that decides.
      if (entry->place.source == 0 && overlaid_) return;
      error(entry->place, RuleId::kKeyNeedless,
            fmt::format("{} has an effect only where {}: remove it", key.path, key.applies_text));
      return;
    }
    const std::optional<Value> value = read_value(key, entry->value, key.path, entry->place, diagnostics_);
    if (value) key.store(spec_, *value);
  }

  void report_missing(const Key& key, std::string_view home) {
    const Place place = home.empty() ? Place{} : top_.find(home)->place;
    const std::string where = key.applies_text.empty() ? "" : fmt::format(" where {}", key.applies_text);
    error(
        place, RuleId::kKeyMissing,
        fmt::format("{} is missing and has no default{}: write {} ({})", key.path, where, wanted_text(key), key.help));
  }

  void read_later(const LaterKey& key) {
    const Entry* entry = top_.find(key.path);
    if (!entry) {
      error({}, RuleId::kKeyMissing, fmt::format("{} is missing and has no default: write none", key.path));
    } else if (entry->value.kind == Node::Kind::kEmpty) {
      error(entry->place, RuleId::kYamlEmpty, fmt::format("{} has no value: write none", key.path));
    } else if (entry->value.kind != Node::Kind::kRefused && entry->value.text != "none") {
      error(entry->value.place, RuleId::kLater,
            fmt::format("{} other than none is not supported by this version yet", key.path));
    }
  }

  // A list of paths. It changes no number, so that it may be left out.
  void read_unverified() {
    const Entry* entry = top_.find(kUnverifiedKey);
    if (!entry || entry->value.kind == Node::Kind::kRefused) return;
    if (entry->value.kind != Node::Kind::kList || entry->value.items.empty()) {
      error(entry->value.kind == Node::Kind::kEmpty ? entry->place : entry->value.place, RuleId::kUnverified,
            "unverified is a list of keys and tensors, such as [heads.key, pools.state]");
      return;
    }
    for (const Node& item : entry->value.items) {
      if (item.kind == Node::Kind::kRefused) continue;
      if (item.kind == Node::Kind::kScalar && std::find(dropped_.begin(), dropped_.end(), item.text) != dropped_.end())
        continue;
      if (item.kind == Node::Kind::kScalar && is_path(item.text)) {
        spec_.unverified.push_back({item.text, item.place});
        continue;
      }
      error(item.place, RuleId::kUnverified,
            item.kind == Node::Kind::kScalar
                ? fmt::format("unverified: {} is neither a key nor a tensor of this spec", quote(item.text))
                : "unverified: an entry is a key's or a tensor's path, such as heads.key");
    }
  }

  void unread_is_unverified() {
    const auto add = [&](std::string_view path, Place place) {
      for (const Located<std::string>& known : spec_.unverified) {
        if (*known == path) return;
      }
      spec_.unverified.push_back({std::string(path), place});
    };
    const Layers& layers = spec_.layers;
    if (layers.count.place.line > 0 && !*layers.count) add("layers.count", layers.count.place);
    if (layers.list.place.line > 0 && layers.list->empty()) add("layers.list", layers.list.place);
  }

  bool is_path(std::string_view path) const {
    for (const Key& key : keys()) {
      if (key.path == path) return true;
    }
    for (const SectionKey& section : tensor_sections()) {
      if (section.name == section_of(path) && find_tensor(spec_.*section.tensors, leaf_of(path))) return true;
    }
    return false;
  }

  void read_section(const SectionKey& section) {
    const Entry* entry = top_.find(section.name);
    if (!entry) {
      missing_.push_back(section.name);
      return;
    }
    if (!expect_map(*entry, section.name)) return;
    spec_.sections.*section.place = entry->place;
    Names names;
    bool any = false;
    for (const TensorKey& key : tensor_keys()) {
      if (key.section != section.name) continue;
      any = any || key.name == "*";
      names.push_back(key.name);
    }
    if (any) {
      for (const Entry& tensor : entry->value.entries) read_tensor(section, tensor.key, tensor);
      return;
    }
    const Matched matched = match(entry->value, section.name, names);
    for (const auto& [name, tensor] : matched.entries) read_tensor(section, name, *tensor);
  }

  // A tensor that can't be read is kept with the places that are known, so that it does not count as missing.
  void read_tensor(const SectionKey& section, std::string_view name, const Entry& entry) {
    const std::string path = joined(section.name, entry.key.size() > 64 ? "..." : entry.key);
    Tensor tensor;
    tensor.name = {std::string(name), entry.place};
    if (tensor_key(section.name, name)->later) {
      error(entry.place, RuleId::kLater, fmt::format("{} is not supported by this version yet: remove it", path));
      return;
    }
    if (expect_map(entry, path)) {
      const Matched matched = match(entry.value, path, {"dtype", "dims", "replicated"});
      if (const Entry* dtype = matched.find("dtype")) {
        read_dtype(*dtype, path, *tensor_key(section.name, name), tensor);
      } else {
        error(entry.place, RuleId::kKeyMissing,
              fmt::format("{}.dtype is missing: write how its elements are stored, such as bf16", path));
      }
      if (const Entry* dims = matched.find("dims")) {
        std::optional<std::vector<Dim>> list =
            read_dims(dims->value, path, name, *spec_.rule, dims->place, diagnostics_);
        if (list) {
          tensor.dims = std::move(*list);
          tensor.dims_place = dims->value.place;
        }
      } else {
        error(entry.place, RuleId::kKeyMissing,
              fmt::format("{}.dims is missing: write the list of its dimensions, slowest first", path));
      }
      if (const Entry* replicated = matched.find("replicated")) read_replicated(*replicated, path, tensor);
    }
    // What the spec had to describe before an overlay took the norm away.
    if (lacks_norm(spec_) && entry.place.source < spec_.out_norm.enabled.place.source &&
        serves_norm_only(section.name, tensor)) {
      dropped_.push_back(path);
      return;
    }
    (spec_.*section.tensors).push_back(std::move(tensor));
  }

  void read_replicated(const Entry& entry, const std::string& path, Tensor& tensor) {
    const std::string key = path + ".replicated";
    if (!expect_scalar(entry.value, key, "true or false", entry.place, diagnostics_)) return;
    if (entry.value.quoted || (entry.value.text != "true" && entry.value.text != "false")) {
      error(entry.value.place, RuleId::kValueWord,
            fmt::format("{} = {} must be true or false", key, quote(entry.value.text)));
      return;
    }
    tensor.replicated = {entry.value.text == "true", entry.value.place};
  }

  // Any dtype of the language is read; whether the tensor may have it is the validator's rule.
  void read_dtype(const Entry& entry, const std::string& path, const TensorKey& key, Tensor& tensor) {
    Names legal;
    for (const core::DType dtype : dtypes(key.dtypes)) legal.push_back(core::to_string(dtype));
    if (!expect_scalar(entry.value, path + ".dtype", listed(legal), entry.place, diagnostics_)) return;
    if (const auto dtype = core::parse_dtype(entry.value.text)) {
      tensor.dtype = {*dtype, entry.value.place};
      return;
    }
    const std::string_view near = nearest(entry.value.text, legal);
    error(entry.value.place, RuleId::kValueWord,
          fmt::format("{}.dtype = {} must be {}{}", path, quote(entry.value.text), listed(legal),
                      near.empty() ? std::string() : fmt::format("; did you mean {}?", near)));
  }

  void report_missing_sections() {
    std::set<std::string_view> reported;
    for (const std::string_view name : missing_) {
      if (!reported.insert(name).second) continue;
      error({}, RuleId::kKeyMissing,
            fmt::format("section {} is missing and has no default{}", name,
                        optional_section(name) ? ": write none, or its keys" : ""));
    }
  }

  // A scale may name dims.key, which stands anywhere in the file.
  void evaluate_scales() {
    const auto evaluate = [&](const Located<std::string>& text, Located<double>& number) {
      if (text.place.line == 0) return;
      number.place = text.place;
      if (const std::optional<double> plain = decimal(*text)) {
        number.value = *plain;
      } else if (spec_.dims.key.place.line == 0 || *spec_.dims.key < 1) {
        number.place = {};
      } else {
        number.value = std::pow(static_cast<double>(*spec_.dims.key), *text == "key_dim^-0.5" ? -0.5 : -0.25);
      }
    };
    evaluate(spec_.qk_scale.q_text, spec_.qk_scale.q);
    evaluate(spec_.qk_scale.k_text, spec_.qk_scale.k);
  }

  const Node& root_;
  bool overlaid_;
  Spec& spec_;
  Diagnostics& diagnostics_;
  std::deque<Node> expanded_;  // sections that were written as `none`
  Matched top_;
  std::vector<std::pair<std::string_view, std::unique_ptr<Matched>>> sections_;
  Names missing_;
  std::vector<std::string> dropped_;  // paths of tensors that an overlay made needless
};

// What can be read of a spec, errors or not; nothing when it, or an overlay, has no tree of keys.
std::optional<Spec> read_spec(std::vector<Source> sources, Diagnostics& diagnostics) {
  std::optional<Node> root = read_document(sources.front().text, diagnostics);
  if (!root) return std::nullopt;
  Spec spec;
  for (std::size_t i = 1; i < sources.size(); ++i) {
    const std::size_t kept = diagnostics.kept();
    std::optional<Node> overlay = read_document(sources[i].text, diagnostics);
    diagnostics.move_to_source(kept, static_cast<int>(i));
    if (!overlay) return std::nullopt;
    set_source(*overlay, static_cast<int>(i));
    apply_overlay(*root, std::move(*overlay), sources[i].file, diagnostics);
  }
  SpecReader(*root, sources.size() > 1, spec, diagnostics).read();
  spec.file = std::move(sources.front().file);
  spec.text = std::move(sources.front().text);
  spec.overlays.assign(std::make_move_iterator(sources.begin() + 1), std::make_move_iterator(sources.end()));
  return spec;
}

// Each value that nobody has verified, where it stands on the list: everybody who uses the spec reads it.
void warn_unverified(const Spec& spec, Diagnostics& diagnostics) {
  for (const Located<std::string>& path : spec.unverified) {
    diagnostics.warning(path.place, id(RuleId::kUnverified),
                        fmt::format("{} is not verified: nobody has read it in the model's own files", *path));
  }
}

}  // namespace

std::optional<Spec> parse(std::string file, std::string text, Diagnostics& diagnostics) {
  const std::size_t errors = diagnostics.errors();
  std::optional<Spec> spec = read_spec({{std::move(file), std::move(text)}}, diagnostics);
  if (diagnostics.errors() != errors) return std::nullopt;
  return spec;
}

std::optional<Spec> check(std::string file, std::string text, Diagnostics& diagnostics) {
  return check({{std::move(file), std::move(text)}}, diagnostics);
}

std::optional<Spec> check(std::vector<Source> sources, Diagnostics& diagnostics) {
  const std::size_t errors = diagnostics.errors();
  std::string suffix;
  for (std::size_t i = 1; i < sources.size(); ++i) suffix += "_" + overlay_name(sources[i].file);
  std::optional<Spec> spec = read_spec(std::move(sources), diagnostics);
  if (spec) {
    validate(*spec, diagnostics);
    warn_unverified(*spec, diagnostics);
    spec->name.value += suffix;
  }
  if (diagnostics.errors() != errors) return std::nullopt;
  return spec;
}

std::optional<std::string> read_file(const std::string& file, Diagnostics& diagnostics) {
  namespace fs = std::filesystem;
  const auto refuse = [&](RuleId rule, std::string message) {
    diagnostics.error({}, id(rule), std::move(message));
    return std::nullopt;
  };
  std::error_code failed;
  const fs::file_status status = fs::status(file, failed);
  if (status.type() == fs::file_type::not_found) return refuse(RuleId::kFileRead, "no such file");
  if (status.type() == fs::file_type::directory) {
    return refuse(RuleId::kFileRead, "this is a directory: give the spec file itself");
  }
  // A pipe or a device could block or never end.
  if (failed || status.type() != fs::file_type::regular) {
    return refuse(RuleId::kFileRead, failed ? "can't be read: " + failed.message() : "this is not a regular file");
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(std::fopen(file.c_str(), "rb"), &std::fclose);
  if (!stream) return refuse(RuleId::kFileRead, fmt::format("can't be opened: {}", std::strerror(errno)));
  std::string text(kMaxSpecBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), stream.get()));
  if (std::ferror(stream.get()) != 0) return refuse(RuleId::kFileRead, "can't be read to its end");
  if (text.size() > kMaxSpecBytes) {
    return refuse(RuleId::kFileSize,
                  fmt::format("the file is larger than the {} bytes that a spec may have", kMaxSpecBytes));
  }
  return text;
}

std::optional<Spec> load(const std::string& file, Diagnostics& diagnostics, std::string* text) {
  std::optional<std::string> content = read_file(file, diagnostics);
  if (!content) return std::nullopt;
  if (text) *text = *content;
  return check(file, std::move(*content), diagnostics);
}

Spec load_or_throw(const std::string& file) {
  Diagnostics diagnostics;
  std::string text;
  std::optional<Spec> spec = load(file, diagnostics, &text);
  if (!spec) throw std::runtime_error(render(diagnostics, file, text));
  return std::move(*spec);
}

}  // namespace gdn::spec
