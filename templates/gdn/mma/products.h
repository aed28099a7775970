// Products of one warp out of swizzled tiles in shared memory, for targets without warp-group products: fp16 operands,
// fp32 accumulators, mma.sync of 16x8 by ldmatrix.
//
// A warp group's product of M = 64 is four warps' products of M = 16, lane by lane: accumulators and A's words lie as
// gdn/sm90/wgmma.h says. So whatever is written over those fragments (sm90/slice.h, sm90/prep.h) holds here too, and a
// product is a loop over the same tiles.
#pragma once

#include "gdn/sm90/bulk.h"

namespace gdn::mma {

using namespace sm90;  // tiles, fragments and what one warp does alone are the same

// Operand B in tiles of 64 columns, one after the other, each a multiple of 128 bytes from 0. 16 numbers of n and 16 of
// k a load: b[0] and b[1] for the first 8 of n, b[2] and b[3] for the others.
class Operand {
 public:
  // Element (n, k) in row n and column k, or in row k and column n.
  GDN_DEVICE static Operand k_along_rows(unsigned tiles) {
    return Operand(tiles, lane_id() / 16 * 8 + lane_id() % 8, lane_id() / 8 % 2);
  }
  GDN_DEVICE static Operand n_along_rows(unsigned tiles) { return Operand(tiles, lane_id() % 16, lane_id() / 16); }

  // From `row` and `column`, multiples of 16.
  GDN_DEVICE void load(unsigned (&b)[4], int row, int column) const { load_matrices(b, address(row, column)); }
  GDN_DEVICE void load_transposed(unsigned (&b)[4], int row, int column) const {
    load_matrices_transposed(b, address(row, column));
  }

 private:
  GDN_DEVICE Operand(unsigned tiles, int row, int piece) : at_(tiles + tile_offset(row, piece * 8)) {}

  // tile_offset of the lane's place in so many rows and columns more: an exclusive or of the swizzle's bits.
  GDN_DEVICE unsigned address(int row, int column) const {
    return (at_ ^ static_cast<unsigned>(column % 64 * 2)) + static_cast<unsigned>(row * 128 + column / 64 * kTileBytes);
  }

  unsigned at_;
};

// The same of a lower triangular [64][64] as a record holds it (sm90/record.h), n its rows: a block is what a load
// takes, in the order of the lanes.
class Triangle {
 public:
  GDN_DEVICE explicit Triangle(unsigned at) : at_(at + static_cast<unsigned>(lane_id()) * 16) {}
  // From `row` and `column`, multiples of 16 on or below the diagonal.
  GDN_DEVICE void load(unsigned (&b)[4], int row, int column) const {
    load_matrices(b, at_ + triangle_offset(row, column));
  }

 private:
  unsigned at_;
};

// d[at] to d[at + 3] += a b.
template <int kCount>
GDN_DEVICE void add_product(float (&d)[kCount], int at, const unsigned (&a)[4], unsigned b0, unsigned b1) {
  float four[4] = {d[at], d[at + 1], d[at + 2], d[at + 3]};
  product_16x8(four, a, b0, b1);
  GDN_UNROLL
  for (int i = 0; i < 4; ++i) d[at + i] = four[i];
}

// The words of k-step i of A.
template <int kWords>
GDN_DEVICE void step_of(unsigned (&a)[4], const unsigned (&words)[kWords], int i) {
  GDN_UNROLL
  for (int j = 0; j < 4; ++j) a[j] = words[4 * i + j];
}

}  // namespace gdn::mma
