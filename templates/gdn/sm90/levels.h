// L and P of a chunk whose key channels decay each at its own rate: with G_i[c] the sum of log2 decays up to and with
// token i
//
//   L_ij = sum_c k_i k_j 2^(G_i - G_j)   j < i            P_ij = sum_c q_i k_j 2^(G_i - G_j)   j <= i
//
// A pair's decay is taken apart at the token r where the two part ways: 2^(G_i - G_r) 2^(G_r - G_j), r being the last
// token of the first half of the smallest aligned block of 2, 4, .. 64 tokens that holds both. Both exponents are sums
// of rates and so at most 0, whatever the rates: no factor overflows, and one that fades takes only what is fainter
// than it. So a chunk is six levels, of half h = 32, 16, .. 1: every token is left (i) or right (j) of exactly one
// block's middle, and the level's pairs are products of 32 left tokens, k beside q, with 32 right ones. The diagonal of
// P has no decay.
//
// Numbers: k and q times a factor in fp16, 2^kFactorShift times as large, with fp32 sums; decays are differences of
// fp32 sums.
#pragma once

#include "gdn/sm90/channel_shape.h"

namespace gdn::sm90 {

// A token of a level of half h: number x of those left, or right, of the middles of the blocks of 2 h tokens.
template <int h>
GDN_DEVICE constexpr int left_token(int x) {
  return (x & ~(h - 1)) * 2 + h + (x & (h - 1));
}
template <int h>
GDN_DEVICE constexpr int right_token(int x) {
  return (x & ~(h - 1)) * 2 + (x & (h - 1));
}
// The token at which the decay between two of a block is taken apart.
template <int h>
GDN_DEVICE constexpr int middle_token(int token) {
  return (token & ~(2 * h - 1)) + h - 1;
}

// A token of level 8, 4, 2 or 1 in a block of 16, which is a warp's. A lane has two tokens of it, x = lane / 4 and its
// complement 15 - x, which differ in every bit: at each level one of them is left, the other right.
template <int h>
GDN_DEVICE constexpr int near_left(int x) {
  return x & h ? x : 15 - x;
}
template <int h>
GDN_DEVICE constexpr int near_right(int x) {
  return x & h ? 15 - x : x;
}

// A warp's share of level 32 or 16: kRows times 8 left tokens and kColumns times 8 right ones. Of a sum, [0] and [1]
// are L's of a left token and two right ones, [2] and [3] are P's. Until its place in shared memory is free, it is held
// as fp16 pairs: a left token a row, two right ones a word.
template <int h, int kRows, int kColumns>
struct Level {
  // Where a lane's first tokens lie in shared memory, in a step's tile and among its sums; others are 8 tokens further.
  int left_row, left_sum, right_row, right_sum, middle_sum;
  float sum[kRows][kColumns][4] = {};
  unsigned l[kRows][kColumns], p[kRows][kColumns];
};
// Of one of the others: 8 times 8, of which L has its place before.
struct NearLevel {
  float sum[4] = {};
  unsigned p;
};

template <class F>
class Levels {
  using Shape = ChannelShape<F>;
  static constexpr float kUnit = 1.0f / (1 << Shape::kFactorShift);
  static constexpr float kPairUnit = kUnit * kUnit * (1 << Record<F>::kPairShift);

 public:
  GDN_DEVICE explicit Levels(char* shared) : shared_(shared), base_(shared_address(shared)) {}

  // By all threads, from k, q and G in shared memory. L of the diagonal blocks goes to its place. Loops are over
  // channels with levels inside, so that the code of one step is all there is: it stays in the instruction cache, where
  // six levels' loops one behind the other would not. The levels of 32 and 16 have a loop of their own, behind which
  // their sums are pairs of fp16: with all six in one loop its registers left too few for what is under way. By tile
  // they share one, since a tile's sums are there but once; `begin_tile(t)` is then called by all threads before tile
  // t.
  template <class Begin>
  GDN_DEVICE void multiply(Begin&& begin_tile) {
    if constexpr (Shape::kByTile) {
      find_far(), find_near();
      GDN_NO_UNROLL
      for (int t = 0; t < Record<F>::kKeyTiles; ++t) {
        begin_tile(t);
        GDN_UNROLL
        for (int odd = 0; odd < 2; ++odd) multiply_far(odd), multiply_near(odd);
        move_far(), move_near();
      }
      finish_far(), finish_near();
    } else {
      find_far();
      GDN_NO_UNROLL
      for (int t = 0; t < Record<F>::kKeyTiles; ++t) {
        GDN_UNROLL
        for (int odd = 0; odd < 2; ++odd) multiply_far(odd);
        move_far();
      }
      finish_far();
      find_near();
      GDN_NO_UNROLL
      for (int t = 0; t < Record<F>::kKeyTiles; ++t) {
        GDN_UNROLL
        for (int odd = 0; odd < 2; ++odd) multiply_near(odd);
        move_near();
      }
      finish_near();
    }
  }

