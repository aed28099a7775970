// What the kernels that prepare a chunk's record do alike, whether its decays are by head (prep.h) or by channel
// (prep_channels.h): rows of k and q into shared memory; then, out of L and P of a value head,
//
//   M = (diag(1 / beta) + L)^-1        R = P M
//
// M is lower triangular; it is (I + diag(beta) L)^-1 diag(beta), found by rows without dividing by beta:
// M_i = beta_i (e_i - sum over j < i of L_ij M_j). For beta |k|^2 <= 2 its entries are at most beta. The chain
// (chain.h) turns X = V - diag(2^G) K S into the new values M X and the output scale (diag(2^G) Q S + R X).
//
// Written to the record: M times 2^12, row i of R times 2^(12 + p_i) with p_i such that the row's largest entry lies
// just below 2^14, and the gates. p_i keeps outputs exact to fp16 however far they have decayed. Rows past the
// sequence's end are zero in k and q, and beta is 0 there: M's and R's are zero as well.
//
// Numbers: the 16x16 diagonal blocks of M in fp32, their combination in fp16 products, which keep as many bits as tf32.
//
// `Source` brings the chunk's numbers (handed_over.h, projected.h): pieces of rows of k and q, rates, beta.
#pragma once

#include "gdn/norm.h"
#include "gdn/sm90/handed_over.h"
#include "gdn/sm90/triangle.h"

namespace gdn::sm90 {

// How a block multiplies, and how it sends what it made: by a warp group's products and bulk copies.
struct WarpGroupPrep {
  // What threads wrote to shared memory may be sent, or multiplied, behind the next barrier.
  GDN_DEVICE static void written() { fence_async(); }
  // By all threads; wait_sent and a barrier stand before the place is written again.
  GDN_DEVICE static void send(Global<char> to, unsigned from, int bytes) {
    if (thread_id() == 0) bulk_store(to, from, bytes);
  }
  GDN_DEVICE static void sent() {
    if (thread_id() == 0) bulk_commit();
  }
  GDN_DEVICE static void wait_sent() {
    if (thread_id() == 0) bulk_wait_read();
  }

  // K K^T and Q K^T of tiles in shared memory.
  template <int kTiles>
  GDN_DEVICE static void multiply(float (&kk)[32], float (&qk)[32], unsigned keys, unsigned queries) {
    static_assert(kTiles <= 4, "K up to 256");
    const Descriptor k = k_major(keys), q = k_major(queries);
    products_begin();
    GDN_UNROLL
    for (int s = 0; s < 4 * kTiles; ++s) product_shared(kk, k + along_key(s), k + along_key(s), s > 0);
    GDN_UNROLL
    for (int s = 0; s < 4 * kTiles; ++s) product_shared(qk, q + along_key(s), k + along_key(s), s > 0);
    products_commit();
    products_wait<0>();
  }
};

// log2 of what a token's rows are to be multiplied by: of k and of q where they meet the state, of k where it is
// written to it.
struct TokenExponents {
  float read, query, write;
};

// `Shape` says where in shared memory things lie, and for how many value heads at a time. P comes times 2^kPairShift.
template <class F, class Source, class Shape, class Machine>
class PrepBlock {
 protected:
  using Layout = Record<F>;
  static constexpr int kTiles = Layout::kKeyTiles;
  static constexpr int kPieces = (kTiles == 3 ? 4 : kTiles) * 8;  // 16-byte pieces of a row of fp16, a power of two
  static constexpr int kRowsAtOnce = Shape::kThreads / kPieces;
  static constexpr int kPasses = kChunk / kRowsAtOnce;  // rows of k, and of q, a thread has a piece of
  static_assert(kPasses == 4 || kPasses % 8 == 0, "rows of a thread begin where the swizzle does, or in its middle");
  static_assert(kTiles <= 4, "K up to 256");
  static_assert(F::kKeyDim % 8 == 0, "16-byte pieces of q and k");

  // The block works on Shape::kMembers value heads of the group from number `first_member` on.
  GDN_DEVICE PrepBlock(const Args& args, const Chunk& chunk, int key_head, int first_member, char* shared,
                       Global<char> record)
      : source_(args, chunk, key_head),
        chunk_(chunk),
        key_head_(key_head),
        first_member_(first_member),
        shared_(shared),
        base_(shared_address(shared)),
        record_(record) {}

