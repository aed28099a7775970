// Rows of the table of keys, by the type of their leaf: how its value is stored, and shown as a spec writes it.
// Internal to keys.cpp.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spec/keys.h"
#include "spec/lists.h"

namespace gdn::spec::makers {

using core::DType;
using Rules = std::vector<RuleId>;

// The shortest text that reads back as the same double.
inline std::string real_text(double value) { return fmt::format("{}", value); }

inline Key row(std::string_view path, ValueType type, std::string_view unit, Rules rules, std::string_view help) {
  Key key;
  key.path = path;
  key.type = type;
  key.unit = unit;
  key.rules = std::move(rules);
  key.help = help;
  return key;
}

// In each of the makers, `at` finds the leaf: at(spec) -> Located<T>&.
template <class At>
Key integer(std::string_view path, At at, std::string_view unit, Rules rules, std::string_view help) {
  Key key = row(path, ValueType::kInteger, unit, std::move(rules), help);
  key.store = [at](Spec& s, const Value& v) { at(s) = {static_cast<int>(v.integer), v.place}; };
  key.show = [at](const Spec& s) { return fmt::format("{}", *at(s)); };
  return key;
}

template <class At>
Key real(std::string_view path, At at, Rules rules, std::string_view help) {
  Key key = row(path, ValueType::kReal, "", std::move(rules), help);
  key.store = [at](Spec& s, const Value& v) { at(s) = {v.real, v.place}; };
  key.show = [at](const Spec& s) { return real_text(*at(s)); };
  return key;
}

template <class At>
Key real_or_none(std::string_view path, At at, Rules rules, std::string_view help) {
  Key key = real(path, at, std::move(rules), help);
  key.type = ValueType::kRealOrNone;
  key.show = [at](const Spec& s) { return *at(s) == 0 ? std::string("none") : real_text(*at(s)); };
  return key;
}

// `at_text` finds the text as written; the number is worked out once all keys are read.
template <class At>
Key scale(std::string_view path, At at_text, std::string_view help) {
  Key key = row(path, ValueType::kScale, "", {RuleId::kScaleRange}, help);
  key.store = [at_text](Spec& s, const Value& v) { at_text(s) = {v.text, v.place}; };
  key.show = [at_text](const Spec& s) { return *at_text(s); };
  return key;
}

template <class At>
Key boolean(std::string_view path, At at, Rules rules, std::string_view help) {
  Key key = row(path, ValueType::kBoolean, "", std::move(rules), help);
  key.store = [at](Spec& s, const Value& v) { at(s) = {v.truth, v.place}; };
  key.show = [at](const Spec& s) { return std::string(*at(s) ? "true" : "false"); };
  return key;
}

template <class At>
Key text(std::string_view path, At at, Rules rules, std::string_view help) {
  Key key = row(path, ValueType::kText, "", std::move(rules), help);
  key.store = [at](Spec& s, const Value& v) { at(s) = {v.text, v.place}; };
  key.show = [at](const Spec& s) { return *at(s); };
  return key;
}

template <class T>
Word say(std::string_view text, T value) {
  return {text, static_cast<std::int64_t>(value), false};
}

inline std::string word_of(const std::vector<Word>& words, std::int64_t value) {
  for (const Word& word : words) {
    if (word.value == value) return std::string(word.text);
  }
  return "?";
}

template <class At>
Key word(std::string_view path, std::vector<Word> words, At at, Rules rules, std::string_view help) {
  Key key = row(path, ValueType::kWord, "", std::move(rules), help);
  key.store = [at](Spec& s, const Value& v) {
    auto& leaf = at(s);
    leaf.value = static_cast<decltype(leaf.value)>(v.integer);
    leaf.place = v.place;
  };
  key.show = [at, words](const Spec& s) { return word_of(words, static_cast<std::int64_t>(*at(s))); };
  key.words = std::move(words);
  return key;
}

// A whole number, or one of `words`, whose values no number can have.
template <class At>
Key count(std::string_view path, std::vector<Word> words, At at, std::string_view unit, Rules rules,
          std::string_view help) {
  Key key = integer(path, at, unit, std::move(rules), help);
  key.type = ValueType::kCount;
  key.show = [at, words](const Spec& s) { return *at(s) > 0 ? fmt::format("{}", *at(s)) : word_of(words, *at(s)); };
  key.words = std::move(words);
  return key;
}

// A key whose single word this version knows: it is written so that a later word can't change a spec's meaning.
inline Key only(std::string_view path, std::string_view value, std::string_view help) {
  Key key = row(path, ValueType::kWord, "", {}, help);
  key.words = {{value, 0, false}};
  key.store = [](Spec&, const Value&) {};
  key.show = [value](const Spec&) { return std::string(value); };
  return key;
}

template <class At>
Key dtype(std::string_view path, At at, RuleId rule, std::string_view help) {
  Key key = row(path, ValueType::kDtype, "", {rule}, help);
  for (const DType type :
       {DType::kFp32, DType::kBf16, DType::kFp16, DType::kInt32, DType::kInt64, DType::kE4m3fn, DType::kE4m3fnuz}) {
    key.words.push_back({core::to_string(type), static_cast<std::int64_t>(type), false});
  }
  key.store = [at](Spec& s, const Value& v) { at(s) = {static_cast<DType>(v.integer), v.place}; };
  key.show = [at](const Spec& s) { return std::string(core::to_string(*at(s))); };
  return key;
}

template <class At>
Key integer_or_unread(std::string_view path, At at, std::string_view unit, Rules rules, std::string_view help) {
  Key key = row(path, ValueType::kIntegerOrUnread, unit, std::move(rules), help);
  key.store = [at](Spec& s, const Value& v) {
    at(s).place = v.place;
    if (!v.unread) at(s).value = static_cast<int>(v.integer);
  };
  key.show = [at](const Spec& s) { return *at(s) ? fmt::format("{}", **at(s)) : std::string(kUnreadWord); };
  return key;
}

template <class At>
Key integers(std::string_view path, At at, std::string_view unit, Rules rules, std::string_view help) {
  Key key = row(path, ValueType::kIntegers, unit, std::move(rules), help);
  key.store = [at](Spec& s, const Value& v) { at(s) = {v.integers, v.place}; };
  key.show = [at](const Spec& s) {
    return (*at(s)).empty() ? std::string(kUnreadWord) : fmt::format("[{}]", fmt::join(*at(s), ", "));
  };
  return key;
}

template <class At>
Key words(std::string_view path, std::vector<Word> words, At at, Rules rules, std::string_view help) {
  Key key = row(path, ValueType::kWords, "", std::move(rules), help);
  key.store = [at](Spec& s, const Value& v) { at(s) = {v.words, v.place}; };
  key.show = [at](const Spec& s) { return fmt::format("[{}]", fmt::join(*at(s), ", ")); };
  key.words = std::move(words);
  return key;
}

inline Key when(Key key, std::string_view text, Applies (*applies)(const Spec&)) {
  key.applies_text = text;
  key.applies = applies;
  return key;
}

// Whether a key applies that depends on one leaf.
template <class T>
Applies is(const Located<T>& leaf, bool answer) {
  if (leaf.place.line == 0) return Applies::kUnknown;
  return answer ? Applies::kYes : Applies::kNo;
}

}  // namespace gdn::spec::makers
