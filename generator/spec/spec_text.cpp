#include "spec/spec_text.h"

#include <fmt/format.h>

#include <string_view>

#include "core/dtype.h"
#include "spec/keys.h"
#include "spec/tensor_keys.h"

namespace gdn::spec {
namespace {

// Text in double quotes where a plain scalar would not read back as itself.
std::string scalar_text(const Key& key, const std::string& text) {
  if (key.type != ValueType::kText) return text;
  bool plain = !text.empty() && text != "~" && text != "null" && text != "Null" && text != "NULL";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    plain = plain && (word || (i > 0 && i + 1 < text.size() && (c == ' ' || c == '-' || c == '.')));
  }
  if (plain) return text;
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (c == '\n') {
      result += "\\n";
    } else {
      result += c;
    }
  }
  return result + "\"";
}

}  // namespace

std::string dims_text(const std::vector<Dim>& dims) {
  std::string result = "[";
  for (const Dim& dim : dims) {
    if (result.size() > 1) result += ", ";
    if (!dim.packed()) {
      result += *dim.name;
      if (dim.at_launch) result += "@launch";
      continue;
    }
    result += "{";
    for (const Part& part : dim.parts) {
      if (result.back() != '{') result += ", ";
      result += fmt::format("{}: {}", *part.name, dims_text(part.dims));
    }
    result += "}";
  }
  return result + "]";
}

std::string to_text(const Spec& spec) {
  std::string result;
  std::string_view section;
  for (const Key& key : keys()) {
    if (key.applies && key.applies(spec) != Applies::kYes) continue;
    const std::size_t dot = key.path.find('.');
    const std::string_view home = dot == std::string_view::npos ? std::string_view() : key.path.substr(0, dot);
    if (!home.empty() && home != section) result += fmt::format("{}:\n", home);
    section = home;
    result += fmt::format("{}{}: {}\n", home.empty() ? "" : "  ", key.path.substr(home.empty() ? 0 : dot + 1),
                          scalar_text(key, key.show(spec)));
  }
  for (const OptionalSection& optional : optional_sections()) {
    // What is given has been written above, key by key.
    if (!optional.given(spec)) result += fmt::format("{}: none\n", optional.name);
  }
  for (const LaterKey& key : later_keys()) result += fmt::format("{}: none\n", key.path);
  for (const SectionKey& tensors : tensor_sections()) {
    result += fmt::format("{}:\n", tensors.name);
    for (const Tensor& tensor : spec.*tensors.tensors) {
      result += fmt::format("  {}: {{dtype: {}, dims: {}{}}}\n", *tensor.name, core::to_string(*tensor.dtype),
                            dims_text(tensor.dims), *tensor.replicated ? ", replicated: true" : "");
    }
  }
  if (!spec.unverified.empty()) {
    result += "unverified: [";
    for (const Located<std::string>& path : spec.unverified) {
      result += fmt::format("{}{}", result.back() == '[' ? "" : ", ", *path);
    }
    result += "]\n";
  }
  return result;
}

}  // namespace gdn::spec