  // By head it is read from one lane, so that ptxas knows that branches on it are the whole warp's and makes no second
  // copy of what stands behind them. By channel there is little behind them.
  GDN_DEVICE static int warp() { return Layout::kByChannel ? thread_id() / 32 : from_first_lane(thread_id() / 32); }
  GDN_DEVICE static int row_in_8() { return lane_id() / 4; }         // g of a fragment
  GDN_DEVICE static int column_pair() { return lane_id() % 4 * 2; }  // 2 c of a fragment
  // A turn may end past the block's heads: those beyond do the last head's work again and store nothing.
  GDN_DEVICE static int member(int first, int h) { return smaller(first + h, Shape::kMembers - 1); }

  GDN_DEVICE unsigned m_tile(int h) const {
    return base_ + static_cast<unsigned>(Shape::kSquares + h * 2 * kTriangleBytes);
  }
  GDN_DEVICE unsigned l_tile(int h) const { return m_tile(h) + kTriangleBytes; }
  GDN_DEVICE float* floats(int offset) const { return reinterpret_cast<float*>(shared_ + offset); }
  GDN_DEVICE float* diagonal(int block, int h) const {
    return floats(Shape::kDiagonal) + (block * Shape::kHeads + h) * kDiagonalFloats;
  }
  GDN_DEVICE float* beta(int member) const { return floats(Shape::kBeta) + member * kChunk; }
  GDN_DEVICE float* gates(int h) const { return floats(Shape::kGates) + h * (Layout::kGateBytes / 4); }

  // ---- operands -----------------------------------------------------------------------------------------------------

  GDN_DEVICE static int piece() { return thread_id() % kPieces; }
  // A thread's rows follow each other: what a convolution takes of earlier ones is at hand.
  GDN_DEVICE static int row_of(int pass) { return thread_id() / kPieces * kPasses + pass; }
  // Where a thread's piece of a pass lies in the tiles of k, or of q.
  GDN_DEVICE static unsigned piece_offset(int pass) {
    const unsigned first = static_cast<unsigned>(piece() / 8 * kTileBytes) + tile_offset(row_of(0), piece() % 8 * 8);
    return (first ^ static_cast<unsigned>(pass % 8 * 16)) +
           static_cast<unsigned>(pass * 128);  // the swizzle goes by row
  }

  GDN_DEVICE RowPieces rows() const {
    return {row_of(0), piece() * 8 < F::kKeyDim ? chunk_.tokens - row_of(0) : 0, piece() * 8};
  }
  // The chunk's k and q to their tiles, and v where the source makes it; `between` is work that does not need them.
  // Loads of both are under way at once; where each number is work instead, a thread has but one of them in its
  // registers.
  template <class Between>
  GDN_DEVICE void operands(float scale_of_k, float scale_of_q, Between between) {
    if constexpr (Source::kStages) {
      staged_operands(scale_of_k, scale_of_q, between);
    } else if constexpr (Source::kConvolves) {
      source_.finish(first_member_, Shape::kMembers);
      between();
      Raw<16> pieces[kPasses];
      source_.keys(pieces, rows());
      place(pieces, 0, scale_of_k);
      source_.queries(pieces, rows());
      place(pieces, Layout::kKeyBytes, scale_of_q);
    } else {
      Raw<16> k[kPasses], q[kPasses];
      source_.keys(k, rows());
      source_.queries(q, rows());
      between();
      place(k, 0, scale_of_k);
      place(q, Layout::kKeyBytes, scale_of_q);
    }
  }

