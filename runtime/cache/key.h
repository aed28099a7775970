// What a compilation depends on, as one text: equal keys, equal binaries.
#pragma once

#include <string>

#include "compile/compiler.h"

namespace gdn::runtime {

// Raised whenever keys or entries change: other versions don't read each other's entries.
constexpr int kCacheFormat = 1;

struct CacheKey {
  // Fields one after the other, each "<name> <number of bytes>\n<bytes>\n", so that no two lists of fields give one
  // text: format, compiler (Compiler::fingerprint), target, options in order, source, every header.
  std::string text;
  // "<symbol>.<16 hexadecimal digits>": of the entry's folder. The symbol is the stem of the source's name, for people;
  // the digits are a hash of `text`. Two keys may share a name; entries hold the whole text and are compared by it.
  std::string name;
};

CacheKey make_key(const Compiler& compiler, const Source& source, const std::string& target, const Options& options);

}  // namespace gdn::runtime
