// The forms of a kernel: what its blocks are for launches of few and of many rows, on plain and on programmatic edges.
#pragma once

#include "core/plan.h"
#include "plan/target.h"
#include "plan/tuning.h"

namespace gdn::plan {

// To a plan that has its operands: its launch, its variants, their names, and the operand by which blocks meet in
// memory where a form of the plan's has such blocks. `rows` and `edges` as for make() of plan.h. Throws Unplannable.
void add_forms(core::KernelPlan& plan, const Target& target, const TuningTable& tuning, int rows, core::Edges edges);

// The launches of the plain bodies of prefill: templates/gdn/<operation>.h says what each block does.
void lay_out_prefill(core::KernelPlan& plan);

// Throws Unplannable where a tuning row asks for a form that has no kernel at the spec's sizes.
void check_form(const core::KernelPlan& plan);

}  // namespace gdn::plan