  // Heads of v, then k and q come by turns to two places, each while the one before is worked on. k's is where its tile
  // will be, and q's lies behind k's.
  template <class Between>
  GDN_DEVICE void staged_operands(float scale_of_k, float scale_of_q, Between between) {
    constexpr int kValues = Shape::kMembers, kBytes = Source::Rows::kBytes;
    static_assert(Layout::kKeyBytes <= kBytes && 2 * kBytes <= Shape::kGateSums, "two places");
    const auto place_of = [&](int turn) { return base_ + static_cast<unsigned>((turn + kValues) % 2 * kBytes); };
    const auto bring = [&](int turn) {
      if (turn < kValues + 2) source_.bring(turn, first_member_, kValues, place_of(turn));
      copies_commit();
    };
    GDN_NO_UNROLL
    for (int turn = 0; turn < 2; ++turn) bring(turn);
    between();
    GDN_NO_UNROLL
    for (int turn = 0; turn < kValues; ++turn) {
      copies_wait<1>();
      barrier();
      source_.template staged_values<kPasses>(first_member_ + turn, place_of(turn), piece(), row_of(0),
                                              [&] { bring(turn + 2); });
    }
    Raw<16> pieces[kPasses];
    copies_wait<1>();
    barrier();
    source_.staged_keys(pieces, place_of(kValues), piece(), row_of(0));
    place(pieces, 0, scale_of_k);
    copies_wait<0>();
    barrier();
    source_.staged_queries(pieces, place_of(kValues + 1), piece(), row_of(0));
    place(pieces, Layout::kKeyBytes, scale_of_q);
  }

  // A thread's pieces to their tiles, as they are.
  GDN_DEVICE void put_pieces(const Raw<16> (&pieces)[kPasses], unsigned tiles) {
    if (piece() >= 8 * kTiles) return;
    GDN_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const Raw<16>& x = pieces[i];
      store_shared_16(base_ + tiles + piece_offset(i), x.word[0], x.word[1], x.word[2], x.word[3]);
    }
  }

