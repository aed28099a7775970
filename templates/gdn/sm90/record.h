// What lies between the kernels of a chunked prefill on NVIDIA's tensor cores, in bytes. Plain integers: the kernels,
// the plan and the tests read the same ones.
//
// A chunk's record, in this order:
//   gdn   per key head     k tiles, q tiles      fp16 [64 tokens][64 channels], swizzled, ceil(K / 64) tiles each
//   kda   per value head   tiles of k for the update, of k, of q: each under its decays (prep_channels.h)
//         per value head   M, R                  fp16 [64][64], lower triangular (prep_block.h): see triangle_offset
//         per value head   its gates             fp32, see Gates
//
// The ends of a cut sequence's segments: fp32 S^T [V][K] and P [K][K] per (sequence, value head, segment) (segments.h).
#pragma once

#include "gdn/element.h"

namespace gdn::sm90 {

constexpr int kChunk = 64;        // tokens
constexpr int kTileBytes = 8192;  // 64 rows of 128 bytes

// M, or R, is its 16x16 blocks on and below the diagonal, column of blocks by column, the last one first; of a block
// its 8x8 quarters by rows. So a quarter, or core matrix of a product, is 128 bytes without gaps, and a column of
// blocks, or k-step, a run; the last two columns are one run.
constexpr int kBlockBytes = 512, kTriangleBytes = 10 * kBlockBytes;
// Byte offset of a block, row and column counted in blocks, and of an element in its block.
GDN_HD constexpr unsigned triangle_block(int row, int column) {
  return static_cast<unsigned>(((3 - column) * (4 - column) / 2 + row - column) * kBlockBytes);
}
GDN_HD constexpr unsigned offset_in_block(int row, int column) {
  return static_cast<unsigned>((row & 8) * 32 + (column & 8) * 16 + (row & 7) * 16 + (column & 7) * 2);
}
GDN_HD constexpr unsigned triangle_offset(int row, int column) {
  return triangle_block(row >> 4, column >> 4) + offset_in_block(row, column);
}

// Floats of a (chunk, value head). G_i is the sum of log2 decays of the chunk's tokens up to and with i.
struct Gates {
  static constexpr int kRead = 0;     // [64] 2^(G_i - kStateShift): the state's share of X
  static constexpr int kOut = 64;     // [64] 2^(G_i + kMatrixShift - kStateShift + p_i), p_i the exponent of R's row i
  static constexpr int kWrite = 128;  // [64] 2^(G_last - G_i + kStateShift - kMatrixShift)
  static constexpr int kOutScale = 192;  // [64] q's scale times 2^(-kMatrixShift - kPairShift - p_i)
  // 2^G_last: one number, or where they decay by channel one a key channel, ones beyond K. There G_i, and G_last - G_i,
  // above are the exponents of token i's row of k or q, which then carry their decays themselves.
  static constexpr int kDecay = 256;
};

GDN_HD constexpr int key_tiles(int key_dim) { return (key_dim + 63) / 64; }

// What sizes a record; by_channel: a value head's key channels decay each at its own rate (kda).
struct RecordSizes {
  int key_heads, value_heads, key_dim;
  bool by_channel;

