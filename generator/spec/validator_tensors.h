// The rules about tensors; validator.h runs them.
#pragma once

#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::spec {

void check_tensor_name(const Spec& spec, Diagnostics& diagnostics);
void check_tensor_missing(const Spec& spec, Diagnostics& diagnostics);
void check_tensor_split(const Spec& spec, Diagnostics& diagnostics);
void check_tensor_dtype(const Spec& spec, Diagnostics& diagnostics);
void check_tensor_replicated(const Spec& spec, Diagnostics& diagnostics);
void check_conv_bias(const Spec& spec, Diagnostics& diagnostics);
void check_decay_a_log(const Spec& spec, Diagnostics& diagnostics);
void check_input_name(const Spec& spec, Diagnostics& diagnostics);
void check_input_parts(const Spec& spec, Diagnostics& diagnostics);
void check_handover_dtype(const Spec& spec, Diagnostics& diagnostics);

}  // namespace gdn::spec
