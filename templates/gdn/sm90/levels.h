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

#include "gdn/sm90/triangle.h"

namespace gdn::sm90 {

template <class F>
struct ChannelShape {
  static constexpr int kThreads = kPrepThreads, kMembers = 1, kHeads = 1;
  static constexpr int kChannels = 64 * Record<F>::kKeyTiles;
  // fp32 [64][kStride]; then k's tiles for the update, M and L (later R) in the same place. Neighbouring rows start 8
  // banks apart, so that a fragment's four rows of 8 channels lie in all of them.
  static constexpr int kSums = 2 * Record<F>::kKeyBytes, kStride = kChannels + 8;
  static constexpr int kUpdate = kSums, kSquares = kUpdate + Record<F>::kKeyBytes;
  static constexpr int kDiagonal = kSums + channel_sums_bytes(F::kKeyDim);  // fp32 [4] kDiagonalFloats
  static constexpr int kRead = kDiagonal + 4 * kDiagonalFloats * 4;         // fp32 [64]: exponents of k's rows, ..
  static constexpr int kQuery = kRead + kChunk * 4;                         // .. of q's
  static constexpr int kWrite = kQuery + kChunk * 4;                        // .. and of k's for the update
  static constexpr int kBeta = kWrite + kChunk * 4;                         // fp32 [64]
  static constexpr int kGates = kBeta + kChunk * 4;
  static constexpr int kShared = kGates + Record<F>::kGateBytes;
  // Of k and q in shared memory: the factors' entries are then normal down to 2^-27. Vectors that need not be units get
  // less, for fp16 to hold them.
  static constexpr int kFactorShift = F::kQkNorm ? 13 : 6;
  static_assert(kShared == prep_channels_shared(F::kKeyDim), "as the launch will have it");
};

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

// What a warp has of a level until its place in shared memory is free: fp16 pairs of L and of P, a left token a row,
// two right ones a word, for kRows times 8 left tokens and kColumns times 8 right ones.
template <int kRows, int kColumns>
struct Level {
  unsigned l[kRows][kColumns], p[kRows][kColumns];
};

template <class F>
class Levels {
  using Shape = ChannelShape<F>;
  static constexpr int kSteps = ceil_div(F::kKeyDim, 16);  // of 16 channels
  static constexpr float kUnit = 1.0f / (1 << Shape::kFactorShift);
  static constexpr float kPairUnit = kUnit * kUnit * (1 << Record<F>::kPairShift);

 public:
  GDN_DEVICE explicit Levels(char* shared) : shared_(shared), base_(shared_address(shared)) {}

  // By all threads, from k, q and G in shared memory. L of the diagonal blocks goes to its place.
  GDN_DEVICE void multiply() {
    const int w = thread_id() / 32;
    multiply<32>(of32_, w / 2 * 16, w % 2 * 16);
    multiply<16>(of16_, w * 8, w / 2 * 16);
    multiply<8>(of8_, w * 8, w * 8);
    multiply<4>(of4_, w * 8, w * 8);
    multiply<2>(of2_, w * 8, w * 8);
    multiply<1>(of1_, w * 8, w * 8);
    multiply_own();
  }

  // The rest to the tiles of L and P, once their place is free.
  GDN_DEVICE void put() {
    const int w = thread_id() / 32;
    clear_diagonal();
    put<32>(of32_, w / 2 * 16, w % 2 * 16);
    put<16>(of16_, w * 8, w / 2 * 16);
    put<8>(of8_, w * 8, w * 8);
    put<4>(of4_, w * 8, w * 8);
    put<2>(of2_, w * 8, w * 8);
    put<1>(of1_, w * 8, w * 8);
    if (lane_id() % 4 == lane_id() / 8) {
      const int row = 16 * w + lane_id() / 4;
      put_half(p_tile() + tile_offset(row, row), own_[0]);
      put_half(p_tile() + tile_offset(row + 8, row + 8), own_[1]);
    }
  }

