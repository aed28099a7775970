// The part of the chunked delta rule that needs no state, where every key channel c of a value head decays at its own
// rate: one block a (chunk, value head), all chunks side by side.
//
// levels.h makes L and P of k, q and the rates, and prep_block.h makes M and R of them. The state meets, in tiles of
// the chunk's record,
//
//   k_j 2^(G_last - G_j)  for its update,      k_i 2^(G_i),      q_i 2^(G_i)
//
// the first times 2^kFactorShift, which the gates undo: what is left of a token is weighed against what later ones
// write, and of unit vectors an entry keeps fp16's precision until 2^-24 of it is left. Every row of the other two
// comes times a power of two that brings its largest entry to 2^13, so that it keeps that precision however far all of
// it has decayed, and what is 2^-27 of it as well; these rows' exponents are in the gates, in fp32.
//
// Rows past the sequence's end are zero in k and q, and the rates are 0 there.
#pragma once

#include "gdn/sm90/channel_rows.h"
#include "gdn/sm90/prep.h"

namespace gdn::sm90 {

template <class F, class Source = HandedOver<F>, class Machine = WarpGroupPrep>
class PrepChannels : PrepBlock<F, Source, ChannelShape<F>, Machine> {
  using Shape = ChannelShape<F>;
  using Base = PrepBlock<F, Source, Shape, Machine>;
  using Layout = Record<F>;
  using Base::source_, Base::chunk_, Base::key_head_, Base::base_, Base::record_, Base::p_, Base::shared_;
  using Rows = ChannelRows<F>;
  static constexpr int kTiles = Base::kTiles;
  static constexpr int kTouched = 4;  // chunks further on, whose blocks begin a third of a block's time later
  static_assert(Shape::kThreads == 2 * kChunk, "half of a token's rates a thread");

 public:
  GDN_DEVICE PrepChannels(const Args& args, const Chunk& chunk, int head, char* shared, Global<char> record)
      : Base(args, chunk, key_head_of<F>(head), member_of<F>(head), shared, record),
        head_(head),
        rows_(shared, record + Layout::keys(head)) {}

  GDN_DEVICE void run() {
    fetch();
    Levels<F> levels(shared_);
    if constexpr (Shape::kByTile) {
      rows_.template normalise<typename Source::Element>();
      rows_.measure([&](int tile) { sum_tile(tile); });
      levels.multiply([&](int tile) {
        sum_tile(tile);
        rows_.decay_tile(tile);
      });
    } else {
      barrier();
      if constexpr (!Source::kConvolves) {
        source_.touch(head_, kTouched * kChunk + thread_id() / 2, thread_id() % 2);
      }
      rows_.template decay_rows<typename Source::Element>();
      barrier();
      levels.multiply([](int) {});
    }
    barrier();  // the sums' place is free
    levels.put();
    barrier();
    levels.load_p(p_[0]);
    const auto exponents = [&](int, int token) {
      return TokenExponents{Base::floats(Shape::kRead)[token], Base::floats(Shape::kQuery)[token],
                            -static_cast<float>(Shape::kFactorShift)};
    };
    Base::invert_diagonal(0, exponents, [] {});
    Base::square_up(0, exponents);
    Machine::wait_sent();
  }

