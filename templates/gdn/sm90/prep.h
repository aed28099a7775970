// The part of the chunked delta rule that needs no state: one block a (chunk, key head), all chunks side by side.
//
// With k and q as the rule reads them (normalised, the scale of q left out), G_i the sum of log2 decays up to and with
// token i of the chunk, and beta:
//
//   L_ij = (k_i . k_j) 2^(G_i - G_j)   j < i              P_ij = (q_i . k_j) 2^(G_i - G_j)   j <= i
//   M = (diag(1 / beta) + L)^-1                           R = P M
//
// M is lower triangular; it is (I + diag(beta) L)^-1 diag(beta), found by rows without dividing by beta:
// M_i = beta_i (e_i - sum over j < i of L_ij M_j). For beta |k|^2 <= 2 its entries are at most beta. The chain
// (chain.h) turns X = V - diag(2^G) K S into the new values M X and the output scale (diag(2^G) Q S + R X).
//
// Written to the chunk's record: k and q in fp16, M times 2^12, row i of R times 2^(12 + p_i) with p_i such that the
// row's largest entry lies just below 2^14, and the gates. p_i keeps outputs exact to fp16 however far they have
// decayed. Rows past the sequence's end are zero in k and q, and beta and g are 0 there: M's and R's are zero as well.
//
// Numbers: products fp16 in and fp32 out; the 16x16 diagonal blocks of M in fp32, their combination in fp16 products,
// which keep as many bits as tf32; decays are differences of fp32 sums, masked before the exponential.
#pragma once

#include "gdn/gates.h"
#include "gdn/norm.h"
#include "gdn/sm90/chunks.h"
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
    static_assert(kTiles <= 2, "K up to 128");
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

template <class F>
struct PrepShape {
  static constexpr int kThreads = 128;
  static constexpr int kHeads = smaller(2, F::kGroup);  // value heads at a time
  static constexpr int kTurns = ceil_div(F::kGroup, kHeads);
  // Blocks an SM that the compiler leaves registers for: three where the products' 64 accumulators outlive a turn.
  static constexpr int kBlocks = kTurns == 1 ? 4 : 3;

  // Tiles of k and q, then, in the same place, M and L (later R) of each head of the turn.
  static constexpr int kOperands = 0;
  static constexpr int kOperandBytes = larger(2 * Record<F>::kKeyBytes, kHeads * 2 * kTileBytes);
  static constexpr int kDiagonal =
      kOperandBytes;  // fp32 [4][kHeads][16][16], a head padded by 16 against bank conflicts
  static constexpr int kDiagonalHead = 256 + 16;
  static constexpr int kGateSums = kDiagonal + 4 * kHeads * kDiagonalHead * 4;  // fp32 [kGroup][64]
  static constexpr int kBeta = kGateSums + F::kGroup * kChunk * 4;              // fp32 [kGroup][64]
  static constexpr int kGates = kBeta + F::kGroup * kChunk * 4;                 // [kHeads] Gates
  static constexpr int kShared = kGates + kHeads * Gates::kBytes;
  static_assert(kShared == prep_shared(F::kKeyDim, F::kGroup, kHeads), "as the launch will have it");
};

// Where a chunk's numbers come from: here the tensors that are handed over.
template <class F>
class HandedOver {
 public:
  using Element = typename F::InputK::Element;  // of q and k before the norm

  GDN_DEVICE HandedOver(const Args& args, const Chunk& chunk, int key_head)
      : args_(args), chunk_(chunk), key_head_(key_head) {}

  // 16 bytes of a row of the chunk, from channel `first` on.
  GDN_DEVICE Raw<16> key(int row, int first) const { return piece<typename F::InputK>(row, first); }
  GDN_DEVICE Raw<16> query(int row, int first) const { return piece<typename F::InputQ>(row, first); }

  // log2 of a token's decay. One that is 0 to fp32 is as good as any below 2^-256, and sums of it stay finite.
  GDN_DEVICE float rate(long long row, int head) const {
    using G = typename F::InputG;
    const float read = head_number<G>(part<G>(args_, row), head);
    const float rate = F::kGHandover == Domain::kExp ? log2(read) : F::kGHandover == Domain::kLn ? read * kLog2E : read;
    return rate < -256.0f ? -256.0f : rate;
  }
  GDN_DEVICE float beta(long long row, int head) const {
    using B = typename F::InputBeta;
    return head_number<B>(part<B>(args_, row), head);
  }
  // What is left to do for the chunk.
  GDN_DEVICE void finish() const {}

