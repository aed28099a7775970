// The spec language as data: a table of keys here, one of tensors and one of dimension names in tensor_keys.h. The
// parser reads by them, the printer writes by them, and documentation and schemas are made from them, so that none can
// say what another does not.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "spec/rules.h"
#include "spec/spec.h"

namespace gdn::spec {

enum class ValueType : std::uint8_t {
  kInteger,          // decimal
  kReal,             // decimal, with or without fraction and exponent
  kRealOrNone,       // or the word none
  kScale,            // a real, or key_dim^-0.5, key_dim^-0.25
  kBoolean,          // true | false
  kText,             // anything
  kWord,             // one of Key::words
  kDtype,            // one of Key::words, which are dtypes
  kIntegerOrUnread,  // decimal, or the word unread
  kIntegers,         // a list of decimals, or the word unread
  kWords,            // a list of Key::words, which may be empty
  kCount,            // a whole number, or one of Key::words
};

// A scalar, converted by the type of its key.
struct Value {
  Place place;
  std::int64_t integer = 0;  // kInteger, kCount; kWord, kDtype and a word of kCount: Word::value
  double real = 0;           // kReal; kRealOrNone: 0 for none
  bool truth = false;
  bool unread = false;             // kIntegerOrUnread, kIntegers: nobody has read it in the model's own files
  std::vector<int> integers;       // kIntegers
  std::vector<std::string> words;  // kWords
  std::string text;                // as written
};

struct Word {
  std::string_view text;
  std::int64_t value = 0;
  bool later = false;  // the language has the word, this version refuses it by name
};

// Whether a key has an effect beside the others; unknown where the deciding key could not be read.
enum class Applies : std::uint8_t { kYes, kNo, kUnknown };

struct Key {
  std::string_view path;  // "heads.key": section and key, or a key at the top
  ValueType type = ValueType::kText;
  std::vector<Word> words;                    // legal values of kWord and kDtype
  std::string_view unit;                      // "heads", "elements", ...; empty for none
  std::vector<RuleId> rules;                  // what else decides about the value
  std::string_view help;                      // one line
  std::string_view prevents;                  // the mistake that writing it down prevents
  bool engine = false;                        // an engine chooses it: an overlay may set it
  std::string_view applies_text;              // "qk_norm.kind is l2"; empty: always
  Applies (*applies)(const Spec&) = nullptr;  // null: always; the key is required on kYes and refused on kNo
  std::function<void(Spec&, const Value&)> store;
  std::function<std::string(const Spec&)> show;  // as a spec writes it
};

// All keys but the tensors', in the order in which a spec is written.
const std::vector<Key>& keys();

// Sections that a spec writes as `none` or as a map of their keys, which apply only there.
struct OptionalSection {
  std::string_view name;
  std::string_view help;
  std::string_view prevents;             // as of a key
  bool (*given)(const Spec&) = nullptr;  // whether it is a map of keys
  void (*store)(Spec&, bool given, Place) = nullptr;
};
const std::vector<OptionalSection>& optional_sections();

// The row of a section that may be `none`; null for every other.
const OptionalSection* optional_section(std::string_view name);

// Keys whose only legal value is `none` in this version.
struct LaterKey {
  std::string_view path;
  std::string_view help;
};
const std::vector<LaterKey>& later_keys();

}  // namespace gdn::spec
