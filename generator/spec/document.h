// A YAML document as a tree whose every node knows its place: what yaml-cpp's own nodes do not keep (places of aliases,
// duplicate keys, quotes). The restrictions of the spec language on YAML itself are checked while it is read.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::spec {

struct Entry;

struct Node {
  enum class Kind { kScalar, kList, kMap, kEmpty, kRefused };  // kRefused: was an alias, already reported

  Kind kind = Kind::kEmpty;
  Place place;
  std::string text;            // of a scalar
  bool quoted = false;         // of a scalar: "x", 'x' or a block scalar
  std::vector<Node> items;     // of a list
  std::vector<Entry> entries;  // of a map, in the order of the file, each key once
  bool incomplete = false;     // a map that had a key which was refused and left out

  const Entry* find(std::string_view key) const;
};

struct Entry {
  std::string key;
  Place place;  // of the key
  Node value;
};

constexpr std::size_t kMaxSpecBytes = 1 << 20;
constexpr int kMaxDepth = 16;

// Reads the only document of `text`. Reports every broken rule of file.* and yaml.*; nothing when the text can't be
// read to its end (syntax, depth, binary content) or its top is not a map.
std::optional<Node> read_document(std::string_view text, Diagnostics& diagnostics);

// Says that a tree stands in an overlay.
void set_source(Node& node, int source);

}  // namespace gdn::spec
