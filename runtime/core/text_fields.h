// Fields of a plan as lines of text: the words of its enums, and a writer and a reader of the same interface, so that
// one list of fields serves both. Internal to plan_text.cpp and plan.cpp.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

#include "core/plan.h"

namespace gdn::core {

template <class Enum>
struct Word {
  Enum value;
  std::string_view text;
};

// One table per enum; found by overload on the enum's type.
constexpr std::array<Word<bool>, 2> words(bool) { return {{{false, "false"}, {true, "true"}}}; }
constexpr std::array<Word<Rule>, 2> words(Rule) { return {{{Rule::kGdn, "gdn"}, {Rule::kKda, "kda"}}}; }
constexpr std::array<Word<Pairing>, 2> words(Pairing) {
  return {{{Pairing::kGrouped, "grouped"}, {Pairing::kTiled, "tiled"}}};
}
constexpr std::array<Word<Activation>, 3> words(Activation) {
  return {{{Activation::kNone, "none"}, {Activation::kSilu, "silu"}, {Activation::kSigmoid, "sigmoid"}}};
}
constexpr std::array<Word<NormWeight>, 3> words(NormWeight) {
  return {{{NormWeight::kW, "w"}, {NormWeight::kOnePlusW, "1+w"}, {NormWeight::kTwiceOnePlusW, "2*(1+w)"}}};
}
constexpr std::array<Word<EpsAt>, 3> words(EpsAt) {
  return {{{EpsAt::kSum, "sum"}, {EpsAt::kMean, "mean"}, {EpsAt::kMax, "max"}}};
}
constexpr std::array<Word<DecayForm>, 2> words(DecayForm) {
  return {{{DecayForm::kSoftplus, "softplus"}, {DecayForm::kBounded, "bounded"}}};
}
constexpr std::array<Word<AStored>, 3> words(AStored) {
  return {{{AStored::kLog, "log"}, {AStored::kNegativeExp, "negative_exp"}, {AStored::kAbsent, "absent"}}};
}
constexpr std::array<Word<Domain>, 5> words(Domain) {
  return {{{Domain::kLogit, "logit"},
           {Domain::kLn, "ln"},
           {Domain::kLog2, "log2"},
           {Domain::kExp, "exp"},
           {Domain::kSigmoid, "sigmoid"}}};
}
constexpr std::array<Word<Anchor>, 2> words(Anchor) { return {{{Anchor::kFirst, "first"}, {Anchor::kLast, "last"}}}; }
constexpr std::array<Word<Padding>, 3> words(Padding) {
  return {{{Padding::kNone, "none"}, {Padding::kNegative, "negative"}, {Padding::kZeroOrNegative, "zero_or_negative"}}};
}
constexpr std::array<Word<PaddedOutput>, 2> words(PaddedOutput) {
  return {{{PaddedOutput::kZero, "zero"}, {PaddedOutput::kUntouched, "untouched"}}};
}
constexpr std::array<Word<InitialStates>, 3> words(InitialStates) {
  return {{{InitialStates::kNone, "none"}, {InitialStates::kAll, "all"}, {InitialStates::kFlagged, "flagged"}}};
}
constexpr std::array<Word<Rollback>, 4> words(Rollback) {
  return {{{Rollback::kNone, "none"},
           {Rollback::kSlots, "slots"},
           {Rollback::kIntermediate, "intermediate"},
           {Rollback::kReplay, "replay"}}};
}
constexpr std::array<Word<Counts>, 2> words(Counts) {
  return {{{Counts::kTokens, "tokens"}, {Counts::kDrafts, "drafts"}}};
}
constexpr std::array<Word<Access>, 3> words(Access) {
  return {{{Access::kRead, "read"}, {Access::kWrite, "write"}, {Access::kReadWrite, "read_write"}}};
}
constexpr std::array<Word<Role>, 13> words(Role) {
  return {{{Role::kInput, "input"},
           {Role::kParameter, "parameter"},
           {Role::kPool, "pool"},
           {Role::kSlots, "slots"},
           {Role::kOutput, "output"},
           {Role::kScale, "scale"},
           {Role::kRecord, "record"},
           {Role::kWorkspace, "workspace"},
           {Role::kCounts, "counts"},
           {Role::kOffsets, "offsets"},
           {Role::kFlags, "flags"},
           {Role::kSeed, "seed"},
           {Role::kSnapshots, "snapshots"}}};
}
constexpr std::array<Word<FloorAt>, 4> words(FloorAt) {
  return {
      {{FloorAt::kNone, "none"}, {FloorAt::kAmax, "amax"}, {FloorAt::kScale, "scale"}, {FloorAt::kReplace, "replace"}}};
}
constexpr std::array<Word<Leading>, 6> words(Leading) {
  return {{{Leading::kNone, "none"},
           {Leading::kToken, "token"},
           {Leading::kSlot, "slot"},
           {Leading::kSequence, "sequence"},
           {Leading::kScaleGroup, "scale_group"},
           {Leading::kSnapshot, "snapshot"}}};
}
constexpr std::array<Word<Grid>, 2> words(Grid) {
  return {{{Grid::kTokens, "tokens"}, {Grid::kSequences, "sequences"}}};
}
constexpr std::array<Word<Edges>, 3> words(Edges) {
  return {{{Edges::kBoth, "both"}, {Edges::kPlain, "plain"}, {Edges::kProgrammatic, "programmatic"}}};
}
constexpr std::array<Word<HeadKind>, 3> words(HeadKind) {
  return {{{HeadKind::kNone, "none"}, {HeadKind::kKey, "key"}, {HeadKind::kValue, "value"}}};
}

// `missing` for a value that has no name.
template <class T>
constexpr std::string_view word_of(T value, std::string_view missing) {
  for (const auto& word : words(value)) {
    if (word.value == value) return word.text;
  }
  return missing;
}

template <class T>
constexpr bool kWordy = std::is_enum_v<T> || std::is_same_v<T, bool>;

constexpr std::string_view kAbsent = "absent";

// A text is one line: backslash and line ends are escaped.
inline std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else {
      out += c;
    }
  }
  return out;
}

