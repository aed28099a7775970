// Rules about what is stored in few bits: the quantised output with its scales, and the recurrent state.
#pragma once

#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::spec {

void check_state_rounding(const Spec& spec, Diagnostics& diagnostics);
void check_state_scale(const Spec& spec, Diagnostics& diagnostics);
void check_quant_max(const Spec& spec, Diagnostics& diagnostics);
void check_quant_group(const Spec& spec, Diagnostics& diagnostics);
void check_quant_floor(const Spec& spec, Diagnostics& diagnostics);
void check_quant_output(const Spec& spec, Diagnostics& diagnostics);
void check_quant_row(const Spec& spec, Diagnostics& diagnostics);

}  // namespace gdn::spec