 private:
  // The chunk's k and q to their tiles as they come, and v where the source makes it; the sums of the rates.
  GDN_DEVICE void fetch() {
    if constexpr (Source::kConvolves) {
      source_.finish(Base::first_member_, 1);
      if constexpr (!Shape::kByTile) sum_rates(0);
      Raw<16> pieces[Base::kPasses];
      source_.keys(pieces, Base::rows());
      Base::put_pieces(pieces, 0);
      source_.queries(pieces, Base::rows());
      Base::put_pieces(pieces, Layout::kKeyBytes);
      barrier();
    } else {
      unsigned to = base_ + static_cast<unsigned>(Rows::first_offset());
      auto keys = source_.keys_at(Rows::first_row(), 8 * Rows::piece());
      auto queries = source_.queries_at(Rows::first_row(), 8 * Rows::piece());
      GDN_NO_UNROLL
      for (int row = Rows::first_row(); row < kChunk; row += Rows::kRowsAtOnce) {
        GDN_UNROLL
        for (int t = 0; t < kTiles; ++t) {
          const bool inside = row < chunk_.tokens && 64 * t + 8 * Rows::piece() < F::kKeyDim;
          copy_16(to + static_cast<unsigned>(t * kTileBytes), keys.first + 128 * t, inside);
          copy_16(to + static_cast<unsigned>(t * kTileBytes + Layout::kKeyBytes), queries.first + 128 * t, inside);
        }
        to += Rows::kRowsAtOnce * 128;
        keys.first += Rows::kRowsAtOnce * keys.stride, queries.first += Rows::kRowsAtOnce * queries.stride;
      }
      copies_commit();
      if constexpr (!Shape::kByTile) sum_rates(0);
      copies_wait<0>();
    }
  }

  // ---- decays -------------------------------------------------------------------------------------------------------

  // G, four neighbouring channels a thread, by runs of kRun tokens; zeros beyond K. Also beta and the channels' gates.
  // First the sums of a run, then those of the runs before it on top. Of tile `tile` and, if there is room, all others.
  GDN_DEVICE void sum_rates(int tile) {
    constexpr int kFours = Shape::kChannels / 4, kRuns = Shape::kThreads / kFours, kRun = kChunk / kRuns;
    static_assert(kRun % 4 == 0, "where a token's sums lie goes by its number's last two bits");
    static_assert(kRuns * Shape::kChannels <= 4 * kDiagonalFloats, "the runs' sums lie where L's diagonal blocks will");
    const int place = thread_id() % kFours * 4, run = thread_id() / kFours;
    const int channel = 64 * tile + channel_of_place(place);
    const int first = smaller(run * kRun, chunk_.tokens - 1);
    const int count = channel < F::kKeyDim ? chunk_.tokens - run * kRun : 0;
    const auto rates = source_.template rates<4>(head_, channel < F::kKeyDim ? channel : 0, first);
    const int token = thread_id();
    const float beta = token < chunk_.tokens ? source_.beta(chunk_.token + token, head_) : 0.0f;
    float rate[kRun][4];
    rates.run(rate, chunk_.tokens - 1 - first);
    float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
    GDN_UNROLL
    for (int i = 0; i < kRun; ++i) {
      const float kept = i < count ? rates.kFactor : 0.0f;  // a branch would put off the load
      sum = {fused(kept, rate[i][0], sum.x), fused(kept, rate[i][1], sum.y), fused(kept, rate[i][2], sum.z),
             fused(kept, rate[i][3], sum.w)};
      rate[i][0] = sum.x, rate[i][1] = sum.y, rate[i][2] = sum.z, rate[i][3] = sum.w;
    }
    float* const of_runs = Base::floats(Shape::kDiagonal);
    *reinterpret_cast<float4*>(of_runs + run * Shape::kChannels + place) = sum;
    if (token < kChunk) Base::beta(0)[token] = beta;
    barrier();
    float4 before = {0.0f, 0.0f, 0.0f, 0.0f};
    GDN_NO_UNROLL
    for (int earlier = 0; earlier < run; ++earlier) {
      before = plus(before, *reinterpret_cast<const float4*>(of_runs + earlier * Shape::kChannels + place));
    }
    float* const row = Base::floats(Shape::kSums) + run * kRun * Shape::kChannels;
    GDN_UNROLL
    for (int i = 0; i < kRun; ++i) {
      float* const to = row + i * Shape::kChannels + (place ^ (sums_half_of(i) * 16));
      *reinterpret_cast<float4*>(to) = plus({rate[i][0], rate[i][1], rate[i][2], rate[i][3]}, before);
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

  GDN_DEVICE void sum_tile(int tile) {
    barrier();  // the tile before was read
    sum_rates(tile);
    barrier();
  }

  int head_;
  Rows rows_;
};

// Grid: chunk numbers * value heads blocks of kPrepThreads threads, value heads fastest;
// ChannelShape<F>::kShared bytes of dynamic shared memory.
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
