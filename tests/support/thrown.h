// What a call of the runtime threw, as a value that a table can compare.
#pragma once

#include <optional>
#include <string>

#include "error.h"

namespace gdn::test {

struct Thrown {
  std::optional<runtime::Code> code;  // nothing: it did not throw
  std::string text;

  bool has(const std::string& part) const { return text.find(part) != std::string::npos; }
};

// Exceptions of other types pass: a test should see them.
template <class Call>
Thrown thrown_by(const Call& call) {
  try {
    call();
  } catch (const runtime::Error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

}  // namespace gdn::test
