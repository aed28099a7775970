// The part of the chunked delta rule that needs no state, where a value head decays as a whole: one block a (chunk, key
// head), all chunks side by side.
//
// With k and q as the rule reads them (normalised, the scale of q left out), G_i the sum of log2 decays up to and with
// token i of the chunk, and beta:
//
//   L_ij = (k_i . k_j) 2^(G_i - G_j)   j < i              P_ij = (q_i . k_j) 2^(G_i - G_j)   j <= i
//
// prep_block.h makes M and R of them. Written to the chunk's record: k and q in fp16, q times 2^kPairShift, M, R and
// the gates.
//
// Numbers: products fp16 in and fp32 out; decays are differences of fp32 sums, masked before the exponential.
#pragma once

#include "gdn/sm90/prep_block.h"

namespace gdn::sm90 {

template <class F>
struct PrepShape {
  static constexpr int kThreads = kPrepThreads;
  static constexpr int kMembers = F::kGroup;            // value heads of a block
  static constexpr int kHeads = smaller(2, F::kGroup);  // at a time
  static constexpr int kTurns = ceil_div(F::kGroup, kHeads);

  // Tiles of k and q, then, in the same place, M and L (later R) of each head of the turn, as a record has them.
  static constexpr int kOperandBytes = larger(2 * Record<F>::kKeyBytes, kHeads * 2 * kTriangleBytes);
  static constexpr int kSquares = 0;
  static constexpr int kDiagonal = kOperandBytes;                                 // fp32 [4][kHeads] kDiagonalFloats
  static constexpr int kGateSums = kDiagonal + 4 * kHeads * kDiagonalFloats * 4;  // fp32 [kGroup][64]
  static constexpr int kBeta = kGateSums + F::kGroup * kChunk * 4;                // fp32 [kGroup][64]
  static constexpr int kGates = kBeta + F::kGroup * kChunk * 4;                   // [kHeads] Gates
  static constexpr int kShared = kGates + kHeads * Record<F>::kGateBytes;
  static_assert(kShared == prep_shared(F::kKeyDim, F::kGroup, kHeads), "as the launch will have it");
};

template <class F, class Source = HandedOver<F>, class Machine = WarpGroupPrep>
class Prep : PrepBlock<F, Source, PrepShape<F>, Machine> {
  using Shape = PrepShape<F>;
  using Base = PrepBlock<F, Source, Shape, Machine>;
  using Layout = Record<F>;
  using Base::source_, Base::chunk_, Base::key_head_, Base::base_, Base::record_, Base::p_;
  // A turn's blocks of L below the diagonal stay in registers until what lay in their place was sent, which is waited
  // for behind the inverses of the diagonal blocks. A convolution leaves no registers for that.
  static constexpr bool kWaitsLate = !Source::kConvolves;

 public:
  GDN_DEVICE Prep(const Args& args, const Chunk& chunk, int key_head, char* shared, Global<char> record)
      : Base(args, chunk, key_head, 0, shared, record) {}

  GDN_DEVICE void run() {
    Base::operands(F::kKScale, 1 << Layout::kPairShift, [&] { sum_gates(); });
    Machine::written();
    barrier();
    Machine::send(record_ + Layout::keys(key_head_), base_, 2 * Layout::kKeyBytes);
    Machine::sent();
    Machine::template multiply<Base::kTiles>(kk_, qk_, base_, base_ + Layout::kKeyBytes);
    GDN_UNROLL
    for (int turn = 0; turn < Shape::kTurns; ++turn) {
      if constexpr (!kWaitsLate) free_operands();
      const int first = turn * Shape::kHeads;
      const auto exponents = [&](int h, int token) {
        const float* sum = sums(Base::member(first, h));
        return TokenExponents{sum[token], sum[token] - Layout::kPairShift, sum[kChunk - 1] - sum[token]};
      };
      decay(first);
      Base::invert_diagonal(first, exponents, [&] {
        if constexpr (kWaitsLate) {
          free_operands();
          put_below();
        }
      });
      if (thread_id() < Shape::kHeads) {
        const int h = thread_id();
        Base::gates(h)[Gates::kDecay] = exp2_fast(sums(Base::member(first, h))[kChunk - 1]);
      }
      Base::square_up(first, exponents);
    }
    Machine::wait_sent();
  }

 private:
  GDN_DEVICE float* sums(int head) const { return Base::floats(Shape::kGateSums) + head * kChunk; }

