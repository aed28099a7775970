// Rows of a chunk's tokens between operands and bf16 rows in scratch memory.
#pragma once

#include <functional>

#include "cpu/chunk.h"

namespace gdn::cpu {

// `elements` of each of the chunk's tokens, or an operand's of the head, into rows of `width` bf16 at `buffer`,
// `change`d on the way while they lie in zmm0 and the registers behind it; zeros right of them and in the rows of
// tokens that the chunk lacks.
void emit_pack_rows(ChunkContext& cc, const RowPlace& from, int elements, int buffer, int width,
                    const std::function<void()>& change);
void emit_pack_rows(ChunkContext& cc, const core::Map& map, int buffer, int width, const std::function<void()>& change);

// Zeros in the rows of tokens that the chunk lacks, rows of `width` bf16 at `buffer`.
void emit_zero_missing_rows(ChunkContext& cc, int buffer, int width);

// One element of each of the chunk's tokens into [token] fp32 at `buffer`, `behind` in the places behind them.
void emit_pack_column(ChunkContext& cc, const core::Map& map, int buffer, float behind);

// `value` in the places of tokens that the chunk lacks, [token] fp32 at `buffer`.
void emit_fill_missing(ChunkContext& cc, int buffer, float value);

// zmm(target) <- the bf16 pairs (even, odd) of two fp32 vectors; zmm(kInterleave) as emit_interleave() leaves it.
constexpr int kInterleave = 28;
void emit_interleave(Emitter& e);
// The first and the second 16 words of a register, by turns.
void emit_interleave_words(Emitter& e, int target);
void emit_pair_up(Emitter& e, int target, int even, int odd);

// Transposes 16 vectors of 16 dwords: `load`(i) leaves vector i in zmm(i), and `store`(i) finds the i-th of the result
// in zmm0. Changes all vector registers, of which `store` may change zmm0 to zmm15.
void emit_transpose(Emitter& e, const std::function<void(int)>& load, const std::function<void(int)>& store);

// zmm(high) <- the bf16 values of two fp32 vectors, one behind the other; what that leaves of them stays in the two.
// zmm(part) is changed.
void emit_round_off(Emitter& e, int high, int first, int second, int part);

}  // namespace gdn::cpu
