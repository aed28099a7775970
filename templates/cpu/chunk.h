// What the stages of a chunk share: the buffers of a thread's scratch memory and the registers with a role.
//
// The delta rule over a chunk of tokens of one value head, with k and q of its key head, D_ij = exp(G_i - G_j) and
// G the running sum of g inside the chunk (S: state before the chunk; every product has bf16 operands and fp32 sums):
//
//   A_ij = beta_i D_ij (k_i . k_j), j < i      T = (I + A)^-1                 B_ij = D_ij (q_i . k_j), j <= i
//   R = beta (V - exp(G) K S)                  U = T R
//   O = exp(G) Q S + B U                       S <- exp(G_last) S + K^T (exp(G_last - G) U)
//
// exp(G) multiplies fp32 sums row by row, never q or k, so that these and their products serve all value heads of the
// key head and are rounded once. Where roundings add up they are kept small: T, and B and U for the output, are sums of
// two bf16 matrices; U for the state hands what a token's rounding leaves to the next token (of similar keys only the
// sum of their U shows, and in it the leavings cancel). D outside the diagonal blocks is an outer
// product around the block's last token, so no exponent is positive.
//
// Tokens are rows of tiles. Both head dimensions are padded with zeros to whole blocks of 32, and so is the last chunk
// of a sequence: its empty rows have k = q = v = 0, beta = 0 and g = 0.
#pragma once

#include "cpu/context.h"
#include "cpu/conv_sequence.h"
#include "cpu/tiles.h"

namespace gdn::cpu {

constexpr int kChunk = 64;  // tokens
constexpr int kBlock = 32;  // rows and columns of a product's result
constexpr int kSub = 16;    // tokens of the blocks of A and D

// Byte offsets from reg::work. Rows are dense; "strips" are 32 columns wide and lie one after the other.
struct Buffers {
  explicit Buffers(const core::Facts& facts) {
    key_dim = padded(facts.key_dim);
    value_dim = padded(facts.value_dim);
    const int group = facts.group;
    k = take(2 * kChunk * key_dim);
    q = take(2 * kChunk * key_dim);
    k_pairs = take(2 * kChunk * key_dim);
    k_rows = take(2 * kChunk * key_dim);
    v = take(2 * kChunk * value_dim);
    kk = take(4 * kChunk * kChunk);
    qk = take(4 * kChunk * kChunk);
    a = take(4 * kChunk * kChunk);
    inverse = take(4 * kChunk * kChunk);
    t_high = take(2 * kChunk * kChunk);
    t_low = take(2 * kChunk * kChunk);
    b = take(2 * kChunk * kChunk);
    b_low = take(2 * kChunk * kChunk);
    r = take(2 * kChunk * value_dim);
    u = take(2 * kChunk * value_dim);
    u_low = take(2 * kChunk * value_dim);
    u_decayed = take(2 * kChunk * value_dim);
    o = take(4 * kChunk * value_dim);
    block = take(4 * kBlock * kBlock);
    state_bytes = 4 * key_dim * value_dim;
    state = take(static_cast<std::int64_t>(state_bytes) * group);
    state_pairs_bytes = 2 * key_dim * value_dim;
    state_pairs = take(static_cast<std::int64_t>(state_pairs_bytes) * group);
    for (int* const array : {&g, &beta, &from_start, &beta_from_start, &to_end, &to_block_end}) {
      *array = take(4 * kChunk);
    }
    from_block_end = take(4 * kChunk * (kChunk / kSub));
    lower = take(2 * 4 * kSub);
    decay = take(4);
    if (facts.rule == core::Rule::kKda) take_channels();
    for (int* const variable : {&blocks, &head_state, &head_pairs, &pending, &key_block}) *variable = take(8);
    walk = SequencePlaces::from(take(SequencePlaces::kBytes));
    use = take(8 * kUsePointers);
    part = take(8);
    ahead_left = take(8);
    ahead = take(8 * kAheadOperands);
    ahead_step = take(8 * kAheadOperands);
  }

  int key_dim = 0, value_dim = 0;  // whole blocks of 32

