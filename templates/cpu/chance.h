// A 16-bit state rounded by chance, as templates/gdn/state_store.h defines it: up with the probability of the distance
// from below, by Philox4x32-10 of the launch's seed, the slot and the element's place in it. The same seed gives the
// bits that a GPU gives of the same numbers (but subnormal bf16 numbers, which are zero here).
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// frame.chances <- 16 random bits for each of `elements` neighbours of the state in reg::slot, the first of them
// 8 * (`block` + `more`) elements behind the slot's start. Changes rax, zmm(`first`) and the seven registers behind it.
void emit_chances(Context& c, const Reg64& block, int more, int elements, int first);

// x <- x rounded to a number of `dtype` by vector `index` of frame.chances. Changes what memory.h may.
void emit_round_by_chance(Context& c, int x, core::DType dtype, int index);

}  // namespace gdn::cpu
