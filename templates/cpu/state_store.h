// A state as its pool keeps it in fewer than 32 bits: 8-bit codes times the scale of their value channel, or 16 bits
// rounded by chance. What the two mean is said in templates/gdn/state_store.h.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// Of the state that lies as `state` says: whether its elements are codes, and whether it is rounded by chance.
bool is_scaled(const core::Map& state);
bool is_by_chance(const Context& c, const core::Map& state);

// zmm(scale), every lane <- the scale for a largest magnitude of `amax`; `amax` becomes what numbers are multiplied
// with to become codes. Of a scale that is no normal number, both are 0.
void emit_new_scale(Context& c, core::DType dtype, int scale, int amax);

// zmm(amax) <- the larger one of it and |x|, lane by lane; a NaN of x leaves it as it is.
void emit_take_magnitude(Context& c, int amax, int x);

// Bytes between the scales of neighbouring value channels.
std::int64_t scale_step(const Context& c);

// target <- address of the scales of value head reg::group in slot reg::slot.
void emit_point_at_scales(Context& c, const Reg64& target);

// target <- number of the block of random bits of the element at `element`, in slot reg::slot. Changes rax.
void emit_block_number(Context& c, const Reg64& target, const Reg64& element);

}  // namespace gdn::cpu
