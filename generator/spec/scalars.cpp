#include "spec/scalars.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include "spec/lists.h"
#include "spec/rules.h"

namespace gdn::spec {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// How far decimal digits reach.
std::size_t digits(std::string_view text, std::size_t at) {
  while (at < text.size() && is_digit(text[at])) ++at;
  return at;
}

std::string_view without_sign(std::string_view text) {
  return !text.empty() && (text[0] == '-' || text[0] == '+') ? text.substr(1) : text;
}

bool looks_octal(std::string_view text) {
  text = without_sign(text);
  if (text.size() < 2 || text[0] != '0') return false;
  if (text[1] == 'o') return true;
  return digits(text, 0) == text.size();
}

bool looks_based(std::string_view text) {
  text = without_sign(text);
  return text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X' || text[1] == 'b' || text[1] == 'B');
}

// What YAML 1.1 readers take for a truth value, besides `true` and `false`.
bool looks_boolean(std::string_view text) {
  std::string lower(text.substr(0, 6));
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  for (const std::string_view word : {"true", "false", "yes", "no", "on", "off", "y", "n"}) {
    if (lower == word) return true;
  }
  return false;
}

class ScalarReader {
 public:
  ScalarReader(const Key& key, const Node& node, std::string_view path, Diagnostics& diagnostics)
      : key_(key), node_(node), path_(path), diagnostics_(diagnostics) {}

  std::optional<Value> read() {
    value_.place = node_.place;
    value_.text = node_.text;
    switch (key_.type) {
      case ValueType::kText:
        if (node_.text.empty()) return refuse(RuleId::kValueType, fmt::format("{} is empty text", path_));
        return value_;
      case ValueType::kWord:
      case ValueType::kDtype:
        return read_word();
      case ValueType::kBoolean:
        return read_boolean();
      case ValueType::kInteger:
        return read_integer();
      case ValueType::kRealOrNone:
        if (node_.text == "none") return value_;
        if (decimal(node_.text) == 0.0 && !node_.quoted) {
          return refuse(RuleId::kValueType, fmt::format("{} = {}: write none", path_, quote(node_.text)));
        }
        return read_real();
      case ValueType::kScale:
        if (node_.text == "key_dim^-0.5" || node_.text == "key_dim^-0.25") return value_;
        return read_real();
      case ValueType::kReal:
        return read_real();
      case ValueType::kIntegerOrUnread:
        value_.unread = node_.text == kUnreadWord && !node_.quoted;
        if (value_.unread) return value_;
        return read_integer();
      case ValueType::kIntegers:
      case ValueType::kWords:
        break;  // lists
      case ValueType::kCount:
        for (const Word& word : key_.words) {
          if (word.text != node_.text) continue;
          value_.integer = word.value;
          return value_;
        }
        if (node_.text.substr(0, 1) == "-") return wrong_type();
        return read_integer();
    }
    return std::nullopt;
  }

 private:
  std::optional<Value> refuse(RuleId rule, std::string message) {
    diagnostics_.error(node_.place, id(rule), std::move(message));
    return std::nullopt;
  }

  std::optional<Value> wrong_type() {
    return refuse(RuleId::kValueType, fmt::format("{} = {} is not {}", path_, quote(node_.text), wanted_text(key_)));
  }

  std::optional<Value> read_word() {
    std::vector<std::string_view> words;
    for (const Word& word : key_.words) {
      if (word.text == node_.text) {
        if (word.later) {
          return refuse(RuleId::kLater, fmt::format("{} = {} is not supported by this version yet: it must be {}",
                                                    path_, word.text, wanted_text(key_)));
        }
        value_.integer = word.value;
        return value_;
      }
      if (!word.later) words.push_back(word.text);
    }
    const std::string_view near = nearest(node_.text, words);
    const std::string hint = near.empty() ? "" : fmt::format("; did you mean {}?", near);
    return refuse(RuleId::kValueWord,
                  fmt::format("{} = {} must be {}{}", path_, quote(node_.text), wanted_text(key_), hint));
  }

  std::optional<Value> read_boolean() {
    if (node_.quoted && looks_boolean(node_.text)) return refuse_quotes();
    if (node_.text == "true" || node_.text == "false") {
      value_.truth = node_.text == "true";
      return value_;
    }
    if (looks_boolean(node_.text)) {
      return refuse(RuleId::kYamlBoolean,
                    fmt::format("{} = {}: a truth value is written true or false", path_, quote(node_.text)));
    }
    return wrong_type();
  }

  std::optional<Value> refuse_quotes() {
    return refuse(RuleId::kYamlQuoted,
                  fmt::format("{} = {} is quoted, and so text: remove the quotes", path_, quote(node_.text)));
  }

  // Forms that YAML readers take for numbers and disagree about.
  bool refuse_trap() {
    if (node_.quoted && decimal(node_.text)) {
      refuse_quotes();
    } else if (looks_octal(node_.text)) {
      refuse(RuleId::kYamlOctal, fmt::format("{} = {} has a leading zero, which some readers take for octal: write it "
                                             "in decimal without the zero",
                                             path_, quote(node_.text)));
    } else if (looks_based(node_.text)) {
      refuse(RuleId::kYamlHex, fmt::format("{} = {}: write it in decimal", path_, quote(node_.text)));
    } else {
      return false;
    }
    return true;
  }

