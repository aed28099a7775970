// The part of the chunked delta rule that needs no state, where every key channel c of a value head decays at its own
// rate: one block a (chunk, value head), all chunks side by side.
//
// levels.h makes L and P of k, q and the rates, and prep_block.h makes M and R of them. The state meets, in tiles of
// the chunk's record,
//
//   k_j 2^(G_last - G_j)  for its update,      k_i 2^(G_i),      q_i 2^(G_i)
//
// every row times a power of two that brings its largest entry to 1, 2^13 and 2^13, so that it keeps fp16's precision
// however far all of it has decayed, and what is 2^-14 or 2^-27 of it as well. The rows' exponents are in the gates, in
// fp32.
//
// Rows past the sequence's end are zero in k and q, and the rates are 0 there.
#pragma once

#include "gdn/sm90/levels.h"
#include "gdn/sm90/prep.h"

namespace gdn::sm90 {

template <class F, class Source = HandedOver<F>, class Machine = WarpGroupPrep>
class PrepChannels : PrepBlock<F, Source, ChannelShape<F>, Machine> {
  using Shape = ChannelShape<F>;
  using Base = PrepBlock<F, Source, Shape, Machine>;
  using Layout = Record<F>;
  using Base::source_, Base::chunk_, Base::key_head_, Base::base_, Base::record_, Base::p_, Base::shared_;
  static constexpr int kPasses = Base::kPasses;
  static constexpr int kTileShift = 13;  // of the largest entry of a row of k and q for the state

 public:
  GDN_DEVICE PrepChannels(const Args& args, const Chunk& chunk, int head, char* shared, Global<char> record)
      : Base(args, chunk, key_head_of<F>(head), member_of<F>(head), shared, record), head_(head) {}

  GDN_DEVICE void run() {
    constexpr int kUnit = 1 << Shape::kFactorShift;
    Base::operands(F::kKScale * kUnit, kUnit, [&] { sum_rates(); });
    barrier();
    Levels<F> levels(shared_);
    levels.multiply();
    barrier();
    unsigned update[kPasses][4];
    decay_rows(update);
    barrier();  // the sums' place is free
    GDN_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const unsigned to = base_ + Shape::kUpdate + Base::piece_offset(i);
      store_shared_16(to, update[i][0], update[i][1], update[i][2], update[i][3]);
    }
    levels.put();
    Machine::written();
    barrier();
    Machine::send(record_ + Layout::keys(head_), base_ + Shape::kUpdate, Layout::kKeyBytes);
    Machine::send(record_ + Layout::keys(head_) + Layout::kKey, base_, 2 * Layout::kKeyBytes);
    Machine::sent();
    levels.load_p(p_[0]);
    const auto exponents = [&](int, int token) {
      return TokenExponents{Base::floats(Shape::kRead)[token], Base::floats(Shape::kQuery)[token],
                            Base::floats(Shape::kWrite)[token]};
    };
    Base::invert_diagonal(0, exponents);
    Base::square_up(0, exponents);
    Machine::wait_sent();
  }

 private:
  GDN_DEVICE const float* sums(int token) const { return Base::floats(Shape::kSums) + token * Shape::kStride; }

  // G, a channel a thread; zeros beyond K. Also beta and the channels' gates.
  GDN_DEVICE void sum_rates() {
    const int c = thread_id();
    float* to = Base::floats(Shape::kSums) + c;
    float sum = 0.0f;
    if (c < F::kKeyDim) {
      constexpr int kAtOnce = 16;
      const auto rates = source_.rates(head_, c);
      GDN_UNROLL
      for (int first = 0; first < kChunk; first += kAtOnce) {
        float rate[kAtOnce];
        GDN_UNROLL
        for (int i = 0; i < kAtOnce; ++i) {
          rate[i] = first + i < chunk_.tokens ? rates.of(first + i) : 0.0f;
        }
        GDN_UNROLL
        for (int i = 0; i < kAtOnce; ++i) to[(first + i) * Shape::kStride] = sum += rate[i];
      }
    } else if (c < Shape::kChannels) {
      for (int i = 0; i < kChunk; ++i) to[i * Shape::kStride] = 0.0f;
    }
    if (c < Shape::kChannels) Base::gates(0)[Gates::kDecay + c] = exp2_fast(sum);
    if (c < kChunk) Base::beta(0)[c] = c < chunk_.tokens ? source_.beta(chunk_.token + c, head_) : 0.0f;
  }

