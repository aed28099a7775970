// What lies between the kernels of a chunked prefill on Hopper, in bytes. Plain integers: the kernels, the plan and the
// tests read the same ones.
//
// A chunk's record, in this order:
//   per key head     k tiles, q tiles       fp16 [64 tokens][64 channels], swizzled, ceil(K / 64) tiles each
//   per value head   M, R                   fp16 [64][64], swizzled (prep.h)
//   per value head   its gates              fp32, see Gates
//
// The ends of a cut sequence's segments: fp32 S^T [V][K] and P [K][K] per (sequence, value head, segment) (segments.h).
#pragma once

#include "gdn/element.h"

namespace gdn::sm90 {

constexpr int kChunk = 64;        // tokens
constexpr int kTileBytes = 8192;  // 64 rows of 128 bytes

// Floats of a (chunk, value head). G_i is the sum of log2 decays of the chunk's tokens up to and with i.
struct Gates {
  static constexpr int kRead = 0;     // [64] 2^(G_i - kStateShift): the state's share of X
  static constexpr int kOut = 64;     // [64] 2^(G_i + kMatrixShift - kStateShift + p_i), p_i the exponent of R's row i
  static constexpr int kWrite = 128;  // [64] 2^(G_last - G_i + kStateShift - kMatrixShift)
  static constexpr int kOutScale = 192;  // [64] q's scale times 2^(-kMatrixShift - p_i)
  static constexpr int kDecay = 256;     // 2^G_last
  static constexpr int kFloats = 272;
  static constexpr int kBytes = 4 * kFloats;
};

GDN_HD constexpr int key_tiles(int key_dim) { return (key_dim + 63) / 64; }

// Where the parts of a record begin.
GDN_HD constexpr int record_matrices(int key_heads, int key_dim) {
  return key_heads * 2 * key_tiles(key_dim) * kTileBytes;
}
GDN_HD constexpr int record_gates(int key_heads, int value_heads, int key_dim) {
  return record_matrices(key_heads, key_dim) + value_heads * 2 * kTileBytes;
}
GDN_HD constexpr int record_bytes(int key_heads, int value_heads, int key_dim) {
  return (record_gates(key_heads, value_heads, key_dim) + value_heads * Gates::kBytes + 127) / 128 * 128;
}

// Chunk numbers that a launch may use (chunks.h).
GDN_HD constexpr long long chunk_numbers(long long tokens, long long sequences) { return tokens / kChunk + sequences; }

GDN_HD constexpr int end_floats(int key_dim, int value_dim) { return (value_dim + key_dim) * key_dim; }

// ---- dynamic shared memory of the kernels, in bytes; their headers say what lies there
// --------------------------------

// `heads`: value heads at a time.
GDN_HD constexpr int prep_shared(int key_dim, int group, int heads) {
  const int operands = 2 * key_tiles(key_dim) * kTileBytes, matrices = heads * 2 * kTileBytes;
  return (operands > matrices ? operands : matrices) + 4 * heads * (256 + 16) * 4 + 2 * group * kChunk * 4 +
         heads * Gates::kBytes;
}
GDN_HD constexpr int chain_shared(int key_dim, int slices, bool out) {
  const int of_out = out ? 2 : 1;
  return 3 * (of_out * (key_tiles(key_dim) + 1) * kTileBytes + slices * kTileBytes + 2048 + 16) +
         (out ? slices * 4 * 2048 : 0);
}
GDN_HD constexpr int pair_shared(int key_dim) {
  const int tiles = key_tiles(key_dim);
  return 4 * ((tiles + 2) * kTileBytes + 2048 + 16) + 2 * (4 * (tiles + 1) * 2048 + 1024) + 4 * 2048 + 32;
}
GDN_HD constexpr int combine_shared(int key_dim, int rows) { return key_dim * (2 * key_dim + rows) * 4 + 16; }

constexpr int kCombineThreads = 256, kCombineRows = 8;

}  // namespace gdn::sm90
