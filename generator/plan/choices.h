// The written model of a target: how a kernel is cut into blocks, how many threads they have, how many state rows are
// in flight, for launches of few rows and of many.
#pragma once

#include <vector>

#include "core/facts.h"
#include "core/plan.h"
#include "plan/target.h"

namespace gdn::plan {

// Shared memory of a block of norm_quant whose groups of channels do not each lie in one head.
std::int64_t shared_bytes_of_groups(const Target& target, const core::Facts& facts);

using Choices = core::Choices;
using core::choice_of;

// Choices for launches of up to so many rows on such edges.
struct Band {
  int max_rows = 0;  // 0: any number
  Choices choices;
  core::Edges edges = core::Edges::kBoth;
};

// Choices that the tuning table has no say in, for more and more rows; the last band is for any number. CPU: one band,
// without choices but for chunk_delta:
//
//   tile_rows, tile_bytes   of every tile of the palette
//   inverse_parts           bf16 matrices whose sum an operand is: the triangular inverse,
//   output_parts            the weights of the output's tokens and the values they weigh,
//   decayed_key_parts       and with a decay by key channel the keys under it
//
// GPU:
//
//   threads        of a block
//   rows_per_pass  state rows that a lane group (a state with the key channel innermost) or a thread (any other) has in
//                  flight at a time
//
// for norm_quant heads_per_block, the value heads of a block; for prefill columns, the value channels of a block; and
// for the operations that stream the state of one token, different ones for few rows of decode:
//
//   head_parts     blocks that share a key head's value heads
//   row_parts      blocks that share the value channels of a value head
//   heads_first    1: blocks follow each other through the heads of a row; 0: through the rows of a head
//   skew           1: blocks begin with different slabs of a row of memory, where a slab is a part of one (a state with
//                  the value channel innermost); the model leaves it out, which is 0
//   fixed_heads    1: the value heads of a turn are a constant of the kernel, which must be the same for all turns; the
//                  model leaves it out, which is 0
//   in_turns       1: passes over a state with the key channel innermost take turns in two sets of registers, for
//                  blocks that have equally many value heads; the model leaves it out, which is 0
//   at_once        1: a block that has one pass over a state of 16 bits makes all of its sums at once, as those over
//                  fp32 do; the model leaves it out, which is 0
//   row_order      which row of a head's state with the key channel innermost is the r-th of R that a lane group t of T
//                  has in pass p of P: 0: (p T + t) R + r; 1: (r P + p) T + t; 2: (t P + p) R + r; 3: (t R + r) P + p;
//                  where the last pass would have fewer rows than the others 0. The model leaves it out, which is 0
//   weights_ahead  1: on a programmatic edge decode asks for the convolution's weights before the launch ahead is
//                  through; left out, 0
//   norm_ahead     1: decode asks for the norm's weights before it works on the state; left out, 0
//   inbox          1: a block of whole value heads, which are runs of rows in memory, asks for their states at once, in
//                  shared memory (templates/gdn/state_inbox.h); left out, 0
//   resident       blocks that fit on a multiprocessor at least, by the registers that a thread may have; 0: no wish
//   arrivals       1: blocks that share a key head meet in memory (templates/gdn/arrivals.h) although the target has
//                  clusters; the model leaves it out. Without clusters they always do
//
//   ahead          passes behind the first whose rows of a state with the key channel innermost a block asks the L2 for
//                  when it begins; the model leaves it out, which is 0
//
// decode_spec has threads, rows_per_pass, head_parts, resident and ahead too, and
//
//   row_lanes      threads that share a row of a state with the key channel innermost; 0: as many as in decode
//   interleave     1: neighbouring threads have rows of their own; 0: they share one. Of a state with the key channel
//                  innermost; left out, 0
//   evict_first    1: states that are stored are the first to leave the caches; left out, 0
//   inbox          1: a block asks for its states at once, in shared memory, where heads are runs of rows of key
//                  channels; 2: the first half of the first value head comes to registers instead; left out, 0
//   products       1: warps take matrix products of rows (templates/gdn/token_products.h), which have no row_lanes,
//                  rows_per_pass and interleave; left out, 0
std::vector<Band> model_bands(const Target& target, std::string_view operation, const core::Facts& facts);

// What is wrong with choices for this operation on this target, as text that names the limit; empty when nothing is.
std::string choices_fault(const Target& target, std::string_view operation, const core::Facts& facts,
                          const Choices& choices);

}  // namespace gdn::plan
