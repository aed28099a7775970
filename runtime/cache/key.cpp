#include "cache/key.h"

#include <fmt/format.h>

#include <filesystem>
#include <iterator>

#include "core/identity.h"

namespace gdn::runtime {
namespace {

constexpr std::size_t kLongestSymbol = 120;

void add(std::string& key, std::string_view name, std::string_view bytes) {
  fmt::format_to(std::back_inserter(key), "{} {}\n", name, bytes.size());
  key += bytes;
  key += '\n';
}

// A file name everywhere, and never a hidden one.
std::string symbol_of(const Source& source) {
  std::string symbol = std::filesystem::path(source.name).stem().string().substr(0, kLongestSymbol);
  for (char& letter : symbol) {
    const bool plain = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                       (letter >= '0' && letter <= '9') || letter == '_' || letter == '-';
    if (!plain) letter = '_';
  }
  return symbol.empty() ? "kernel" : symbol;
}

}  // namespace

CacheKey make_key(const Compiler& compiler, const Source& source, const std::string& target, const Options& options) {
  CacheKey key;
  std::size_t size = source.text.size();
  for (const Header& header : source.headers) size += header.second.size();
  key.text.reserve(size + 4096);
  add(key.text, "format", std::to_string(kCacheFormat));
  add(key.text, "compiler", compiler.fingerprint());
  add(key.text, "target", target);
  for (const std::string& option : options.extra) add(key.text, "option", option);
  add(key.text, "assembly", options.assembly ? "yes" : "no");
  add(key.text, "source-name", source.name);
  add(key.text, "source", source.text);
  for (const Header& header : source.headers) {
    add(key.text, "header-name", header.first);
    add(key.text, "header", header.second);
  }
  key.name = fmt::format("{}.{}", symbol_of(source), core::id_text(core::fnv1a(key.text)));
  return key;
}

}  // namespace gdn::runtime