class Writer {
 public:
  static constexpr bool kReading = false;

  template <class T>
  void field(std::string_view key, const T& value) {
    line(key, format(value));
  }
  // Fields until close() stand deeper.
  void open(std::string_view key) {
    line(key, "");
    nest();
  }
  void nest() { ++depth_; }
  void close() { --depth_; }
  void line(std::string_view key, std::string_view value) {
    text_.append(2 * depth_, ' ').append(key).append(":");
    if (!value.empty()) text_.append(" ").append(value);
    text_.append("\n");
  }
  std::string take() { return std::move(text_); }

  static std::string format(const std::string& value) { return escape(value); }
  static std::string format(const Identity& value) {
    return value.text.empty() ? id_text(value.id) : id_text(value.id) + " " + escape(value.text);
  }
  template <class T>
  static std::string format(const T& value) {
    if constexpr (std::is_same_v<T, DType>) {
      return std::string(to_string(value));
    } else if constexpr (kWordy<T>) {
      const std::string_view word = word_of(value, "");
      if (word.empty()) throw std::runtime_error("plan: an enum holds a value that has no name");
      return std::string(word);
    } else {  // integers, and reals in the shortest form that reads back as the same bits
      char buffer[64];
      const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value);
      return std::string(buffer, end.ptr);
    }
  }

 private:
  std::string text_;
  std::size_t depth_ = 0;
};

class Reader {
 public:
  static constexpr bool kReading = true;

  explicit Reader(std::string_view text) : rest_(text) {}

  template <class T>
  void field(std::string_view key, T& value) {
    parse(line(key), key, value);
  }
  void open(std::string_view key) {
    if (!line(key).empty()) fail("`" + std::string(key) + ":` opens a group and takes no value");
    nest();
  }
  void nest() { ++depth_; }
  void close() { --depth_; }

  // The value of the next line, which must have this key and the group's indentation.
  std::string_view line(std::string_view key) {
    ++number_;
    const std::size_t end = rest_.find('\n');
    if (end == std::string_view::npos) fail("the text ends where `" + std::string(key) + ":` should stand");
    std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    const std::string start = std::string(2 * depth_, ' ') + std::string(key) + ":";
    if (line.substr(0, start.size()) != start) {
      fail("`" + start + "` should stand here, not `" + std::string(line.substr(0, 60)) + "`");
    }
    line.remove_prefix(start.size());
    if (line.empty()) return line;
    if (line[0] != ' ' || line.size() == 1) fail("one space and a value should follow `" + start + "`");
    return line.substr(1);
  }

  template <class T>
  void parse(std::string_view text, std::string_view key, T& value) const {
    if constexpr (std::is_same_v<T, std::string>) {
      value = unescape(text);
    } else if constexpr (std::is_same_v<T, Identity>) {
      value = identity(text);
    } else if constexpr (std::is_same_v<T, DType>) {
      const auto dtype = parse_dtype(text);
      if (!dtype) fail("`" + std::string(text) + "` is no dtype");
      value = *dtype;
    } else if constexpr (kWordy<T>) {
      for (const auto& word : words(T{})) {
        if (word.text != text) continue;
        value = word.value;
        return;
      }
      fail("`" + std::string(text) + "` is no value of `" + std::string(key) + "`");
    } else {
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc() || end != text.data() + text.size()) {
        fail("`" + std::string(text) + "` is no number that `" + std::string(key) + "` can hold");
      }
    }
  }

  // Nothing may follow the last field.
  void finish() {
    ++number_;
    if (!rest_.empty()) fail("text after the end of the plan");
  }

  [[noreturn]] void fail(const std::string& text) const {
    throw std::runtime_error("plan text, line " + std::to_string(number_) + ": " + text);
  }

 private:
  std::string unescape(std::string_view text) const {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        out += text[i];
        continue;
      }
      const char next = ++i < text.size() ? text[i] : '\0';
      if (next != '\\' && next != 'n' && next != 'r') fail("an escape that is none of \\\\, \\n, \\r");
      out += next == 'n' ? '\n' : next == 'r' ? '\r' : '\\';
    }
    return out;
  }

  Identity identity(std::string_view text) const {
    Identity value;
    const std::string_view digits = text.substr(0, 16);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value.id, 16);
    if (error != std::errc() || digits.size() != 16 || end != digits.data() + 16) {
      fail("an identity begins with 16 hexadecimal digits");
    }
    if (text.size() > 16) {
      if (text[16] != ' ' || text.size() == 17) fail("one space stands between an identity's number and its text");
      value.text = unescape(text.substr(17));
    }
    const bool none = value.id == 0 && value.text.empty();
    if (!none && value.id != fnv1a(value.text)) {
      fail("the identity " + id_text(value.id) + " does not belong to its text: one of the two was altered");
    }
    return value;
  }

  std::string_view rest_;
  std::size_t depth_ = 0;
  std::size_t number_ = 0;
};

}  // namespace gdn::core