  // The rest to the tiles of L and P, once their place is free.
  GDN_DEVICE void put() {
    clear_diagonal();
    put(of32_);
    put(of16_);
    put<8>(of8_);
    put<4>(of4_);
    put<2>(of2_);
    put<1>(of1_);
    if (lane_id() % 4 == lane_id() / 8) {
      const int x = lane_id() / 4;
      put_half(own_block() + offset_in_block(x, x), low_[0]);
      put_half(own_block() + offset_in_block(15 - x, 15 - x), high_[0]);
    }
  }

  // P's fragments of the warp's rows, which M's will take the place of.
  GDN_DEVICE void load_p(unsigned (&p)[16]) const {
    const int w = thread_id() / 32;
    const unsigned own = p_tile() + offset_in_block(lane_id() % 16, lane_id() / 16 * 8);
    GDN_UNROLL
    for (int s = 0; s < 4; ++s) {
      unsigned a[4] = {};
      if (s <= w) load_matrices(a, own + triangle_block(w, s));
      GDN_UNROLL
      for (int i = 0; i < 4; ++i) p[4 * s + i] = a[i];
    }
    warp_barrier();
  }

 private:
  GDN_DEVICE float* diagonal(int block) const {
    return reinterpret_cast<float*>(shared_ + Shape::kDiagonal) + block * kDiagonalFloats;
  }
  GDN_DEVICE unsigned p_tile() const { return base_ + Shape::kSquares; }  // where M will be; L's is behind it
  GDN_DEVICE unsigned own_block() const {                                 // of the warp, on P's diagonal
    return p_tile() + triangle_block(thread_id() / 32, thread_id() / 32);
  }

  // The numbers of a level's left and right tokens that are the warp's first.
  template <int h>
  GDN_DEVICE static int left_of_warp() {
    const int w = thread_id() / 32;
    return h == 32 ? w / 2 * 16 : w * 8;
  }
  template <int h>
  GDN_DEVICE static int right_of_warp() {
    const int w = thread_id() / 32;
    return h == 32 ? w % 2 * 16 : w / 2 * 16;
  }

  GDN_DEVICE static int first_token() { return thread_id() / 32 * 16; }  // of the warp's block of 16

  // What a lane has of a token in a step, the even or the odd pieces of a tile: 8 channels of k, or of q, as four
  // words, and their sums. Which channels is left to the lanes, as long as all rows of a product agree: 16 bytes at a
  // time, without bank conflicts.
  GDN_DEVICE static int row_offset(int token) { return static_cast<int>(tile_offset(token, lane_id() % 4 * 16)); }
  GDN_DEVICE static int sums_offset(int token) {
    return Shape::kSums + (token * Shape::kChannels + sum_offset(token, lane_id() % 4 * 2, 0)) * 4;
  }
  GDN_DEVICE static uint4 words(const char* at) { return *reinterpret_cast<const uint4*>(at); }
  static constexpr int kSumsOfToken = Shape::kChannels * 4, kRowsOf8 = 8 * 128, kSumsOf8 = 8 * kSumsOfToken;  // bytes
  struct Eight {
    float4 low, high;
  };
  GDN_DEVICE static Eight eight(const char* shared, int at, int odd) {
    return {*reinterpret_cast<const float4*>(shared + at + odd * 128),
            *reinterpret_cast<const float4*>(shared + (at ^ 64) + odd * 128)};
  }

