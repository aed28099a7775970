// Rules about a layer whose kernels leave the output norm to whoever takes o.
#pragma once

#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::spec {

// Whether the spec says out_norm: none.
bool lacks_norm(const Spec& spec);

// Whether a tensor of a section serves nothing but an output norm: norm_weight, norm_bias, handover.z, and an input
// that holds z and nothing else.
bool serves_norm_only(std::string_view section, const Tensor& tensor);

void check_norm_tensors(const Spec& spec, Diagnostics& diagnostics);
void check_norm_output(const Spec& spec, Diagnostics& diagnostics);

}  // namespace gdn::spec
