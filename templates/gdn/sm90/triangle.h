// M = (diag(1 / beta) + L)^-1 of a 64x64 chunk, L strictly lower, in blocks: the 16x16 blocks on the diagonal in fp32,
// then pairs of 16, then the pair of 32, by
//
//   [[X, 0], [L, Z]]^-1 = [[X^-1, 0], [-Z^-1 L X^-1, Z^-1]]
//
// in fp16 products with fp32 accumulators, as many bits as tf32. M is held times 2^kMatrixShift. A block of 128
// threads; barriers between the steps are the caller's. m and l lie in shared memory as triangle_offset has them.
#pragma once

#include "gdn/sm90/chunks.h"

namespace gdn::sm90 {

constexpr float kMatrixUnit = 1.0f / (1 << kMatrixShift);
// Of a diagonal block of L in shared memory, padded by 16 against bank conflicts.
constexpr int kDiagonalFloats = 256 + 16;

GDN_DEVICE void put(unsigned address, unsigned word) { store_shared(address, word); }
GDN_DEVICE void put_half(unsigned address, float x) { store_shared_half(address, float_to_half(x)); }

// A column of a diagonal block's inverse, by substitution: M_i = beta_i (e_i - sum over j < i of L_ij M_j), no
// division. `block` is L's, fp32 [16][16] in shared memory, of which the upper triangle is not read.
GDN_DEVICE void invert_16(float (&m)[16], const float* block, const float* beta, int column) {
  const float4* l = reinterpret_cast<const float4*>(block);
  const float4* b = reinterpret_cast<const float4*>(beta);
  GDN_UNROLL
  for (int i = 0; i < 16; ++i) {
    float even = i == column ? static_cast<float>(1 << kMatrixShift) : 0.0f, odd = 0.0f;
    GDN_UNROLL
    for (int j = 0; j < i; j += 4) {
      const float4 row = l[i * 4 + j / 4];
      even = fused(-row.x, m[j], even);
      if (j + 1 < i) odd = fused(-row.y, m[j + 1], odd);
      if (j + 2 < i) even = fused(-row.z, m[j + 2], even);
      if (j + 3 < i) odd = fused(-row.w, m[j + 3], odd);
    }
    const float4 four = b[i / 4];
    m[i] = (even + odd) * (i % 4 == 0 ? four.x : i % 4 == 1 ? four.y : i % 4 == 2 ? four.z : four.w);
  }
}

// [[X, 0], [L, Z]]^-1 has -Z^-1 L X^-1 in its corner; here for both pairs of 16x16 blocks.
GDN_DEVICE void join_16(unsigned m, unsigned l) {
  const int w = thread_id() / 32, g = lane_id() / 4, c = lane_id() % 4 * 2;
  const int first = w / 2 * 2, n = w % 2 * 8;  // block of X; columns of it
  const unsigned own = offset_in_block(lane_id() % 16, lane_id() / 16 * 8);
  unsigned a[4], b[2];
  float y[4] = {}, z[4] = {};
  load_matrices(a, l + triangle_block(first + 1, first) + own);
  load_two_matrices_transposed(b, m + triangle_block(first, first) + offset_in_block(lane_id() % 16, n));
  product_16x8(y, a, b[0], b[1]);
  load_matrices(a, m + triangle_block(first + 1, first + 1) + own);
  product_16x8(z, a, transposed(float_to_half_pair(y[0], y[1])), transposed(float_to_half_pair(y[2], y[3])));
  const unsigned to = m + triangle_block(first + 1, first) + offset_in_block(g, n + c);
  put(to, float_to_half_pair(-kMatrixUnit * z[0], -kMatrixUnit * z[1]));
  put(to + offset_in_block(8, 0), float_to_half_pair(-kMatrixUnit * z[2], -kMatrixUnit * z[3]));
}

// The same for the two 32x32 blocks; a warp has 8 columns.
GDN_DEVICE void join_32(unsigned m, unsigned l) {
  const int w = thread_id() / 32, g = lane_id() / 4, c = lane_id() % 4 * 2;
  const int own_block = w / 2, n = w % 2 * 8;  // of the warp's columns
  const unsigned own = offset_in_block(lane_id() % 16, lane_id() / 16 * 8);
  unsigned a[4], b[4], y_words[2][2];
  // X^-1 has no block above its diagonal: what the last warps load for it is not used.
  const int row = lane_id() < 16 ? own_block : 1;
  load_matrices_transposed(b, m + triangle_block(row, own_block) + offset_in_block(lane_id() % 16, n));
  GDN_UNROLL
  for (int i = 0; i < 2; ++i) {
    float y[4] = {};
    GDN_UNROLL
    for (int s = 0; s < 2; ++s) {
      if (s < own_block) continue;
      load_matrices(a, l + triangle_block(2 + i, s) + own);
      product_16x8(y, a, b[2 * s], b[2 * s + 1]);
    }
    y_words[i][0] = transposed(float_to_half_pair(y[0], y[1]));
    y_words[i][1] = transposed(float_to_half_pair(y[2], y[3]));
  }
  GDN_UNROLL
  for (int i = 0; i < 2; ++i) {
    float z[4] = {};
    GDN_UNROLL
    for (int s = 0; s <= i; ++s) {
      load_matrices(a, m + triangle_block(2 + i, 2 + s) + own);
      product_16x8(z, a, y_words[s][0], y_words[s][1]);
    }
    const unsigned to = m + triangle_block(2 + i, own_block) + offset_in_block(g, n + c);
    put(to, float_to_half_pair(-kMatrixUnit * z[0], -kMatrixUnit * z[1]));
    put(to + offset_in_block(8, 0), float_to_half_pair(-kMatrixUnit * z[2], -kMatrixUnit * z[3]));
  }
}

}  // namespace gdn::sm90
