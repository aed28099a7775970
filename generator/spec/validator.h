// The rules that a parsed spec must obey: one function per rule, run over a table.
#pragma once

#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::spec {

// Reports every broken rule. `spec` may be incomplete: leaves, tensors and sections that could not be read (line 0) are
// left alone, so that one mistake is reported once.
void validate(const Spec& spec, Diagnostics& diagnostics);

}  // namespace gdn::spec