  // 2^(G_a - G_b) in fp16: what it loses is below 2^-11 of itself, or below 2^-25 of k's and q's own sizes.
  GDN_DEVICE static unsigned decay(float a0, float b0, float a1, float b1) {
    return float_to_half_pair(exp2_fast(a0 - b0), exp2_fast(a1 - b1));
  }
  GDN_DEVICE static uint4 decay(const Eight& a, const Eight& b) {
    return {decay(a.low.x, b.low.x, a.low.y, b.low.y), decay(a.low.z, b.low.z, a.low.w, b.low.w),
            decay(a.high.x, b.high.x, a.high.y, b.high.y), decay(a.high.z, b.high.z, a.high.w, b.high.w)};
  }
  // The same where it is not said which of the two tokens is the later one.
  GDN_DEVICE static unsigned fall(float a0, float b0, float a1, float b1) {
    return float_to_half_pair(exp2_fast(-magnitude_of(a0 - b0)), exp2_fast(-magnitude_of(a1 - b1)));
  }
  GDN_DEVICE static uint4 fall(const Eight& a, const Eight& b) {
    return {fall(a.low.x, b.low.x, a.low.y, b.low.y), fall(a.low.z, b.low.z, a.low.w, b.low.w),
            fall(a.high.x, b.high.x, a.high.y, b.high.y), fall(a.high.z, b.high.z, a.high.w, b.high.w)};
  }
  GDN_DEVICE static uint4 either(bool first, const uint4& x, const uint4& y) {
    return {first ? x.x : y.x, first ? x.y : y.y, first ? x.z : y.z, first ? x.w : y.w};
  }
  GDN_DEVICE static float4 either(bool first, const float4& x, const float4& y) {
    return {first ? x.x : y.x, first ? x.y : y.y, first ? x.z : y.z, first ? x.w : y.w};
  }
  GDN_DEVICE static uint4 times(const uint4& x, const uint4& by) {
    return {product_half(x.x, by.x), product_half(x.y, by.y), product_half(x.z, by.z), product_half(x.w, by.w)};
  }

  GDN_DEVICE void find_far() { find(of32_), find(of16_); }
  GDN_DEVICE void multiply_far(int odd) { multiply(of32_, odd), multiply(of16_, odd); }
  GDN_DEVICE void move_far() { move(of32_), move(of16_); }
  GDN_DEVICE void finish_far() { finish(of32_), finish(of16_); }

  // Where a level's tokens are.
  template <int h, int kRows, int kColumns>
  GDN_DEVICE void find(Level<h, kRows, kColumns>& level) const {
    const int g = lane_id() / 4, left = left_of_warp<h>(), right = right_of_warp<h>();
    // All tokens of a lane are of one block, whose middle this is.
    const int left_of_lane = left_token<h>(left + g), right_of_lane = right_token<h>(right + g);
    level.middle_sum = sums_offset(middle_token<h>(left_of_lane));
    level.right_row = row_offset(right_of_lane), level.right_sum = sums_offset(right_of_lane);
    level.left_row = row_offset(left_of_lane), level.left_sum = sums_offset(left_of_lane);
  }

  static constexpr int kSumsOfTile = Shape::kTiles > 1 ? 256 : 0;  // bytes
  // To the next tile.
  template <int h, int kRows, int kColumns>
  GDN_DEVICE void move(Level<h, kRows, kColumns>& level) const {
    level.right_row += kTileBytes, level.right_sum += kSumsOfTile, level.middle_sum += kSumsOfTile;
    level.left_row += kTileBytes, level.left_sum += kSumsOfTile;
  }

  // What a step gives of a level's products.
  template <int h, int kRows, int kColumns>
  GDN_DEVICE void multiply(Level<h, kRows, kColumns>& level, int odd) const {
    const Eight middle = eight(shared_, level.middle_sum, odd);
    unsigned a[kRows][2][4];
    GDN_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const uint4 by = decay(eight(shared_ + m * kSumsOf8, level.left_sum, odd), middle);
      const char* const at = shared_ + m * kRowsOf8 + (level.left_row ^ (16 * odd));
      const uint4 k = times(words(at), by), q = times(words(at + Record<F>::kKeyBytes), by);
      a[m][0][0] = k.x, a[m][0][1] = q.x, a[m][0][2] = k.y, a[m][0][3] = q.y;
      a[m][1][0] = k.z, a[m][1][1] = q.z, a[m][1][2] = k.w, a[m][1][3] = q.w;
    }
    GDN_UNROLL
    for (int n = 0; n < kColumns; ++n) {
      uint4 b = words(shared_ + n * kRowsOf8 + (level.right_row ^ (16 * odd)));
      b = times(b, decay(middle, eight(shared_ + n * kSumsOf8, level.right_sum, odd)));
      GDN_UNROLL
      for (int m = 0; m < kRows; ++m) {
        product_16x8(level.sum[m][n], a[m][0], b.x, b.y);
        product_16x8(level.sum[m][n], a[m][1], b.z, b.w);
      }
    }
  }

