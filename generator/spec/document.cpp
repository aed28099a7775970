#include "spec/document.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <istream>
#include <streambuf>
#include <unordered_map>

#include "spec/rules.h"
#include "spec/utf8.h"

namespace gdn::spec {
namespace {

// Ends the reading of a document that has been reported already.
struct Stop {};

class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {
    starts_.push_back(0);
    for (std::size_t at = text.find('\n'); at != std::string_view::npos; at = text.find('\n', at + 1)) {
      starts_.push_back(at + 1);
    }
  }

  // What stands at a place, to the end of its line.
  std::string_view from(Place place) const {
    const auto line = static_cast<std::size_t>(place.line - 1);
    if (place.line < 1 || line >= starts_.size()) return {};
    const std::size_t end = line + 1 < starts_.size() ? starts_[line + 1] - 1 : text_.size();
    const std::size_t at = starts_[line] + static_cast<std::size_t>(place.column - 1);
    if (at >= end) return {};
    std::string_view rest = text_.substr(at, end - at);
    if (!rest.empty() && rest.back() == '\r') rest.remove_suffix(1);
    return rest;
  }

  Place place_of(std::size_t offset) const {
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), offset);
    const auto line = static_cast<std::size_t>(after - starts_.begin());
    return {static_cast<int>(line), static_cast<int>(offset - starts_[line - 1]) + 1, 1};
  }

 private:
  std::string_view text_;
  std::vector<std::size_t> starts_;
};

// An istream over a string_view without copying it.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text) {
    char* begin = const_cast<char*>(text.data());  // a get area is never written
    setg(begin, begin, begin + text.size());
  }
};

// Columns and lines of yaml-cpp count from 0. Its columns are bytes, because the text is known to be UTF-8.
Place place_of(const YAML::Mark& mark) { return {std::max(mark.line, 0) + 1, std::max(mark.column, 0) + 1, 1}; }

// Builds the tree from yaml-cpp's events. Events carry what its nodes lose: aliases and duplicate keys as written.
class Builder : public YAML::EventHandler {
 public:
  Builder(const Lines& lines, Diagnostics& diagnostics) : lines_(lines), diagnostics_(diagnostics) {}

