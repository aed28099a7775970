// The layer's output as 8-bit numbers with a scale for each group of channels, as templates/gdn/quantise.h defines
// them: s = amax / max of the group, kept from becoming too small as output_quant.floor_at says or rounded up to a
// power of two; a number becomes the code nearest to y / s, or to y * (1 / s), clamped to +-max. A group whose scale is
// no normal number has scale 0 and codes of zeros.
//
// Groups are counted along a row of `out`, whose heads' channels lie side by side. Scales lie token by token, or group
// by group.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

bool quantises(const core::Facts& facts);

// Whether a group has channels of several heads: then only whole rows can be quantised.
bool groups_straddle(const core::Facts& facts);

// target <- address of the first scale of value head reg::group, or of the row where groups straddle. Changes rax.
void emit_scale_pointer(Context& c, const Reg64& target);

// Codes and scales of `channels` neighbours of a row, a whole number of groups: fp32 values at the address in rax,
// where 64 bytes behind them can be read too, codes to r9, scales to rdx. Changes rax, rcx, rdx, rsi, zmm0 to zmm5 and
// what memory.h may; r9 comes back.
void emit_quantised(Context& c, int channels);

// A number, given as its bits, in every scale of value head reg::group's groups. Changes rax, rcx, rdx, rsi.
void emit_fill_scales(Context& c, std::uint32_t bits);

}  // namespace gdn::cpu
