// The headers that emitted sources include, held by this library as text: a run-time compilation reads no file.
#pragma once

#include <vector>

#include "compile/compiler.h"

namespace gdn::runtime {

// templates/gdn/*.h as "gdn/<file>".
const std::vector<Header>& template_headers();

// The host shim's headers as "gdn_host/<file>".
const std::vector<Header>& host_headers();

}  // namespace gdn::runtime