  Node take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node;
    node.place = place_of(mark);
    refuse_properties(node.place, "?", anchor);
    add(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Node node;
    node.kind = Node::Kind::kRefused;
    node.place = place_of(mark);
    const std::string_view rest = lines_.from(node.place);
    node.place.length = static_cast<int>(std::max<std::size_t>(1, std::min(rest.find_first_of(" ,]}:"), rest.size())));
    diagnostics_.error(node.place, id(RuleId::kYamlAlias),
                       fmt::format("{} is an alias: write the value here, so that a reader sees it",
                                   quote(rest.substr(0, static_cast<std::size_t>(node.place.length)))));
    add(std::move(node));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node;
    node.kind = Node::Kind::kScalar;
    node.place = place_of(mark);
    node.text = value;
    node.quoted = tag == "!";
    node.place.length = scalar_length(node);
    refuse_properties(node.place, tag, anchor);
    add(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Node::Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Node::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  // A map or a list that is being read.
  struct Open {
    Node node;
    bool has_key = false;
    bool drop = false;  // the value of a key that was refused
    std::string key;
    Place key_place;
    std::unordered_map<std::string, Place> seen;
  };

  // Bytes of a scalar on its first line, for the caret.
  int scalar_length(const Node& node) const {
    const std::string_view rest = lines_.from(node.place);
    std::size_t length = 1;
    if (!rest.empty() && (rest[0] == '"' || rest[0] == '\'')) {
      const std::size_t end = rest.find(rest[0], 1);
      length = end == std::string_view::npos ? rest.size() : end + 1;
    } else if (rest.substr(0, node.text.size()) == node.text) {
      length = node.text.size();
    }
    return static_cast<int>(std::max<std::size_t>(length, 1));
  }

  void refuse_properties(Place place, const std::string& tag, YAML::anchor_t anchor) {
    const std::string_view rest = lines_.from(place);
    const std::string_view word = rest.substr(0, rest.find_first_of(" ,]}"));
    place.length = static_cast<int>(std::max<std::size_t>(word.size(), 1));
    const bool written_tag = !word.empty() && word[0] == '!';
    if (written_tag || (tag != "?" && tag != "!" && !tag.empty())) {
      diagnostics_.error(place, id(RuleId::kYamlTag),
                         fmt::format("{} is a tag: remove it, the key decides the type", quote(word)));
    }
    if (anchor != YAML::NullAnchor) {
      diagnostics_.error(
          place, id(RuleId::kYamlAnchor),
          fmt::format("{}: anchors are not part of the language: write each value where it holds", quote(word)));
    }
  }

  void open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    Open next;
    next.node.kind = kind;
    next.node.place = place_of(mark);
    if (stack_.size() >= static_cast<std::size_t>(kMaxDepth)) {
      diagnostics_.error(next.node.place, id(RuleId::kYamlDepth),
                         fmt::format("maps and lists are nested more than {} deep", kMaxDepth));
      throw Stop{};
    }
    refuse_properties(next.node.place, tag, anchor);
    stack_.push_back(std::move(next));
  }

  void close() {
    Node node = std::move(stack_.back().node);
    stack_.pop_back();
    add(std::move(node));
  }

  void add(Node node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = stack_.back();
    if (parent.node.kind == Node::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      add_key(parent, std::move(node));
    } else {
      parent.has_key = false;
      if (!parent.drop) parent.node.entries.push_back({std::move(parent.key), parent.key_place, std::move(node)});
    }
  }

  void add_key(Open& map, Node key) {
    const bool refused_before = map.node.incomplete;
    map.has_key = true;
    map.drop = true;
    map.node.incomplete = true;
    map.key_place = key.place;
    if (key.kind == Node::Kind::kRefused) return;
    if (key.kind != Node::Kind::kScalar) {
      diagnostics_.error(key.place, id(RuleId::kYamlKey), "a key is missing or is not a plain word");
      return;
    }
    if (key.text == "<<" && !key.quoted) {
      diagnostics_.error(key.place, id(RuleId::kYamlMerge),
                         "the merge key << is not applied: write the keys here, so that a reader sees them");
      return;
    }
    const auto [first, fresh] = map.seen.emplace(key.text, key.place);
    if (!fresh) {
      diagnostics_
          .error(key.place, id(RuleId::kYamlDuplicate),
                 fmt::format("key {} stands twice in this map: keep one", quote(key.text)))
          .note(first->second, "the first one is here");
      return;
    }
    map.drop = false;
    map.node.incomplete = refused_before;
    map.key = std::move(key.text);
  }

  const Lines& lines_;
  Diagnostics& diagnostics_;
  std::vector<Open> stack_;
  Node root_;
};

// Reports a document after the first, at its start, and reads no further.
class Second : public YAML::EventHandler {
 public:
  explicit Second(Diagnostics& diagnostics) : diagnostics_(diagnostics) {}
  void OnDocumentStart(const YAML::Mark& mark) override {
    diagnostics_.error(place_of(mark), id(RuleId::kYamlDocuments),
                       "a second document starts here: a file holds one spec, make it a file of its own");
    throw Stop{};
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  Diagnostics& diagnostics_;
};

// yaml-cpp transcodes other encodings and replaces broken ones, which would move every place: only clean UTF-8 goes on.
bool check_text(std::string_view text, const Lines& lines, Diagnostics& diagnostics) {
  const auto refuse = [&](std::size_t at, std::string message) {
    diagnostics.error(lines.place_of(at), id(RuleId::kFileText), std::move(message));
    return false;
  };
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\t' || c == '\n' || (byte >= 0x20 && byte < 0x7f) ||
        (c == '\r' && at + 1 < text.size() && text[at + 1] == '\n')) {
      ++at;
      continue;
    }
    const CodePoint point = decode_utf8(text, at);
    if (!point.valid) return refuse(at, fmt::format("byte 0x{:02X} is not UTF-8: a spec is plain text", byte));
    if (point.value == 0xfeff && at == 0) return refuse(at, "the file starts with a byte order mark: save it without");
    if (c == '\0') return refuse(at, "a NUL byte: this is not a text file");
    if (c == '\r') return refuse(at, "a carriage return without a line feed: end lines with LF or CR LF");
    if (is_control(point.value)) {
      return refuse(at, fmt::format("control character U+{:04X}: a reviewer could not see it, remove it", point.value));
    }
    at += point.length;
  }
  return true;
}

}  // namespace

const Entry* Node::find(std::string_view key) const {
  for (const Entry& entry : entries) {
    if (entry.key == key) return &entry;
  }
  return nullptr;
}

void set_source(Node& node, int source) {
  node.place.source = source;
  for (Node& item : node.items) set_source(item, source);
  for (Entry& entry : node.entries) {
    entry.place.source = source;
    set_source(entry.value, source);
  }
}

std::optional<Node> read_document(std::string_view text, Diagnostics& diagnostics) {
  if (text.size() > kMaxSpecBytes) {
    diagnostics.error(
        {}, id(RuleId::kFileSize),
        fmt::format("the file has {} bytes, more than the {} that a spec may have", text.size(), kMaxSpecBytes));
    return std::nullopt;
  }
  const Lines lines(text);
  if (!check_text(text, lines, diagnostics)) return std::nullopt;

  ViewBuffer buffer(text);
  std::istream stream(&buffer);
  Builder builder(lines, diagnostics);
  Node root;
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      diagnostics.error({}, id(RuleId::kYamlRoot),
                        "the file is empty: a spec is a map of keys, starting with gdn_gen: 1");
      return std::nullopt;
    }
    root = builder.take();
    Second second(diagnostics);
    parser.HandleNextDocument(second);
  } catch (const Stop&) {
    if (root.kind != Node::Kind::kMap) return std::nullopt;
  } catch (const YAML::Exception& error) {
    const Place place = place_of(error.mark);
    const std::string_view line = lines.from({place.line, 1, 1});
    const bool tab = line.substr(0, line.find_first_not_of(" \t")).find('\t') != std::string_view::npos;
    diagnostics.error(
        place, id(RuleId::kYamlSyntax),
        fmt::format("not YAML: {}{}", error.msg, tab ? "; the line is indented with a tab: use spaces" : ""));
    return std::nullopt;
  }
  if (root.kind != Node::Kind::kMap) {
    diagnostics.error(root.place, id(RuleId::kYamlRoot),
                      "the top of the file is not a map of keys: a spec starts with gdn_gen: 1");
    return std::nullopt;
  }
  return root;
}

}  // namespace gdn::spec
