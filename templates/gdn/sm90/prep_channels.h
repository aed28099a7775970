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
  static constexpr int kTileShift = 13;  // of the largest entry of a row of k and q for the state

 public:
  GDN_DEVICE PrepChannels(const Args& args, const Chunk& chunk, int head, char* shared, Global<char> record)
      : Base(args, chunk, key_head_of<F>(head), member_of<F>(head), shared, record), head_(head) {}

  GDN_DEVICE void run() {
    fetch();
    normalise();
    barrier();
    decay_rows();
    Levels<F> levels(shared_);
    levels.multiply();
    barrier();  // the sums' place is free
    levels.put();
    barrier();
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
  // ---- rows of k and q: eight lanes a row, each with the same piece of every tile, 8 channels -----------------------

  static constexpr int kTiles = Base::kTiles, kRowsAtOnce = Shape::kThreads / 8;
  using Pieces = float[kTiles][8];
  GDN_DEVICE static int piece() { return thread_id() % 8; }
  GDN_DEVICE static int first_row() { return thread_id() / 8; }
  // Rows that are kRowsAtOnce apart lie in the same place of the swizzle.
  GDN_DEVICE static int first_offset() { return static_cast<int>(tile_offset(first_row(), piece() * 8)); }
  static_assert(kRowsAtOnce % 8 == 0, "the swizzle goes by row");

  // The chunk's k and q to their tiles as they come, and v where the source makes it; the sums of the rates.
  GDN_DEVICE void fetch() {
    if constexpr (Source::kConvolves) {
      source_.finish(Base::first_member_, 1);
      sum_rates();
      Raw<16> pieces[Base::kPasses];
      source_.keys(pieces, Base::rows());
      Base::put_pieces(pieces, 0);
      source_.queries(pieces, Base::rows());
      Base::put_pieces(pieces, Layout::kKeyBytes);
      barrier();
    } else {
      unsigned to = base_ + static_cast<unsigned>(first_offset());
      GDN_NO_UNROLL
      for (int row = first_row(); row < kChunk; row += kRowsAtOnce, to += kRowsAtOnce * 128) {
        GDN_UNROLL
        for (int t = 0; t < kTiles; ++t) {
          const int channel = 64 * t + 8 * piece();
          const bool inside = row < chunk_.tokens && channel < F::kKeyDim;
          source_.copy_key(to + static_cast<unsigned>(t * kTileBytes), row, channel, inside);
          source_.copy_query(to + static_cast<unsigned>(t * kTileBytes + Layout::kKeyBytes), row, channel, inside);
        }
      }
      copies_commit();
      sum_rates();
      copies_wait<0>();
    }
  }

  // The rows under their norm, rounded as the rule says, times a factor in fp16; in place.
  GDN_DEVICE void normalise() {
    constexpr int kUnit = 1 << Shape::kFactorShift;
    unsigned at = base_ + static_cast<unsigned>(first_offset());
    GDN_NO_UNROLL
    for (int pass = 0; pass < kChunk / kRowsAtOnce; ++pass, at += kRowsAtOnce * 128) {
      normalise_row(at, F::kKScale * kUnit);
      normalise_row(at + Layout::kKeyBytes, kUnit);
    }
  }
  GDN_DEVICE static void normalise_row(unsigned at, float scale) {
    using E = typename Source::Element;
    Pieces x;
    float sum = 0.0f;
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      Raw<16> raw;
      load_shared_16(raw.word, at + static_cast<unsigned>(t * kTileBytes));
      const Pack<E, 8> pack{raw};
      GDN_UNROLL
      for (int i = 0; i < 8; ++i) {
        x[t][i] = pack.get(i);
        sum = fused(x[t][i], x[t][i], sum);
      }
    }
    float factor = 1.0f;
    if constexpr (F::kQkNorm) {
      GDN_UNROLL
      for (int distance = 1; distance < 8; distance *= 2) sum += from_across(sum, distance);
      factor = inverse_norm<F>(sum);
    }
    // A power of two changes nothing about how a number is rounded, but where there are few exponents.
    const bool exact = (bits_of(scale) & 0x007fffffu) == 0 && !same_type<typename F::RoundPrefillQk, Fp16>();
    const float before = exact ? factor * scale : factor, after = exact ? 1.0f : scale;
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      unsigned words[4];
      GDN_UNROLL
      for (int i = 0; i < 4; ++i) {
        float pair[2] = {x[t][2 * i] * before, x[t][2 * i + 1] * before};
        round_run<typename F::RoundPrefillQk>(pair);
        words[i] = float_to_half_pair(pair[0] * after, pair[1] * after);
      }
      store_shared_16(at + static_cast<unsigned>(t * kTileBytes), words[0], words[1], words[2], words[3]);
    }
  }

  // ---- decays -------------------------------------------------------------------------------------------------------

  // G, four neighbouring channels a thread, by runs of kRun tokens; zeros beyond K. Also beta and the channels' gates.
  // First the sums of a run, then those of the runs before it on top.
  GDN_DEVICE void sum_rates() {
    constexpr int kFours = Shape::kChannels / 4, kRuns = Shape::kThreads / kFours, kRun = kChunk / kRuns, kAtOnce = 8;
    static_assert(kRuns * Shape::kChannels <= 4 * kDiagonalFloats, "the runs' sums lie where L's diagonal blocks will");
    const int place = thread_id() % kFours * 4, run = thread_id() / kFours, channel = channel_of_place(place);
    const int count = channel < F::kKeyDim ? chunk_.tokens - run * kRun : 0;
    const auto rates = source_.template rates<4>(head_, channel < F::kKeyDim ? channel : 0);
    const auto at = [&](int token) {
      float* const row = Base::floats(Shape::kSums) + (run * kRun + token) * Shape::kChannels;
      return reinterpret_cast<float4*>(row + (place ^ (sums_half_of(token) * 16)));
    };
    float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
    GDN_NO_UNROLL
    for (int first = 0; first < kRun; first += kAtOnce) {
      float rate[kAtOnce][4];
      GDN_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        rates.of(smaller(run * kRun + first + i, chunk_.tokens - 1), rate[i]);
      }
      GDN_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        GDN_UNROLL
        for (int j = 0; j < 4; ++j) rate[i][j] = first + i < count ? rate[i][j] : 0.0f;
        sum.x += rate[i][0], sum.y += rate[i][1], sum.z += rate[i][2], sum.w += rate[i][3];
        *at(first + i) = sum;
      }
    }
    float* const of_runs = Base::floats(Shape::kDiagonal);
    *reinterpret_cast<float4*>(of_runs + run * Shape::kChannels + place) = sum;
    if (thread_id() < kChunk) {
      const int token = thread_id();
      Base::beta(0)[token] = token < chunk_.tokens ? source_.beta(chunk_.token + token, head_) : 0.0f;
    }
    barrier();
    float4 before = {0.0f, 0.0f, 0.0f, 0.0f};
    GDN_NO_UNROLL
    for (int earlier = 0; earlier < run; ++earlier) {
      before = plus(before, *reinterpret_cast<const float4*>(of_runs + earlier * Shape::kChannels + place));
    }
    if (run > 0) {
      GDN_UNROLL
      for (int i = 0; i < kRun; ++i) *at(i) = plus(*at(i), before);
    }
    if (run == kRuns - 1) {
      sum = plus(sum, before);
      float* const to = Base::gates(0) + Gates::kDecay + channel;
      to[0] = exp2_fast(sum.x), to[1] = exp2_fast(sum.y), to[2] = exp2_fast(sum.z), to[3] = exp2_fast(sum.w);
    }
  }
  GDN_DEVICE static float4 plus(const float4& a, const float4& b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
  }

  // The largest of a row's numbers, to all eight of its lanes.
  GDN_DEVICE static float largest_of_row(float x) {
    GDN_UNROLL
    for (int distance = 1; distance < 8; distance *= 2) x = larger_of(x, from_across(x, distance));
    return x;
  }
  // A row times 2^p, as fp16, to the record, with p such that the row's largest entry comes to [2^most, 2^(most + 1)).
  // Returns p.
  GDN_DEVICE static float store_row(Global<char> to, const Pieces& x, int most) {
    float largest = 0.0f;
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      GDN_UNROLL
      for (int i = 0; i < 8; ++i) largest = larger_of(largest, magnitude_of(x[t][i]));
    }
    const int exponent = static_cast<int>(bits_of(largest_of_row(largest)) >> 23) - 127;
    const int by = smaller(most - exponent, 100);
    const float scale = power_of_two(by);
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      unsigned words[4];
      GDN_UNROLL
      for (int i = 0; i < 4; ++i) words[i] = float_to_half_pair(x[t][2 * i] * scale, x[t][2 * i + 1] * scale);
      store_16(to + t * kTileBytes, words);
    }
    return static_cast<float>(by);
  }

  // k and q under their decays, and k for the update, to the record. First relative to the slowest channel of the row,
  // in fp32, then to what is largest.
  GDN_DEVICE void decay_rows() {
    Pieces last;
    load_sums(last, kChunk - 1);
    unsigned from = base_ + static_cast<unsigned>(first_offset());
    Global<char> to = record_ + Layout::keys(head_) + first_offset();
    GDN_NO_UNROLL
    for (int pass = 0; pass < kChunk / kRowsAtOnce; ++pass, from += kRowsAtOnce * 128, to += kRowsAtOnce * 128) {
      const int row = first_row() + pass * kRowsAtOnce;
      Pieces sum, x;
      load_sums(sum, row);
      float slowest = sum[0][0], slowest_rest = last[0][0] - sum[0][0];
      GDN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        GDN_UNROLL
        for (int i = 0; i < 8; ++i) {
          slowest = larger_of(slowest, sum[t][i]);
          slowest_rest = larger_of(slowest_rest, last[t][i] - sum[t][i]);
        }
      }
      slowest = largest_of_row(slowest), slowest_rest = largest_of_row(slowest_rest);
      load_row(x, from);
      Pieces rest;
      GDN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        GDN_UNROLL
        for (int i = 0; i < 8; ++i) {
          rest[t][i] = x[t][i] * exp2_fast(last[t][i] - sum[t][i] - slowest_rest);
          sum[t][i] = exp2_fast(sum[t][i] - slowest);
          x[t][i] *= sum[t][i];
        }
      }
      const float of_u = store_row(to, rest, 0), of_k = store_row(to + Layout::kKey, x, kTileShift);
      load_row(x, from + Layout::kKeyBytes);
      GDN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        GDN_UNROLL
        for (int i = 0; i < 8; ++i) x[t][i] *= sum[t][i];
      }
      const float of_q = store_row(to + Layout::kKey + Layout::kKeyBytes, x, kTileShift);
      if (piece() == 0) {
        Base::floats(Shape::kRead)[row] = slowest - of_k - Shape::kFactorShift;
        Base::floats(Shape::kQuery)[row] = slowest - of_q - Shape::kFactorShift;
        Base::floats(Shape::kWrite)[row] = slowest_rest - of_u - Shape::kFactorShift;
      }
    }
  }
  GDN_DEVICE static void load_row(Pieces& to, unsigned from) {
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      unsigned words[4];
      load_shared_16(words, from + static_cast<unsigned>(t * kTileBytes));
      GDN_UNROLL
      for (int i = 0; i < 8; ++i) to[t][i] = half_to_float(static_cast<unsigned short>(words[i / 2] >> (i % 2 * 16)));
    }
  }
  GDN_DEVICE void load_sums(Pieces& to, int token) const {
    const float* const row = Base::floats(Shape::kSums) + token * Shape::kChannels;
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      GDN_UNROLL
      for (int i = 0; i < 8; i += 4) {
        const float4 x = *reinterpret_cast<const float4*>(row + sum_offset(token, 8 * t + piece(), i / 4));
        to[t][i] = x.x, to[t][i + 1] = x.y, to[t][i + 2] = x.z, to[t][i + 3] = x.w;
      }
    }
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