  // P's fragments of the warp's rows, which M's will take the place of.
  GDN_DEVICE void load_p(unsigned (&p)[16]) const {
    const int first = thread_id() / 32 * 16, lane = lane_id();
    GDN_UNROLL
    for (int s = 0; s < 4; ++s) {
      unsigned a[4] = {};
      if (s <= thread_id() / 32) load_matrices(a, p_tile() + tile_offset(first + lane % 16, 16 * s + lane / 16 * 8));
      GDN_UNROLL
      for (int i = 0; i < 4; ++i) p[4 * s + i] = a[i];
    }
    warp_barrier();
  }

 private:
  GDN_DEVICE const float* sums(int token) const {
    return reinterpret_cast<const float*>(shared_ + Shape::kSums) + token * Shape::kStride;
  }
  GDN_DEVICE float* diagonal(int block) const {
    return reinterpret_cast<float*>(shared_ + Shape::kDiagonal) + block * kDiagonalFloats;
  }
  GDN_DEVICE unsigned p_tile() const { return base_ + Shape::kSquares; }  // where M will be
  GDN_DEVICE unsigned l_tile() const { return p_tile() + kTileBytes; }

  // Two neighbouring channels of a token's row of k, or of q: `row` is the token's, of channels 2 c and 2 c + 1 of
  // eight.
  GDN_DEVICE static int row_offset(int token) { return static_cast<int>(tile_offset(token, 0)) + lane_id() % 4 * 4; }
  GDN_DEVICE unsigned word(int tile, int row, int channel) const {
    const int at = tile + channel / 64 * kTileBytes + (row ^ (channel % 64 / 8 * 16));
    return *reinterpret_cast<const unsigned*>(shared_ + at);
  }
  GDN_DEVICE static unsigned times(unsigned pair, float2 by) {
    return float_to_half_pair(half_to_float(static_cast<unsigned short>(pair)) * by.x,
                              half_to_float(static_cast<unsigned short>(pair >> 16)) * by.y);
  }

  // 2^(G_a - G_b) of a channel and the next.
  GDN_DEVICE static float2 decay(const float* a, const float* b, int channel) {
    const float2 x = *reinterpret_cast<const float2*>(a + channel), y = *reinterpret_cast<const float2*>(b + channel);
    return make_float2(exp2_fast(x.x - y.x), exp2_fast(x.y - y.y));
  }