  // The rows of a thread's pieces under their norm, rounded as the rule says, to fp16 and to their tiles.
  GDN_DEVICE void place(const Raw<16> (&pieces)[kPasses], unsigned tiles, float scale) {
    using E = typename Source::Element;
    float factor[kPasses];
    GDN_UNROLL
    for (int i = 0; i < kPasses; ++i) factor[i] = 1.0f;
    if constexpr (F::kQkNorm) {
      float squares[kPasses];
      GDN_UNROLL
      for (int i = 0; i < kPasses; ++i) {
        const Pack<E, 8> x{pieces[i]};
        squares[i] = 0.0f;
        GDN_UNROLL
        for (int j = 0; j < 8; ++j) squares[i] = fused(x.get(j), x.get(j), squares[i]);
      }
      norm_factors(squares, factor);
    }
    if constexpr (kInPairs) {
      if (scale <= static_cast<float>(1 << 14) && (bits_of(scale) & 0x007fffffu) == 0) {
        return place_pairs(pieces, tiles, factor, scale);
      }
    }
    // A power of two changes nothing about how a number is rounded, but where there are few exponents.
    const bool exact = (bits_of(scale) & 0x007fffffu) == 0 && !same_type<typename F::RoundPrefillQk, Fp16>();
    if (exact) {
      GDN_UNROLL
      for (int i = 0; i < kPasses; ++i) factor[i] *= scale;
      scale = 1.0f;
    }
    GDN_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const Pack<E, 8> x{pieces[i]};
      Raw<16> halves;
      GDN_UNROLL
      for (int j = 0; j < 4; ++j) {
        float pair[2] = {x.get(2 * j) * factor[i], x.get(2 * j + 1) * factor[i]};
        round_run<typename F::RoundPrefillQk>(pair);
        halves.word[j] = float_to_half_pair(pair[0] * scale, pair[1] * scale);
      }
      if (piece() >= 8 * kTiles) continue;
      const unsigned to = base_ + tiles + piece_offset(i);
      store_shared_16(to, halves.word[0], halves.word[1], halves.word[2], halves.word[3]);
    }
  }

  // bf16 that is normalised to bf16 can stay in pairs.
  static constexpr bool kInPairs =
      F::kQkNorm && same_type<typename Source::Element, Bf16>() && same_type<typename F::RoundPrefillQk, Bf16>();
  // A factor is the sum of two bf16, 2^-17 of it lost: the one rounding is right but where two results are about as
  // near. Times 2^-112 a bf16 has the exponent of fp16.
  GDN_DEVICE void place_pairs(const Raw<16> (&pieces)[kPasses], unsigned tiles, const float (&factor)[kPasses],
                              float scale) {
    if (piece() >= 8 * kTiles) return;
    const unsigned to_half = float_to_bf16_pair(scale * power_of_two(-112), scale * power_of_two(-112));
    GDN_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const unsigned first = float_to_bf16_pair(factor[i], factor[i]);
      const float left = factor[i] - float_of(first & 0xffff0000u);
      const unsigned rest = float_to_bf16_pair(left, left);
      Raw<16> halves;
      GDN_UNROLL
      for (int j = 0; j < 4; ++j) {
        const unsigned word = pieces[i].word[j];
        const unsigned turned = product_bf16(fused_bf16(word, first, product_bf16(word, rest)), to_half);
        halves.word[j] = (turned & 0x1fff1fffu) << 3 | (turned & 0x80008000u);
      }
      store_shared_16(base_ + tiles + piece_offset(i), halves.word[0], halves.word[1], halves.word[2], halves.word[3]);
    }
  }

  // The sums of kPasses rows over the kPieces lanes of a row, each pair of lanes halving the rows it sums further.
  GDN_DEVICE void norm_factors(float (&squares)[kPasses], float (&factor)[kPasses]) {
    constexpr int kLog = kPasses == 16 ? 4 : kPasses == 8 ? 3 : 2;
    static_assert(1 << kLog == kPasses && kPieces == 2 * kPasses, "16 rows of 32 pieces, 8 of 16 or 4 of 8");
    GDN_UNROLL
    for (int stage = 0; stage < kLog; ++stage) {
      const int distance = kPieces >> (stage + 1), rows = kPasses >> (stage + 1);
      const bool upper = lane_id() & distance;
      GDN_UNROLL
      for (int i = 0; i < kPasses / 2; ++i) {
        if (i >= rows) break;
        const float mine = upper ? squares[i + rows] : squares[i], other = upper ? squares[i] : squares[i + rows];
        squares[i] = mine + from_across(other, distance);
      }
    }
    const float sum = squares[0] + from_across(squares[0], 1);
    const float mine = inverse_norm<F>(sum);
    GDN_UNROLL
    for (int i = 0; i < kPasses;
         ++i) {  // row i was summed by the lanes whose bits below kPieces spell it, highest first
      factor[i] = from_lane(mine, 2 * i, kPieces);
    }
  }
  // ---- squares ------------------------------------------------------------------------------------------------------

  // A warp a diagonal block, half a warp a head, a lane a column. Also the gates that need nothing of R. `free` is
  // called when the inverses are in registers: behind it their place is free. exponents(h, token): of what the state
  // gives a token and of what it takes from it, log2.
  template <class ExponentsOf, class Free>
  GDN_DEVICE void invert_diagonal(int first, ExponentsOf exponents, Free free) {
    const int w = warp(), h = Shape::kHeads == 1 ? 0 : lane_id() / 16, column = lane_id() % 16;
    float m[16];
    invert_16(m, diagonal(w, h), beta(member(first, h)) + 16 * w, column);
    free();
    if (Shape::kHeads == 2 || lane_id() < 16) {
      GDN_UNROLL
      for (int i = 0; i < 16; ++i) put_half(m_tile(h) + triangle_block(w, w) + offset_in_block(i, column), m[i]);
      const TokenExponents mine = exponents(h, 16 * w + column);
      float* to = gates(h);
      to[Gates::kRead + 16 * w + column] = exp2_fast(mine.read - kStateShift);
      to[Gates::kWrite + 16 * w + column] = exp2_fast(mine.write + (kStateShift - kMatrixShift));
    }
  }

  // M and R of a turn's heads behind invert_diagonal, to the record.
  template <class ExponentsOf>
  GDN_DEVICE void square_up(int first, ExponentsOf exponents) {
    barrier();
    GDN_UNROLL
    for (int h = 0; h < Shape::kHeads; ++h) join_16(m_tile(h), l_tile(h));
    barrier();
    GDN_UNROLL
    for (int h = 0; h < Shape::kHeads; ++h) join_32(m_tile(h), l_tile(h));
    barrier();
    read_out(exponents);
    Machine::written();
    barrier();
    store(first);
  }

  // 2^p, p such that x 2^p lies in [2^13, 2^14); 1 for 0. p is bounded so that what it multiplies stays in fp32.
  GDN_DEVICE static float row_scale(float x) {
    const int exponent = static_cast<int>(bits_of(x) >> 23) - 127;
    return x == 0.0f ? 1.0f : power_of_two(smaller(13 - exponent, 48));
  }

  GDN_DEVICE static float inverse_of_power(float x) { return float_of((254u << 23) - bits_of(x)); }

  // R = P M to L's place, each row under its own exponent, and the gates that go with it.
  template <class ExponentsOf>
  GDN_DEVICE void read_out(ExponentsOf exponents) {
    const int w = warp(), g = row_in_8(), c = column_pair(), row = lane_id() % 16, column = lane_id() / 16 * 8;
    GDN_UNROLL
    for (int h = 0; h < Shape::kHeads; ++h) {
      const unsigned r = l_tile(h), m = m_tile(h);
      float z[8][4] = {};
      GDN_UNROLL
      for (int s = 0; s < 4; ++s) {
        if (s > w) continue;
        const unsigned a[4] = {p_[h][4 * s], p_[h][4 * s + 1], p_[h][4 * s + 2], p_[h][4 * s + 3]};
        GDN_UNROLL
        for (int n = 0; n <= s; ++n) {
          unsigned b[4];
          load_matrices_transposed(b, m + triangle_block(s, n) + offset_in_block(row, column));
          product_16x8(z[2 * n], a, b[0], b[1]);
          product_16x8(z[2 * n + 1], a, b[2], b[3]);
        }
      }
      float largest[2] = {0.0f, 0.0f};
      GDN_UNROLL
      for (int n = 0; n < 8; ++n) {
        largest[0] = larger_of(largest[0], larger_of(magnitude_of(z[n][0]), magnitude_of(z[n][1])));
        largest[1] = larger_of(largest[1], larger_of(magnitude_of(z[n][2]), magnitude_of(z[n][3])));
      }
      GDN_UNROLL
      for (int i = 0; i < 2; ++i) {
        largest[i] = larger_of(largest[i], from_across(largest[i], 1));
        largest[i] = larger_of(largest[i], from_across(largest[i], 2));
        largest[i] = row_scale(largest[i]);
      }
      GDN_UNROLL
      for (int n = 0; n < 8; ++n) {
        if (n > 2 * w + 1) continue;
        const unsigned to = r + triangle_block(w, n / 2) + offset_in_block(g, 8 * n + c);
        put(to, float_to_half_pair(z[n][0] * largest[0], z[n][1] * largest[0]));
        put(to + offset_in_block(8, 0), float_to_half_pair(z[n][2] * largest[1], z[n][3] * largest[1]));
      }
      if (c < 4) {  // lanes 0 and 1 of each quad, a row each
        const int i = 16 * w + g + 4 * c;
        const float scale = c == 0 ? largest[0] : largest[1];
        gates(h)[Gates::kOut + i] =
            exp2_fast(exponents(h, i).query + (kMatrixShift + Layout::kPairShift - kStateShift)) * scale;
        gates(h)[Gates::kOutScale + i] =
            F::kQScale * (kMatrixUnit / (1 << Layout::kPairShift)) * inverse_of_power(scale);
      }
    }
  }

  GDN_DEVICE void store(int first) {
    GDN_UNROLL
    for (int h = 0; h < Shape::kHeads; ++h) {
      if (first + h >= Shape::kMembers) break;
      const int head = value_head<F>(key_head_, first_member_ + first + h);
      Machine::send(record_ + Layout::matrices(head), m_tile(h), 2 * kTriangleBytes);
      Machine::send(record_ + Layout::gates(head),
                    base_ + static_cast<unsigned>(Shape::kGates + h * Layout::kGateBytes), Layout::kGateBytes);
    }
    Machine::sent();
  }

  Source source_;
  Chunk chunk_;
  int key_head_, first_member_;
  char* shared_;
  unsigned base_;
  Global<char> record_;
  unsigned p_[Shape::kHeads][16];  // P as fragments
};

}  // namespace gdn::sm90