  // To fp16, in place of the sums.
  template <int h, int kRows, int kColumns>
  GDN_DEVICE void finish(Level<h, kRows, kColumns>& level) const {
    GDN_UNROLL
    for (int m = 0; m < kRows; ++m) {
      GDN_UNROLL
      for (int n = 0; n < kColumns; ++n) {
        const float(&d)[4] = level.sum[m][n];
        level.l[m][n] = float_to_half_pair(d[0] * (kUnit * kUnit), d[1] * (kUnit * kUnit));
        level.p[m][n] = float_to_half_pair(d[2] * kPairUnit, d[3] * kPairUnit);
      }
    }
  }

  // ---- inside a block of 16 tokens: all four levels out of one load of a lane's two tokens --------------------------

  GDN_DEVICE void find_near() {
    const int first = first_token(), x = lane_id() / 4;
    row_[0] = row_offset(first + x), row_[1] = row_offset(first + 15 - x);
    sum_[0] = sums_offset(first + x), sum_[1] = sums_offset(first + 15 - x);
    middle_of_8_ = sums_offset(first + 7);
    middle_of_2_[0] = sums_offset(middle_token<2>(first + x));
    middle_of_2_[1] = sums_offset(middle_token<2>(first + 15 - x));
    middle_of_1_ = sums_offset(first + near_left<1>(x) - 1);
  }
  GDN_DEVICE void finish_near() {
    finish<8>(of8_);
    finish<4>(of4_);
    finish<2>(of2_);
    finish<1>(of1_);
    finish_own();
  }
  GDN_DEVICE void move_near() {
    row_[0] += kTileBytes, row_[1] += kTileBytes, sum_[0] += kSumsOfTile, sum_[1] += kSumsOfTile;
    middle_of_8_ += kSumsOfTile, middle_of_1_ += kSumsOfTile;
    middle_of_2_[0] += kSumsOfTile, middle_of_2_[1] += kSumsOfTile;
  }
  GDN_DEVICE void multiply_near(int odd) {
    const char* const at0 = shared_ + (row_[0] ^ (16 * odd));
    const char* const at1 = shared_ + (row_[1] ^ (16 * odd));
    const Eight g0 = eight(shared_, sum_[0], odd), g1 = eight(shared_, sum_[1], odd);
    const uint4 k0 = words(at0), k1 = words(at1);
    const uint4 q0 = words(at0 + Record<F>::kKeyBytes), q1 = words(at1 + Record<F>::kKeyBytes);
    add(low_, q0, q1, k0);
    add(high_, q0, q1, k1);
    const Eight middle = eight(shared_, middle_of_8_, odd);
    const uint4 left = decay(g1, middle);
    add(of8_.sum, times(k1, left), times(q1, left), times(k0, decay(middle, g0)));
    static_assert(sums_half_of(3) == sums_half_of(7) && sums_half_of(11) == sums_half_of(7), "so many tokens apart");
    multiply_near<4>(of4_, g0, eight(shared_ - 4 * kSumsOfToken, middle_of_8_, odd), g1,
                     eight(shared_ + 4 * kSumsOfToken, middle_of_8_, odd), k0, q0, k1, q1);
    multiply_near<2>(of2_, g0, eight(shared_, middle_of_2_[0], odd), g1, eight(shared_, middle_of_2_[1], odd), k0, q0,
                     k1, q1);
    // The right token of a block of two is its middle.
    const bool first = lane_id() / 4 & 1;
    const uint4 by =
        decay({either(first, g0.low, g1.low), either(first, g0.high, g1.high)}, eight(shared_, middle_of_1_, odd));
    add(of1_.sum, times(either(first, k0, k1), by), times(either(first, q0, q1), by), either(first, k1, k0));
  }
  // Of the lane's two tokens, each with the middle of its block.
  template <int h>
  GDN_DEVICE static void multiply_near(NearLevel& level, const Eight& g0, const Eight& middle0, const Eight& g1,
                                       const Eight& middle1, const uint4& k0, const uint4& q0, const uint4& k1,
                                       const uint4& q1) {
    const bool first = lane_id() / 4 & h;
    const uint4 by0 = fall(g0, middle0), by1 = fall(g1, middle1);
    const uint4 of0 = times(k0, by0), of1 = times(k1, by1);
    add(level.sum, either(first, of0, of1), times(either(first, q0, q1), either(first, by0, by1)),
        either(first, of1, of0));
  }
  // Rows of 8 tokens' a and b, columns of 8 tokens' c, 32 channels.
  GDN_DEVICE static void add(float (&sum)[4], const uint4& a, const uint4& b, const uint4& c) {
    product_16x8(sum, {a.x, b.x, a.y, b.y}, c.x, c.y);
    product_16x8(sum, {a.z, b.z, a.w, b.w}, c.z, c.w);
  }