  // A level's products, of the left tokens from number `left` on with the right ones from number `right` on. L of a
  // diagonal block goes to its place.
  template <int h, int kRows, int kColumns>
  GDN_DEVICE void multiply(Level<kRows, kColumns>& level, int left, int right) const {
    const int g = lane_id() / 4, c = lane_id() % 4 * 2;
    // All tokens of a lane are of one block, whose middle this is.
    const float* const middle = sums(middle_token<h>(left_token<h>(left + g))) + c;
    // Of a sum, [0] and [1] are L's of a left token and two right ones, [2] and [3] are P's.
    float sum[kRows][kColumns][4] = {};
    GDN_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      unsigned a[kRows][4];
      GDN_UNROLL
      for (int m = 0; m < kRows; ++m) {
        const int token = left_token<h>(left + 8 * m + g), row = row_offset(token);
        GDN_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int first = 16 * s + 8 * i;
          const float2 by = decay(sums(token) + c, middle, first);
          a[m][2 * i] = times(word(0, row, first), by);
          a[m][2 * i + 1] = times(word(Record<F>::kKeyBytes, row, first), by);
        }
      }
      GDN_UNROLL
      for (int n = 0; n < kColumns; ++n) {
        const int token = right_token<h>(right + 8 * n + g), row = row_offset(token);
        unsigned b[2];
        GDN_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int first = 16 * s + 8 * i;
          b[i] = word(0, row, first);
          // The right token of a block of two is its middle.
          if constexpr (h > 1) b[i] = times(b[i], decay(middle, sums(token) + c, first));
        }
        GDN_UNROLL
        for (int m = 0; m < kRows; ++m) product_16x8(sum[m][n], a[m], b[0], b[1]);
      }
    }
    GDN_UNROLL
    for (int m = 0; m < kRows; ++m) {
      GDN_UNROLL
      for (int n = 0; n < kColumns; ++n) {
        float(&d)[4] = sum[m][n];
        GDN_UNROLL
        for (int i = 0; i < 4; ++i) d[i] *= i < 2 ? kUnit * kUnit : kPairUnit;
        level.l[m][n] = float_to_half_pair(d[0], d[1]);
        level.p[m][n] = float_to_half_pair(d[2], d[3]);
        if constexpr (h < 16) {
          const int row = left_token<h>(left + g);
          each_of_block<h>(row, right + c,
                           [&](int i, int column) { diagonal(row / 16)[row % 16 * 16 + column % 16] = d[i]; });
        }
      }
    }
  }

  // Two right tokens from number `right` on, as far as they are of the left token's block; the others' pairs are
  // another level's.
  template <int h, class Do>
  GDN_DEVICE static void each_of_block(int row, int right, Do&& handle) {
    GDN_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int column = right_token<h>(right + i);
      if (middle_token<h>(column) == middle_token<h>(row)) handle(i, column);
    }
  }

  // q_i . k_i of a warp's 16 tokens: 16 w + g and 16 w + 8 + g, in the lanes whose columns these are.
  GDN_DEVICE void multiply_own() {
    const int first = thread_id() / 32 * 16, lane = lane_id();
    float low[4] = {}, high[4] = {};
    GDN_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      const unsigned tile = base_ + static_cast<unsigned>(s / 4 * kTileBytes);
      unsigned a[4], b[4];
      load_matrices(a, tile + Record<F>::kKeyBytes + tile_offset(first + lane % 16, s % 4 * 16 + lane / 16 * 8));
      load_matrices(b, tile + tile_offset(first + lane / 16 * 8 + lane % 8, s % 4 * 16 + lane / 8 % 2 * 8));
      product_16x8(low, a, b[0], b[1]);
      product_16x8(high, a, b[2], b[3]);
    }
    const bool odd = lane_id() / 4 % 2 != 0;
    own_[0] = (odd ? low[1] : low[0]) * kPairUnit;
    own_[1] = (odd ? high[3] : high[2]) * kPairUnit;
  }

  // The warp's block on P's diagonal, of which half is never computed.
  GDN_DEVICE void clear_diagonal() {
    const int first = thread_id() / 32 * 16;
    store_shared_16(p_tile() + tile_offset(first + lane_id() % 16, first + lane_id() / 16 * 8), 0, 0, 0, 0);
    warp_barrier();
  }

  // A level to its place in the tiles of L and P; L of the diagonal blocks is where it belongs.
  template <int h, int kRows, int kColumns>
  GDN_DEVICE void put(const Level<kRows, kColumns>& level, int left, int right) const {
    const int g = lane_id() / 4, c = lane_id() % 4 * 2;
    GDN_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const int row = left_token<h>(left + 8 * m + g);
      GDN_UNROLL
      for (int n = 0; n < kColumns; ++n) {
        if constexpr (h >= 16) {
          const int column = right_token<h>(right + 8 * n + c);
          store_shared(l_tile() + tile_offset(row, column), level.l[m][n]);
          store_shared(p_tile() + tile_offset(row, column), level.p[m][n]);
        } else {
          each_of_block<h>(row, right + c, [&](int i, int column) {
            store_shared_half(p_tile() + tile_offset(row, column),
                              static_cast<unsigned short>(level.p[m][n] >> (16 * i)));
          });
        }
      }
    }
  }

  char* shared_;
  unsigned base_;
  Level<2, 2> of32_;
  Level<1, 2> of16_;
  Level<1, 1> of8_, of4_, of2_, of1_;
  float own_[2];
};

}  // namespace gdn::sm90