 private:
  template <class M>
  GDN_DEVICE Raw<16> piece(int row, int first) const {
    static_assert(sizeof(typename M::Element) == 2 && M::kInnerStride == 1 && M::kAlign % 8 == 0, "16-byte pieces");
    return load<16>(part<M>(args_, chunk_.token) + M::base(key_head_) + first + row * args_.stride[M::kOperand]);
  }

  const Args& args_;
  Chunk chunk_;
  int key_head_;
};

template <class F, class Source = HandedOver<F>, class Machine = WarpGroupPrep>
class Prep {
  using Shape = PrepShape<F>;
  using Layout = Record<F>;
  static constexpr int kTiles = Layout::kKeyTiles;
  static constexpr int kPieces = (kTiles == 3 ? 4 : kTiles) * 8;  // 16-byte pieces of a row of fp16, a power of two
  static constexpr int kRowsAtOnce = Shape::kThreads / kPieces;
  static constexpr int kPasses = kChunk / kRowsAtOnce;  // rows of k, and of q, a thread has a piece of
  static_assert(kTiles <= 4, "K up to 256");
  static_assert(F::kKeyDim % 8 == 0, "16-byte pieces of q and k");

 public:
  GDN_DEVICE Prep(const Args& args, const Chunk& chunk, int key_head, char* shared, Global<char> record)
      : source_(args, chunk, key_head),
        chunk_(chunk),
        key_head_(key_head),
        shared_(shared),
        base_(shared_address(shared)),
        record_(record) {}

  GDN_DEVICE void run() {
    fetch(k_pieces_, [&](int row, int first) { return source_.key(row, first); });
    fetch(q_pieces_, [&](int row, int first) { return source_.query(row, first); });
    sum_gates();
    source_.finish();
    place(k_pieces_, 0, F::kKScale);
    place(q_pieces_, Layout::kKeyBytes, 1.0f);
    Machine::written();
    barrier();
    Machine::send(record_ + Layout::keys(key_head_), base_, 2 * Layout::kKeyBytes);
    Machine::sent();
    Machine::template multiply<kTiles>(kk_, qk_, base_, base_ + Layout::kKeyBytes);
    GDN_UNROLL
    for (int turn = 0; turn < Shape::kTurns; ++turn) {
      Machine::wait_sent();
      barrier();  // the operands' place is free
      const int first = turn * Shape::kHeads;
      decay(first);
      invert_diagonal(first);
      barrier();
      GDN_UNROLL
      for (int h = 0; h < Shape::kHeads; ++h) join_16(m_tile(h), l_tile(h));
      barrier();
      GDN_UNROLL
      for (int h = 0; h < Shape::kHeads; ++h) join_32(m_tile(h), l_tile(h));
      barrier();
      read_out(first);
      Machine::written();
      barrier();
      store(first);
    }
    Machine::wait_sent();
  }

 private:
  GDN_DEVICE static int warp() { return thread_id() / 32; }
  GDN_DEVICE static int row_in_8() { return lane_id() / 4; }         // g of a fragment
  GDN_DEVICE static int column_pair() { return lane_id() % 4 * 2; }  // 2 c of a fragment
  // A turn may end past the group: its heads beyond do the last head's work again and store nothing.
  GDN_DEVICE static int head_of(int first, int h) { return smaller(first + h, F::kGroup - 1); }

  GDN_DEVICE unsigned m_tile(int h) const { return base_ + static_cast<unsigned>(h * 2 * kTileBytes); }
  GDN_DEVICE unsigned l_tile(int h) const { return m_tile(h) + kTileBytes; }
  GDN_DEVICE float* floats(int offset) const { return reinterpret_cast<float*>(shared_ + offset); }
  GDN_DEVICE float* diagonal(int block, int h) const {
    return floats(Shape::kDiagonal) + (block * Shape::kHeads + h) * Shape::kDiagonalHead;
  }
  GDN_DEVICE float* sums(int head) const { return floats(Shape::kGateSums) + head * kChunk; }
  GDN_DEVICE float* beta(int head) const { return floats(Shape::kBeta) + head * kChunk; }
  GDN_DEVICE float* gates(int h) const { return floats(Shape::kGates) + h * Gates::kFloats; }
  // ---- operands -----------------------------------------------------------------------------------------------------