  // L goes to its place.
  template <int h>
  GDN_DEVICE void finish(NearLevel& level) const {
    const int x = lane_id() / 4, c = lane_id() % 4 * 2, row = near_left<h>(x);
    float(&d)[4] = level.sum;
    float* const to = diagonal(thread_id() / 32) + row * 16;
    GDN_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int column = near_right<h>(c + i);
      if (of_one_block<h>(row, column)) to[column] = d[i] * (kUnit * kUnit);
    }
    level.p = float_to_half_pair(d[2] * kPairUnit, d[3] * kPairUnit);
  }

  // Whether a left and a right token are of the same block; other pairs are another level's.
  template <int h>
  GDN_DEVICE static bool of_one_block(int left, int right) {
    return h >= 8 || middle_token<h>(left) == middle_token<h>(right);
  }

  // q_i . k_i of a warp's 16 tokens, in the lanes whose columns these are.
  GDN_DEVICE void finish_own() {
    const bool odd = lane_id() / 4 % 2 != 0;
    low_[0] = (odd ? low_[1] : low_[0]) * kPairUnit;
    high_[0] = (odd ? high_[3] : high_[2]) * kPairUnit;
  }

  // The warp's block on P's diagonal, of which half is never computed.
  GDN_DEVICE void clear_diagonal() {
    store_shared_16(own_block() + static_cast<unsigned>(lane_id()) * 16, 0, 0, 0, 0);
    warp_barrier();
  }

  // A level to its place in the tiles of L and P.
  template <int h, int kRows, int kColumns>
  GDN_DEVICE void put(const Level<h, kRows, kColumns>& level) const {
    const int g = lane_id() / 4, c = lane_id() % 4 * 2, left = left_of_warp<h>(), right = right_of_warp<h>();
    GDN_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const int row = left_token<h>(left + 8 * m + g);
      GDN_UNROLL
      for (int n = 0; n < kColumns; ++n) {
        const int column = right_token<h>(right + 8 * n + c);
        const unsigned at = p_tile() + triangle_offset(row, column);
        store_shared(at, level.p[m][n]);
        store_shared(at + kTriangleBytes, level.l[m][n]);
      }
    }
  }
  template <int h>
  GDN_DEVICE void put(const NearLevel& level) const {
    const int c = lane_id() % 4 * 2, row = near_left<h>(lane_id() / 4);
    GDN_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int column = near_right<h>(c + i);
      if (!of_one_block<h>(row, column)) continue;
      store_shared_half(own_block() + offset_in_block(row, column), static_cast<unsigned short>(level.p >> (16 * i)));
    }
  }

  char* shared_;
  unsigned base_;
  Level<32, 2, 2> of32_;
  Level<16, 1, 2> of16_;
  NearLevel of8_, of4_, of2_, of1_;
  int row_[2], sum_[2], middle_of_8_, middle_of_2_[2], middle_of_1_;  // of the lane's two tokens, as a level's
  float low_[4] = {}, high_[4] = {};  // products of own keys and queries; later [0], of the tokens themselves
};

}  // namespace gdn::sm90
