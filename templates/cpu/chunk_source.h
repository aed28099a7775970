// Where a chunk's numbers come from: the operands that hand q, k, v, g and beta over, or the rows of the projections,
// through the convolution and the gates.
#pragma once

#include "cpu/chunk.h"

namespace gdn::cpu {

// at.q and at.k, normalised and rounded, not yet scaled.
void emit_query_and_key_rows(ChunkContext& cc);

// at.v of value head reg::group.
void emit_value_rows(ChunkContext& cc);

// at.beta and at.g, log2 of the decay, of value head reg::group; 0 in the places of no token.
void emit_betas(ChunkContext& cc);
void emit_log2_decays(ChunkContext& cc);

// kda, of projections: at.gates, log2 of the decay of each key channel of the chunk's tokens, of value head reg::group.
void emit_channel_decays(ChunkContext& cc);

}  // namespace gdn::cpu
