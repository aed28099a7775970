// The validator's rules about speculative decoding.
#pragma once

#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::spec {

void check_spec_tokens(const Spec& spec, Diagnostics& diagnostics);
void check_spec_window(const Spec& spec, Diagnostics& diagnostics);
void check_spec_tensors(const Spec& spec, Diagnostics& diagnostics);

}  // namespace gdn::spec
