#include "cpu/state_store.h"

#include <limits>

#include "cpu/item.h"
#include "cpu/memory.h"

namespace gdn::cpu {

bool is_scaled(const core::Map& state) { return core::size_of(state.dtype) == 1; }

bool is_by_chance(const Context& c, const core::Map& state) {
  return c.facts.stochastic_state && core::size_of(state.dtype) == 2;
}

void emit_new_scale(Context& c, core::DType dtype, int scale, int amax) {
  c.e.vbroadcastss(zmm(kScratch), c.e.scalar(largest_of(dtype)));
  c.e.vdivps(zmm(scale), zmm(amax), zmm(kScratch));
  c.e.vbroadcastss(zmm(amax), c.e.scalar(std::numeric_limits<float>::infinity()));
  c.e.replace_where_greater(zmm(amax), zmm(scale), c.e.constant(0.0f), zmm(scale));
  c.e.vbroadcastss(zmm(kScratch), c.e.scalar(1.0f));
  c.e.vdivps(zmm(amax), zmm(kScratch), zmm(amax));
}

// The largest magnitude so far is the second source, which stays where the other one is NaN.
void emit_take_magnitude(Context& c, int amax, int x) {
  c.e.vpandd(zmm(kScratch), zmm(x), c.e.constant_bits(0x7fffffffu));
  c.e.vmaxps(zmm(amax), zmm(kScratch), zmm(amax));
}

std::int64_t scale_step(const Context& c) { return 4 * c.facts.state_scale.inner_stride; }

void emit_point_at_scales(Context& c, const Reg64& target) { emit_pointer(c, target, c.facts.state_scale, Row::kSlot); }

void emit_block_number(Context& c, const Reg64& target, const Reg64& element) {
  core::Map slot = c.facts.state;
  slot.heads = core::HeadKind::kNone;
  slot.offset = 0;
  emit_pointer(c, target, slot, Row::kSlot);
  c.e.mov(reg::rax, element);
  c.e.sub(reg::rax, target);
  c.e.shr(reg::rax, 4);  // blocks of 8 elements
  c.e.mov(target, reg::rax);
}

}  // namespace gdn::cpu