  int k = 0, q = 0;    // [token][key_dim] bf16
  int k_pairs = 0;     // [key_dim / 2][token]: pairs of channels, the right operand of k.k and q.k
  int k_rows = 0;      // [key_dim][token] bf16, each 32 tokens as pairs (t, t + 16): the left operand of the update
  int v = 0;           // [token][value_dim] bf16
  int kk = 0, qk = 0;  // [token][token] fp32, blocks on and below the diagonal
  int a = 0;           // [token][token] fp32
  int inverse = 0;     // [token][token] fp32; blocks above the diagonal stay zero
  int t_high = 0, t_low = 0;                   // [token][token] bf16
  int b = 0, b_low = 0;                        // the same
  int r = 0, u = 0, u_low = 0;                 // strips [token / 2][32] of pairs (t, t + 1)
  int u_decayed = 0;                           // strips [token / 2][32], each 32 tokens as pairs (t, t + 16)
  int o = 0;                                   // strips [token][32] fp32: Q S, then the output
  int block = 0;                               // [32][32] fp32: a product on its way to its use
  int state = 0, state_bytes = 0;              // per value head: strips [key_dim][32] fp32
  int state_pairs = 0, state_pairs_bytes = 0;  // per value head: strips [key_dim / 2][32] of pairs of bf16

  // [token] fp32 of the value head at hand; G and the exponents in the log2 domain.
  int g = 0;                // log2 of the decay, then its running sum
  int beta = 0;             // as handed over
  int from_start = 0;       // exp(G) * q_scale
  int beta_from_start = 0;  // beta exp(G) * k_scale
  int to_end = 0;           // exp(G_last - G) * k_scale
  int to_block_end = 0;     // exp(G_last of the token's block of 16 - G)
  int from_block_end = 0;   // [block of 16][token]: exp(G - G_last of the block), of tokens behind it
  int lower = 0;            // 16 dwords of ones, 16 of zeros: lower_up_to() of a triangle's rows
  int decay = 0;            // exp(G_last)

  // Variables of 8 bytes.
  int blocks = 0;  // blocks of 32 tokens that the chunk has
  SequencePlaces walk;
  int head_state = 0, head_pairs = 0;  // addresses of the value head's state and its pairs

  int part = 0;       // of the item, where it is done in parts
  int pending = 0;    // whether a product waits for its use
  int key_block = 0;  // of 32 key channels, in the update of the state
  static constexpr int kUsePointers = 4;
  int use = 0;  // addresses that the use of a product takes
  static constexpr int kAheadOperands = 8;
  int ahead_left = 0;             // rows of the next chunk that are still to be fetched
  int ahead = 0, ahead_step = 0;  // per operand: the next row's address, and bytes between rows

  std::int64_t size = 0;

  // kda, of the value head at hand.
  int gates = 0;                           // [token][key_dim] fp32: G in the log2 domain
  int channel_decay = 0;                   // [key_dim] fp32: exp(G_last)
  int range = 0;                           // per block of 16 tokens, 16 lanes: most of |G - G of its reference|
  int k_from_start = 0, q_from_start = 0;  // [token][key_dim] bf16, times exp(G)
  int k_to_end = 0, k_to_end_low = 0;      // times exp(G_last - G)
  int k_rows_low = 0;                      // of k_to_end_low, as k_rows is of k_to_end
  int block_left = 0;                      // per block: 16 rows of k, 16 of q [key_dim] bf16, around its reference
  int block_right = 0;                     // [token][key_dim] bf16: k around the reference of the block at hand
  int block_right_low = 0;                 // its second part
  int block_right_pairs = 0, block_right_pairs_low = 0;  // of them, as k_pairs is of k
  int products_by_channel = 0;                           // per block: 16 rows of k.k, 16 of q.k [token] fp32
  int token_block = 0;                                   // variable: the block at hand

  // Ones in lanes 0 to `row`, zeros in those behind: 16 dwords from there on.
  int lower_up_to(int row) const { return lower + 4 * (kSub - 1 - row); }

  static int padded(int dim) { return (dim + kBlock - 1) / kBlock * kBlock; }
  int strips() const { return value_dim / kBlock; }