  // The largest of a row's pieces, to all of their lanes.
  GDN_DEVICE static float largest_of_row(float x) {
    GDN_UNROLL
    for (int distance = 1; distance < Base::kPieces; distance *= 2) x = larger_of(x, from_across(x, distance));
    return x;
  }
  // A row's piece times 2^p, as fp16, with p such that the row's largest entry comes to [2^most, 2^(most + 1)). Returns
  // p.
  GDN_DEVICE static float scale_row(unsigned (&words)[4], const float (&x)[8], int most) {
    float largest = 0.0f;
    GDN_UNROLL
    for (int i = 0; i < 8; ++i) largest = larger_of(largest, magnitude_of(x[i]));
    const int exponent = static_cast<int>(bits_of(largest_of_row(largest)) >> 23) - 127;
    const int by = smaller(most - exponent, 100);
    const float scale = power_of_two(by);
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) words[i] = float_to_half_pair(x[2 * i] * scale, x[2 * i + 1] * scale);
    return static_cast<float>(by);
  }
  GDN_DEVICE static void load_halves(float (&to)[8], unsigned from) {
    unsigned words[4];
    load_shared_16(words, from);
    GDN_UNROLL
    for (int i = 0; i < 8; ++i) to[i] = half_to_float(static_cast<unsigned short>(words[i / 2] >> (i % 2 * 16)));
  }

  // k and q under their decays, in place, and k for the update, which waits in registers until its place is free. First
  // relative to the slowest channel of the row, in fp32, then to what is largest.
  GDN_DEVICE void decay_rows(unsigned (&update)[kPasses][4]) {
    const int channel = 8 * Base::piece();
    float last[8];
    load_eight(last, sums(kChunk - 1) + channel);
    GDN_UNROLL
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = Base::row_of(pass);
      const unsigned at = base_ + Base::piece_offset(pass);
      float sum[8], rest[8], k[8], q[8], u[8];
      load_eight(sum, sums(row) + channel);
      load_halves(k, at);
      load_halves(q, at + Layout::kKeyBytes);
      float slowest = sum[0], slowest_rest = last[0] - sum[0];
      GDN_UNROLL
      for (int i = 0; i < 8; ++i) {
        rest[i] = last[i] - sum[i];
        slowest = larger_of(slowest, sum[i]);
        slowest_rest = larger_of(slowest_rest, rest[i]);
      }
      slowest = largest_of_row(slowest), slowest_rest = largest_of_row(slowest_rest);
      GDN_UNROLL
      for (int i = 0; i < 8; ++i) {
        const float by = exp2_fast(sum[i] - slowest);
        u[i] = k[i] * exp2_fast(rest[i] - slowest_rest);
        k[i] *= by;
        q[i] *= by;
      }
      unsigned words[4];
      const float of_k = scale_row(words, k, kTileShift);
      store_shared_16(at, words[0], words[1], words[2], words[3]);
      const float of_q = scale_row(words, q, kTileShift);
      store_shared_16(at + Layout::kKeyBytes, words[0], words[1], words[2], words[3]);
      const float of_u = scale_row(update[pass], u, 0);
      if (Base::piece() == 0) {
        Base::floats(Shape::kRead)[row] = slowest - of_k - Shape::kFactorShift;
        Base::floats(Shape::kQuery)[row] = slowest - of_q - Shape::kFactorShift;
        Base::floats(Shape::kWrite)[row] = slowest_rest - of_u - Shape::kFactorShift;
      }
    }
  }
  GDN_DEVICE static void load_eight(float (&to)[8], const float* from) {
    const float4 low = *reinterpret_cast<const float4*>(from), high = *reinterpret_cast<const float4*>(from + 4);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
  }
  int head_;
};

// Grid: chunk numbers * value heads blocks of 128 threads, value heads fastest; ChannelShape<F>::kShared
// bytes of dynamic shared memory.
template <class F, class Source = HandedOver<F>, class Machine = WarpGroupPrep, class Index>
GDN_DEVICE void prep_channels(const Args& args, const Sequences<Index>& sequences, Global<char> workspace,
                              char* shared) {
  allow_next_grid();
  const int number = block_row() / F::kValueHeads, head = block_row() % F::kValueHeads;
  const Chunk chunk = find_chunk<F>(args, sequences, number);
  if (chunk.tokens > 0) {
    PrepChannels<F, Source, Machine>(args, chunk, head, shared,
                                     workspace + static_cast<long long>(number) * Record<F>::kBytes)
        .run();
  }
}

// Whichever of the two a rule's decays need.
template <class F, class Source, class Machine = WarpGroupPrep, class Index>
GDN_DEVICE void prepare(const Args& args, const Sequences<Index>& sequences, Global<char> workspace, char* shared) {
  if constexpr (decays_by_channel<F>()) {
    prep_channels<F, Source, Machine>(args, sequences, workspace, shared);
  } else {
    prep<F, Source, Machine>(args, sequences, workspace, shared);
  }
}

}  // namespace gdn::sm90