  // Cumulative log2 decays, beta, and the gates that need nothing else. A warp a value head, two tokens a lane.
  GDN_DEVICE void sum_gates() {
    for (int h = Base::warp(); h < F::kGroup; h += Shape::kThreads / 32) {
      const int head = value_head<F>(key_head_, h), token = 2 * lane_id();
      const auto rates = source_.rates(head);
      float g[2], b[2];
      GDN_UNROLL
      for (int i = 0; i < 2; ++i) {
        const bool inside = token + i < chunk_.tokens;
        float rate[1];
        rates.of(inside ? token + i : 0, rate);
        g[i] = inside ? rate[0] : 0.0f;
        b[i] = inside ? source_.beta(chunk_.token + token + i, head) : 0.0f;
      }
      float sum = g[0] + g[1];
      GDN_UNROLL
      for (int distance = 1; distance < 32; distance *= 2) {
        const float before = from_below(sum, distance);
        if (lane_id() >= distance) sum += before;
      }
      *reinterpret_cast<float2*>(sums(h) + token) = make_float2(sum - g[1], sum);
      *reinterpret_cast<float2*>(Base::beta(h) + token) = make_float2(b[0], b[1]);
    }
  }
  // What lies where M and L will be, k and q or the turn before's, has been read by all.
  GDN_DEVICE static void free_operands() {
    Machine::wait_sent();
    barrier();
  }
  // P as fragments in registers, L to shared memory: diagonal blocks in fp32, the rest in fp16, at once or by
  // put_below. Column by column for all heads, so that the products' registers are free as P's fill up.
  GDN_DEVICE void decay(int first) {
    const int w = Base::warp(), g = Base::row_in_8(), c = Base::column_pair();
    const int row0 = 16 * w + g, row1 = row0 + 8;
    const unsigned below = (c <= g ? 0xffffu : 0u) | (c < g ? 0xffff0000u : 0u);  // of an 8x8 block on the diagonal
    float sum0[Shape::kHeads], sum1[Shape::kHeads];
    GDN_UNROLL
    for (int h = 0; h < Shape::kHeads; ++h)
      sum0[h] = sums(Base::member(first, h))[row0], sum1[h] = sums(Base::member(first, h))[row1];
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) {
      if (n > 2 * w + 1) continue;  // above the diagonal: never read
      const int column = 8 * n + c;
      const unsigned kept0 = n < 2 * w ? ~0u : n == 2 * w ? below : 0u, kept1 = n <= 2 * w ? ~0u : below;
      GDN_UNROLL
      for (int h = 0; h < Shape::kHeads; ++h) {
        const float2 other = *reinterpret_cast<const float2*>(sums(Base::member(first, h)) + column);
        // Above the diagonal anything, infinite perhaps: L's is never read.
        const float d00 = exp2_fast(sum0[h] - other.x), d01 = exp2_fast(sum0[h] - other.y);
        const float d10 = exp2_fast(sum1[h] - other.x), d11 = exp2_fast(sum1[h] - other.y);
        p_[h][2 * n] = float_to_half_pair(qk_[4 * n] * d00, qk_[4 * n + 1] * d01) & kept0;
        p_[h][2 * n + 1] = float_to_half_pair(qk_[4 * n + 2] * d10, qk_[4 * n + 3] * d11) & kept1;
        const float l00 = kk_[4 * n] * d00, l01 = kk_[4 * n + 1] * d01;
        const float l10 = kk_[4 * n + 2] * d10, l11 = kk_[4 * n + 3] * d11;
        if (n >= 2 * w) {
          float* to = Base::diagonal(w, h) + (n - 2 * w) * 8 + c;
          *reinterpret_cast<float2*>(to + g * 16) = make_float2(l00, l01);
          *reinterpret_cast<float2*>(to + (g + 8) * 16) = make_float2(l10, l11);
        } else {
          const unsigned low = float_to_half_pair(l00, l01), high = float_to_half_pair(l10, l11);
          if constexpr (kWaitsLate) {
            below_[h][2 * n] = low;
            below_[h][2 * n + 1] = high;
          } else {
            put_words(h, n, low, high);
          }
        }
      }
    }
    warp_barrier();
  }
  // Words of L's columns 8 n to 8 n + 7, of the warp's first 8 rows and of the others.
  GDN_DEVICE void put_words(int h, int n, unsigned low, unsigned high) const {
    const unsigned block = Base::l_tile(h) + triangle_block(Base::warp(), n / 2);
    const unsigned to = block + offset_in_block(Base::row_in_8(), 8 * n + Base::column_pair());
    put(to, low);
    put(to + offset_in_block(8, 0), high);
  }
  GDN_DEVICE void put_below() const {
    const int w = Base::warp();
    GDN_UNROLL
    for (int n = 0; n < 6; ++n) {
      if (n >= 2 * w) continue;
      GDN_UNROLL
      for (int h = 0; h < Shape::kHeads; ++h) put_words(h, n, below_[h][2 * n], below_[h][2 * n + 1]);
    }
  }

  float kk_[32], qk_[32];
  unsigned below_[kWaitsLate ? Shape::kHeads : 1][16];  // L's blocks left of the diagonal, as fragments
};

// Grid: chunk numbers * key heads blocks of 128 threads, key heads fastest; PrepShape<F>::kShared bytes of
// dynamic shared memory.
template <class F, class Source = HandedOver<F>, class Machine = WarpGroupPrep, class Index>
GDN_DEVICE void prep(const Args& args, const Sequences<Index>& sequences, Global<char> workspace, char* shared) {
  allow_next_grid();  // its blocks find room as the last of these end
  const int number = block_row() / F::kKeyHeads, key_head = block_row() % F::kKeyHeads;
  const Chunk chunk = find_chunk<F>(args, sequences, number);
  if (chunk.tokens > 0) {
    Prep<F, Source, Machine>(args, chunk, key_head, shared,
                             workspace + static_cast<long long>(number) * Record<F>::kBytes)
        .run();
  }
}

}  // namespace gdn::sm90