 private:
  void take_channels() {
    gates = take(4 * kChunk * key_dim);
    channel_decay = take(4 * key_dim);
    range = take(4 * kLanes * (kChunk / kSub));
    for (int* const rows : {&k_from_start, &q_from_start, &k_to_end, &k_to_end_low, &k_rows_low, &block_right,
                            &block_right_low, &block_right_pairs, &block_right_pairs_low}) {
      *rows = take(2 * kChunk * key_dim);
    }
    block_left = take(2 * kBlock * key_dim * (kChunk / kSub));
    products_by_channel = take(4 * kBlock * kChunk * (kChunk / kSub));
    token_block = take(8);
  }

  int take(std::int64_t bytes) {
    const std::int64_t offset = size;
    size += (bytes + 63) / 64 * 64;
    return static_cast<int>(offset);
  }
};

// Of how many bf16 matrices, 1 or 2, an operand of a product is the sum. Plan data.
struct Parts {
  int inverse = 2;      // T
  int output = 2;       // B and U, for the output
  int decayed_key = 2;  // kda: k under its decay, wherever a product sums over its tokens; gdn's is exact
};

// What a launch adds that starts from the rows of the projections and ends at the layer's output: behind the buffers.
struct Projected {
  Projected(const core::Facts& facts, const Buffers& at);

  RowPlace convolved;  // [token][channels of a head], rounded as the facts say
  Histories histories;
  std::int64_t size = 0;  // with the buffers
};

struct ChunkContext {
  Context& c;
  Buffers at;
  Tiles* tiles;  // null: products by vectors
  Parts parts;
  const Projected* projected = nullptr;  // null: q, k, v, g and beta are handed over, and o is
  int item_parts = 1;                    // 1: an item is all value heads of its key head; else (columns of) one of them
  const Mark* ahead = nullptr;           // chunk_ahead.h

  int heads_of_item() const { return item_parts == 1 ? c.facts.group : 1; }
};

// The stages, in their order. Each leaves nothing in registers but those with a role.

// k, q and k's other two forms; K K^T and Q K^T. Once a key head and chunk.
void emit_keys(ChunkContext& cc);

// The parts of it that kda does for each value head, with k under its decays: rows of k_pairs' form from bf16 rows, rcx
// times 16 tokens; and k_rows by way of k_pairs.
void emit_transpose_rows(ChunkContext& cc, int from, int to);
void emit_key_rows(ChunkContext& cc, int from, int to);

// Row r9 + at.b of B, and its second part, from the fp32 values of blocks 0 to `block` in the registers from `first`
// on. zmm(zero) holds zeros and keeps them; `high`, `part` and the values change.
void emit_leave_b(ChunkContext& cc, int block, int first, int zero, int high, int part);

// v, G and the factors made from it, of value head reg::group, and from them A and B. For kda the second function,
// which does emit_keys()' share too.
void emit_values(ChunkContext& cc);
void emit_channel_values(ChunkContext& cc);

// x <- log2 of a decay from what is handed over, at least -256: below it, the decay is zero to fp32 whatever it meets.
void emit_to_log2(Context& c, int x, int t1, int t2, int t3);

// The inverse in its parts.
void emit_solve(ChunkContext& cc);

// R, U, the output into at.o, and the new state; the number of products that takes for a whole chunk.
void emit_apply(ChunkContext& cc);
int products_of_apply(const Buffers& at);

// The state of value head reg::group between its slot and at.state; zeros where the sequence starts without one.
void emit_take_state(ChunkContext& cc);
void emit_zero_state(ChunkContext& cc);
void emit_leave_state(ChunkContext& cc);

// at.o, rounded as the facts say, to an operand; or through the gated norm to the operand out.
void emit_leave_output(ChunkContext& cc, const core::Map& out);
void emit_norm_output(ChunkContext& cc);

// The whole function behind parts of columns: the windows of q and k of whole items, and the gated norm, if the layer
// has one, of o where it lies in the operand out. `parts` of an item share its sequence's rows; scratch memory of
// kAfterColumnsBytes.
void emit_after_columns(Context& c, int parts);
constexpr int kAfterColumnsBytes = 2 * SequencePlaces::kBytes;

// Where vector `index` of a row lies in strips of `rows` rows of fp32.
constexpr int strip_offset(int index, int rows) { return index / 2 * rows * 4 * kBlock + index % 2 * 64; }

// The whole function.
void emit_chunk_delta(ChunkContext& cc);

}  // namespace gdn::cpu
