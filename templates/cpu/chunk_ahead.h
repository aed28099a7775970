// The rows of the next chunk, fetched into L2 while this one is computed. Rows of tokens lie kilobytes apart, where no
// processor looks ahead by itself.
#pragma once

#include "cpu/chunk.h"

namespace gdn::cpu {

// Emits the routine that fetches, out of the way of what is executed. Once a kernel, before the two below.
void emit_ahead_routine(ChunkContext& cc, int products_of_a_chunk);

// Begins with the chunk behind the one at hand; nothing is fetched beyond the sequence.
void emit_ahead_begin(ChunkContext& cc);

// Fetches the next row, or several where a chunk has fewer products than rows. Changes rax.
void emit_ahead(ChunkContext& cc);

}  // namespace gdn::cpu