  // Sets of key tiles, one a head that owns them.
  GDN_HD constexpr int owners() const { return by_channel ? value_heads : key_heads; }
  GDN_HD constexpr int owned_bytes() const { return (by_channel ? 3 : 2) * key_tiles(key_dim) * kTileBytes; }
  GDN_HD constexpr int gate_bytes() const { return 4 * (Gates::kDecay + (by_channel ? 64 * key_tiles(key_dim) : 16)); }
  // Where the parts of a record begin.
  GDN_HD constexpr int matrices() const { return owners() * owned_bytes(); }
  GDN_HD constexpr int gates() const { return matrices() + value_heads * 2 * kTriangleBytes; }
  GDN_HD constexpr int bytes() const { return (gates() + value_heads * gate_bytes() + 127) / 128 * 128; }
};

// Chunk numbers that a launch may use (chunks.h).
GDN_HD constexpr long long chunk_numbers(long long tokens, long long sequences) { return tokens / kChunk + sequences; }

GDN_HD constexpr int end_floats(int key_dim, int value_dim) { return (value_dim + key_dim) * key_dim; }

// ---- dynamic shared memory of the kernels, in bytes; their headers say what lies there
// --------------------------------

// `heads`: value heads at a time.
GDN_HD constexpr int prep_shared(int key_dim, int group, int heads) {
  const int operands = 2 * key_tiles(key_dim) * kTileBytes, matrices = heads * 2 * kTriangleBytes;
  return (operands > matrices ? operands : matrices) + 4 * heads * (256 + 16) * 4 + 2 * group * kChunk * 4 +
         heads * RecordSizes{1, 1, key_dim, false}.gate_bytes();
}
// Of channels that decay by themselves more than two tiles are worked through tile by tile.
GDN_HD constexpr bool prep_by_tile(int key_dim) { return key_tiles(key_dim) > 2; }
// fp32 [64][channels], in whose place M and L are later.
GDN_HD constexpr int channel_sums_bytes(int key_dim) {
  const int sums = kChunk * 64 * (prep_by_tile(key_dim) ? 1 : key_tiles(key_dim)) * 4, matrices = 2 * kTriangleBytes;
  return sums > matrices ? sums : matrices;
}
GDN_HD constexpr int prep_channels_shared(int key_dim) {
  return 2 * key_tiles(key_dim) * kTileBytes + channel_sums_bytes(key_dim) + 4 * (256 + 16) * 4 + 3 * kChunk * 4 +
         RecordSizes{1, 1, key_dim, true}.gate_bytes();
}

// Chunks that a block of the chain has room for; of the keys by channel fewer fit.
GDN_HD constexpr int chain_stage_bytes(int key_dim, int slices, bool out, bool by_channel) {
  const int keys = (out ? 2 : 1) + (by_channel ? 1 : 0);
  return (keys * key_tiles(key_dim) + (out ? 2 : 1) + slices) * kTileBytes + 2048;
}
GDN_HD constexpr int chain_stages(int key_dim, int slices, bool out, bool by_channel) {
  const int bytes = 3 * (chain_stage_bytes(key_dim, slices, out, by_channel) + 16) + (out ? slices * 4 * 2048 : 0);
  return bytes <= 227 * 1024 ? 3 : 2;
}
GDN_HD constexpr int chain_shared(int key_dim, int slices, bool out, bool by_channel) {
  return chain_stages(key_dim, slices, out, by_channel) * (chain_stage_bytes(key_dim, slices, out, by_channel) + 16) +
         (out ? slices * 4 * 2048 : 0);
}
GDN_HD constexpr int pair_stages(bool by_channel) { return by_channel ? 3 : 4; }
GDN_HD constexpr int pair_shared(int key_dim, bool by_channel) {
  const int tiles = key_tiles(key_dim);
  return pair_stages(by_channel) * (((by_channel ? 2 : 1) * tiles + 2) * kTileBytes + 2048 + 16) +
         2 * (4 * (tiles + 1) * 2048 + 1024) + 4 * 2048 + 32;
}
// The chain without warp groups (gdn/mma/chain.h): one or two places for k, M, v and the gates, one for q and R.
GDN_HD constexpr int warp_chain_shared(int key_dim, int slices, bool by_channel, bool snapshots, int places = 2) {
  const int gates = (RecordSizes{1, 1, key_dim, by_channel}.gate_bytes() + 127) / 128 * 128;
  return places * ((key_tiles(key_dim) + slices) * kTileBytes + kTriangleBytes + gates) +
         key_tiles(key_dim) * kTileBytes + kTriangleBytes + (snapshots ? 4 * 64 : 0);
}
GDN_HD constexpr int combine_shared(int key_dim, int rows) { return key_dim * (2 * key_dim + rows) * 4 + 16; }

constexpr int kPrepThreads = 128;
constexpr int kCombineThreads = 256, kCombineRows = 8;

}  // namespace gdn::sm90