  template <class PieceAt>
  GDN_DEVICE void fetch(Raw<16> (&pieces)[kPasses], PieceAt piece_at) {
    const int piece = thread_id() % kPieces;
    GDN_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const int row = i * kRowsAtOnce + thread_id() / kPieces;
      if (row < chunk_.tokens && piece * 8 < F::kKeyDim) {
        pieces[i] = piece_at(row, piece * 8);
      } else {
        pieces[i] = Raw<16>{};
      }
    }
  }

  // Cumulative log2 decays, beta, and the gates that need nothing else. A warp a value head, two tokens a lane.
  GDN_DEVICE void sum_gates() {
    for (int h = warp(); h < F::kGroup; h += Shape::kThreads / 32) {
      const int head = value_head<F>(key_head_, h), token = 2 * lane_id();
      float g[2], b[2];
      GDN_UNROLL
      for (int i = 0; i < 2; ++i) {
        const bool inside = token + i < chunk_.tokens;
        const long long row = chunk_.token + (inside ? token + i : 0);
        const float rate = source_.rate(row, head);
        g[i] = inside ? rate : 0.0f;
        b[i] = inside ? source_.beta(row, head) : 0.0f;
      }
      float sum = g[0] + g[1];
      GDN_UNROLL
      for (int distance = 1; distance < 32; distance *= 2) {
        const float before = from_below(sum, distance);
        if (lane_id() >= distance) sum += before;
      }
      *reinterpret_cast<float2*>(sums(h) + token) = make_float2(sum - g[1], sum);
      *reinterpret_cast<float2*>(beta(h) + token) = make_float2(b[0], b[1]);
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
    const int piece = thread_id() % kPieces;
    GDN_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const Pack<E, 8> x{pieces[i]};
      Raw<16> halves;
      GDN_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float low = rounded<typename F::RoundPrefillQk>(x.get(2 * j) * factor[i]);
        const float high = rounded<typename F::RoundPrefillQk>(x.get(2 * j + 1) * factor[i]);
        halves.word[j] = float_to_half_pair(low * scale, high * scale);
      }
      if (piece >= 8 * kTiles) continue;
      const unsigned row = static_cast<unsigned>(i * kRowsAtOnce + thread_id() / kPieces);
      const unsigned to =
          tiles + static_cast<unsigned>(piece / 8 * kTileBytes) + tile_offset(static_cast<int>(row), piece % 8 * 8);
      store_shared_16(base_ + to, halves.word[0], halves.word[1], halves.word[2], halves.word[3]);
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

  // ---- a turn -------------------------------------------------------------------------------------------------------

  // P as fragments in registers, L to shared memory: diagonal blocks in fp32, the rest in fp16. Column by column for
  // all heads, so that the products' registers are free as P's fill up.
  GDN_DEVICE void decay(int first) {
    const int w = warp(), g = row_in_8(), c = column_pair();
    const int row0 = 16 * w + g, row1 = row0 + 8;
    float sum0[Shape::kHeads], sum1[Shape::kHeads];
    GDN_UNROLL
    for (int h = 0; h < Shape::kHeads; ++h)
      sum0[h] = sums(head_of(first, h))[row0], sum1[h] = sums(head_of(first, h))[row1];
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) {
      if (n > 2 * w + 1) continue;  // above the diagonal: never read
      const int column = 8 * n + c;
      GDN_UNROLL
      for (int h = 0; h < Shape::kHeads; ++h) {
        const float2 other = *reinterpret_cast<const float2*>(sums(head_of(first, h)) + column);
        const float d00 = exp2_fast(column <= row0 ? sum0[h] - other.x : -1e30f);
        const float d01 = exp2_fast(column + 1 <= row0 ? sum0[h] - other.y : -1e30f);
        const float d10 = exp2_fast(column <= row1 ? sum1[h] - other.x : -1e30f);
        const float d11 = exp2_fast(column + 1 <= row1 ? sum1[h] - other.y : -1e30f);
        p_[h][2 * n] = float_to_half_pair(qk_[4 * n] * d00, qk_[4 * n + 1] * d01);
        p_[h][2 * n + 1] = float_to_half_pair(qk_[4 * n + 2] * d10, qk_[4 * n + 3] * d11);
        const float l00 = kk_[4 * n] * d00, l01 = kk_[4 * n + 1] * d01;
        const float l10 = kk_[4 * n + 2] * d10, l11 = kk_[4 * n + 3] * d11;
        if (n >= 2 * w) {
          float* to = diagonal(w, h) + (n - 2 * w) * 8 + c;
          *reinterpret_cast<float2*>(to + g * 16) = make_float2(l00, l01);
          *reinterpret_cast<float2*>(to + (g + 8) * 16) = make_float2(l10, l11);
        } else {
          put(l_tile(h) + tile_offset(row0, column), float_to_half_pair(l00, l01));
          put(l_tile(h) + tile_offset(row1, column), float_to_half_pair(l10, l11));
        }
      }
    }
    warp_barrier();
  }

  // A warp a diagonal block, half a warp a head, a lane a column. Also the gates that need nothing of R.
  GDN_DEVICE void invert_diagonal(int first) {
    const int w = warp(), h = Shape::kHeads == 1 ? 0 : lane_id() / 16, column = lane_id() % 16;
    float m[16];
    invert_16(m, diagonal(w, h), beta(head_of(first, h)) + 16 * w, column);
    if (Shape::kHeads == 2 || lane_id() < 16) {
      GDN_UNROLL
      for (int i = 0; i < 16; ++i) put_half(m_tile(h) + tile_offset(16 * w + i, 16 * w + column), m[i]);
      if (w % 2 == 0) {  // the block to the right is read as well
        GDN_UNROLL
        for (int i = 0; i < 16; i += 8) {
          const unsigned to = m_tile(h) + tile_offset(16 * w + i + column / 2, 16 * w + 16 + column % 2 * 8);
          store_shared_16(to, 0, 0, 0, 0);
        }
      }
      const float* sum = sums(head_of(first, h));
      const float mine = sum[16 * w + column], last = sum[kChunk - 1];
      float* to = gates(h);
      to[Gates::kRead + 16 * w + column] = exp2_fast(mine - kStateShift);
      to[Gates::kWrite + 16 * w + column] = exp2_fast(last - mine + (kStateShift - kMatrixShift));
      if (w == 3 && column == 15) to[Gates::kDecay] = exp2_fast(last);
    }
  }

  // 2^p, p such that x 2^p lies in [2^13, 2^14); 1 for 0. p is bounded so that what it multiplies stays in fp32.
  GDN_DEVICE static float row_scale(float x) {
    const int exponent = static_cast<int>(bits_of(x) >> 23) - 127;
    return x == 0.0f ? 1.0f : power_of_two(smaller(13 - exponent, 48));
  }

  GDN_DEVICE static float inverse_of_power(float x) { return float_of((254u << 23) - bits_of(x)); }

  // R = P M to L's place, each row under its own exponent, and the gates that go with it.
  GDN_DEVICE void read_out(int first) {
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
          load_matrices_transposed(b, m + tile_offset(16 * s + row, 16 * n + column));
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
        put(r + tile_offset(16 * w + g, 8 * n + c), float_to_half_pair(z[n][0] * largest[0], z[n][1] * largest[0]));
        put(r + tile_offset(16 * w + 8 + g, 8 * n + c), float_to_half_pair(z[n][2] * largest[1], z[n][3] * largest[1]));
      }
      if (c < 4) {  // lanes 0 and 1 of each quad, a row each
        const int i = 16 * w + g + 4 * c;
        const float scale = c == 0 ? largest[0] : largest[1];
        gates(h)[Gates::kOut + i] = exp2_fast(sums(head_of(first, h))[i] + (kMatrixShift - kStateShift)) * scale;
        gates(h)[Gates::kOutScale + i] = F::kQScale * kMatrixUnit * inverse_of_power(scale);
      }
    }
  }

  GDN_DEVICE void store(int first) {
    GDN_UNROLL
    for (int h = 0; h < Shape::kHeads; ++h) {
      if (first + h >= F::kGroup) break;
      const int head = value_head<F>(key_head_, first + h);
      Machine::send(record_ + Layout::matrices(head), m_tile(h), 2 * kTileBytes);
      Machine::send(record_ + Layout::gates(head), base_ + static_cast<unsigned>(Shape::kGates + h * Gates::kBytes),
                    Gates::kBytes);
    }
    Machine::sent();
  }

  Source source_;
  Chunk chunk_;
  int key_head_;
  char* shared_;
  unsigned base_;
  Global<char> record_;
  Raw<16> k_pieces_[kPasses], q_pieces_[kPasses];
  float kk_[32], qk_[32];
  unsigned p_[Shape::kHeads][16];
};

// Grid: (tokens / 64 + sequences) * key heads blocks of 128 threads, key heads fastest; PrepShape<F>::kShared bytes of
// dynamic shared memory.
template <class F, class Source = HandedOver<F>, class Machine = WarpGroupPrep, class Index>
GDN_DEVICE void prep(const Args& args, const Sequences<Index>& sequences, Global<char> workspace, char* shared) {
  allow_next_grid();  // its blocks find room as the last of these end
  const int number = block_row() / F::kKeyHeads, key_head = block_row() % F::kKeyHeads;
  const Chunk chunk = find_chunk(sequences, number);
  if (chunk.tokens > 0) {
    Prep<F, Source, Machine>(args, chunk, key_head, shared,
                             workspace + static_cast<long long>(number) * Record<F>::kBytes)
        .run();
  }
}

}  // namespace gdn::sm90