  std::optional<Value> read_integer() {
    if (refuse_trap()) return std::nullopt;
    const std::string_view digits_only =
        node_.text.substr(0, 1) == "-" ? std::string_view(node_.text).substr(1) : std::string_view(node_.text);
    if (node_.quoted || digits_only.empty() || digits(digits_only, 0) != digits_only.size()) return wrong_type();
    if (digits_only.size() > 9) {
      return refuse(RuleId::kValueType, fmt::format("{} = {} is too large", path_, quote(node_.text)));
    }
    std::from_chars(node_.text.data(), node_.text.data() + node_.text.size(), value_.integer);
    value_.real = static_cast<double>(value_.integer);
    return value_;
  }

  std::optional<Value> read_real() {
    if (refuse_trap()) return std::nullopt;
    const std::optional<double> number = node_.quoted ? std::nullopt : decimal(node_.text);
    if (!number) return wrong_type();
    value_.real = *number;
    return value_;
  }

  const Key& key_;
  const Node& node_;
  std::string_view path_;
  Diagnostics& diagnostics_;
  Value value_;
};

// Damerau-Levenshtein (optimal string alignment); gives up above `limit`.
std::size_t distance(std::string_view a, std::string_view b, std::size_t limit) {
  const std::size_t none = limit + 1;
  if (std::max(a.size(), b.size()) - std::min(a.size(), b.size()) > limit) return none;
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(row);
  }
  return std::min(last[b.size()], none);
}

}  // namespace

std::optional<double> decimal(std::string_view text) {
  std::size_t at = text.substr(0, 1) == "-" ? 1 : 0;
  const std::size_t whole = digits(text, at);
  if (whole == at || (text[at] == '0' && whole - at > 1)) return std::nullopt;
  at = whole;
  if (at < text.size() && text[at] == '.') {
    const std::size_t fraction = digits(text, at + 1);
    if (fraction == at + 1) return std::nullopt;
    at = fraction;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    const std::size_t exponent = digits(text, at);
    if (exponent == at) return std::nullopt;
    at = exponent;
  }
  if (at != text.size() || text.size() > 64) return std::nullopt;
  double value = 0;  // std::from_chars knows no locale
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string wanted_text(const Key& key) {
  switch (key.type) {
    case ValueType::kInteger:
      return "a whole number";
    case ValueType::kReal:
      return "a number";
    case ValueType::kRealOrNone:
      return "a number or none";
    case ValueType::kScale:
      return "a number, key_dim^-0.5 or key_dim^-0.25";
    case ValueType::kBoolean:
      return "true or false";
    case ValueType::kText:
      return "text";
    case ValueType::kIntegerOrUnread:
      return "a whole number, or unread";
    case ValueType::kIntegers:
      return "a list of whole numbers, or unread";
    case ValueType::kWords: {
      std::vector<std::string_view> words;
      for (const Word& word : key.words) words.push_back(word.text);
      return "a list of " + listed(words);
    }
    case ValueType::kCount: {
      std::vector<std::string_view> words = {"a whole number"};
      for (const Word& word : key.words) words.push_back(word.text);
      return listed(words);
    }
    case ValueType::kWord:
    case ValueType::kDtype: {
      std::vector<std::string_view> words;
      for (const Word& word : key.words) {
        if (!word.later) words.push_back(word.text);
      }
      return words.size() <= 2 ? listed(words) : "one of " + listed(words);
    }
  }
  return "a value";
}

bool expect_scalar(const Node& node, std::string_view path, std::string_view wanted, Place key_place,
                   Diagnostics& diagnostics) {
  switch (node.kind) {
    case Node::Kind::kScalar:
      return true;
    case Node::Kind::kRefused:
      return false;
    case Node::Kind::kEmpty:
      diagnostics.error(key_place, id(RuleId::kYamlEmpty), fmt::format("{} has no value: write {}", path, wanted));
      return false;
    case Node::Kind::kList:
    case Node::Kind::kMap:
      diagnostics.error(
          node.place, id(RuleId::kValueType),
          fmt::format("{} is a {}: write {}", path, node.kind == Node::Kind::kMap ? "map" : "list", wanted));
      return false;
  }
  return false;
}

std::optional<Value> read_value(const Key& key, const Node& node, std::string_view path, Place key_place,
                                Diagnostics& diagnostics) {
  if (key.type == ValueType::kIntegers || key.type == ValueType::kWords) {
    return read_list(key, node, path, key_place, diagnostics);
  }
  if (!expect_scalar(node, path, wanted_text(key), key_place, diagnostics)) return std::nullopt;
  return ScalarReader(key, node, path, diagnostics).read();
}

std::string listed(const std::vector<std::string_view>& words, std::string_view last) {
  std::string result;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) result += i + 1 == words.size() ? fmt::format(" {} ", last) : ", ";
    result += words[i];
  }
  return result;
}

std::string_view nearest(std::string_view word, const std::vector<std::string_view>& candidates) {
  if (word.size() > 64) return {};
  std::string_view best;
  std::size_t best_distance = 0;
  for (const std::string_view candidate : candidates) {
    const std::size_t limit = std::max(word.size(), candidate.size()) <= 3 ? 1 : (candidate.size() + 2) / 3;
    const std::size_t d = distance(word, candidate, limit);
    if (d <= limit && (best.empty() || d < best_distance)) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

}  // namespace gdn::spec
