// The rules about dimension lists; validator.h runs them.
#pragma once

#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::spec {

void check_packed_one(const Spec& spec, Diagnostics& diagnostics);
void check_packed_parts(const Spec& spec, Diagnostics& diagnostics);
void check_dims_leading(const Spec& spec, Diagnostics& diagnostics);
void check_dims_launch(const Spec& spec, Diagnostics& diagnostics);
void check_dims_duplicate(const Spec& spec, Diagnostics& diagnostics);
void check_dims_foreign(const Spec& spec, Diagnostics& diagnostics);
void check_dims_missing(const Spec& spec, Diagnostics& diagnostics);

}  // namespace gdn::spec
