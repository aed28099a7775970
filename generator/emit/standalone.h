// One emitted file with the template headers folded in: for projects that keep a kernel in their own tree.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "emit/source.h"

namespace gdn::emit {

// A file's name as includes write it ("gdn/decode.h"), and its text.
using NamedText = std::pair<std::string, std::string>;

// The file with each header in the place of its first include and nothing in the place of others; `#pragma once` lines
// are gone. It keeps its name. The host shim's headers are not folded in: compiled for the host it says so. Throws
// std::runtime_error for an include that is not among the headers, and for a CPU file, which calls the Xbyak
// generators and so is no kernel by itself.
EmittedFile standalone(const EmittedFile& file, const std::vector<NamedText>& headers);

}  // namespace gdn::emit
