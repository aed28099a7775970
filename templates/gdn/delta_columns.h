// The gated delta rule of one token over a state whose memory has the value channel innermost (see delta.h).
#pragma once

#include "gdn/state_inbox.h"

namespace gdn {

template <class F>
class TokenColumns;

template <class F>
class DeltaColumns {
  friend class TokenColumns<F>;

  using State = typename F::State;
  using Scale = typename F::StateScale;
  using Element = typename State::Element;
  static constexpr int kKeyDim = F::kKeyDim, kValueDim = F::kValueDim, kValues = values_of_part<F>();
  static constexpr int kWidth =
      smaller(4, access_width<Element>(smaller(State::kAlign, power_of_two_in(State::kInnerStride)), kValues));
  static constexpr int kAccesses = kValues / kWidth;
  using Piece = Pack<Element, kWidth>;
  static constexpr int kWords = larger(Raw<Piece::kBytes>::kWords, kWidth / 2);  // registers of a piece
  static_assert(F::kThreads <= 256, "larger blocks leave a thread too few registers: lower `threads` in the plan");

  // How the key channels of a sum are dealt out, the same for every number of threads and for the bodies that take
  // several tokens, so that all of them round alike: kTeams teams, each adds up every kTeams-th channel, and the teams'
  // sums are added by halves (t and t + kTeams / 2 first). A wave alone would take 128 bytes of value channels if its
  // teams then have at most 16 key channels each, else half of that; a whole 32-byte sector is the least. Where numbers
  // are rounded by chance 8 key channels at most: their random words are made side by side, and need the registers.
  static constexpr int kMostKeys = F::kStochasticState ? 8 : 16;
  GDN_HD static constexpr int wave_lanes() {
    for (int lanes = 8; lanes > 2; lanes /= 2) {
      if (lanes <= power_of_two_above(kValueDim / kWidth) && ceil_div(kKeyDim, kWaveSize / lanes) <= kMostKeys)
        return lanes;
    }
    return 2;
  }
  static constexpr int kLanes = wave_lanes();
  static constexpr int kTeams = kWaveSize / kLanes;
  static constexpr int kRows = ceil_div(kKeyDim, kTeams);  // key channels of a thread
  static constexpr bool kWholeKeys = kKeyDim % kTeams == 0;
  static constexpr int kWaves = F::kThreads / kWaveSize;

  // Threads side by side along the value channels of a slab, and slabs that the block has under way at a time.
  GDN_HD static constexpr int slab_lanes() {
    int lanes = larger(kLanes, power_of_two_above(kAccesses));
    while (lanes > kLanes && F::kThreads % (lanes * kTeams) != 0) lanes /= 2;
    return lanes;
  }
  static constexpr int kSlabLanes = slab_lanes();
  static constexpr int kThreadsOfSlab = kSlabLanes * kTeams;
  static constexpr int kStreams = F::kThreads / kThreadsOfSlab;
  static constexpr int kSlabs = ceil_div(kAccesses, kSlabLanes);  // of a head
  static constexpr bool kWholeSlabs = kAccesses % kSlabLanes == 0;
  static constexpr bool kOneSlab = heads_of_part<F>() == 1 && kSlabs <= kStreams;  // a block has no more of them
  // Where the plan wants it (inbox) a block's states come to shared memory, all of them at once. A slab is read there
  // twice, to be summed and to be updated, and has no registers in between.
  static constexpr bool kInbox = F::kInbox != 0;
  static constexpr bool kReadsAhead = !kInbox && 2 * kRows * kWords <= 64 && !F::kStochasticState;
  // Beside two slabs k has no registers either: it is made where it is needed, twice a slab.
  static constexpr bool kKeepsKeys = !kReadsAhead || kOneSlab;
  using Keys = float[kKeepsKeys ? kRows : 1];

  // Sums over the teams: inside a wave by shuffles, then over the groups of lanes that shuffles don't join.
  static constexpr int kTeamsOfWave = larger(1, kWaveSize / kSlabLanes);
  static constexpr int kGroups = kTeams / kTeamsOfWave;
  static constexpr bool kScaled = scaled_state<F>();
  static constexpr int kTurns = kOneSlab ? 1 : 2;
  struct Partial {
    alignas(16) float sum[kTurns][kStreams][kGroups][2][kSlabLanes * kWidth];  // in turns; S^T k, then S^T q
    float amax[kTurns][kStreams][kGroups][kScaled ? kSlabLanes * kWidth : 1];  // in turns; of the updated columns
  };
  struct Slab {
    Piece piece[kRows];
    float scale[kScaled ? kWidth : 1];
  };

 public:
  // Issues the loads of the first slab, if it comes to registers; call it early, they need nothing but the slot.
  GDN_DEVICE DeltaColumns(const Args& args, long long slot, const DeltaTurn& turn)
      : state_(part<State>(args, slot)), scales_(part<Scale>(args, slot)), chance_(args, slot), turn_(turn) {
    const int thread = thread_id() % kThreadsOfSlab;
    stream_ = thread_id() / kThreadsOfSlab;
    lane_ = thread % kSlabLanes;
    group_ = kTeamsOfWave > 1 ? thread / kWaveSize : thread / kSlabLanes;
    first_of_group_ = thread % kWaveSize < kSlabLanes;
    team_ = (kTeamsOfWave > 1 ? thread % kWaveSize / kSlabLanes : 0) * kGroups + group_;
    if constexpr (!kInbox) read(stream_, ahead_);
  }

  // Asks for what the inbox holds; all threads, before the barrier ahead of run().
  GDN_DEVICE void ask_inbox(DeltaShared<F>& shared) const { StateInbox<F>::ask(state_, turn_, shared); }

  // All threads, after a barrier behind the last write to q, k, v, decay and beta. o is complete after another barrier.
  GDN_DEVICE void run(DeltaShared<F>& shared) {
    const QkFactors factors = qk_factors<F>(shared.q, shared.k);
    Keys k;  // q is used once a slab: no registers for it
    if constexpr (kKeepsKeys) {
      GDN_UNROLL
      for (int r = 0; r < kRows; ++r) k[r] = normalised_inside(shared.k, factors.k, r);
    }
    GDN_SHARED(Partial, partial);
    const int slabs = turn_.heads * kSlabs;
    int turn = 0;
    for (int first = 0; first < slabs; first += kStreams) {
      const int slab = first + stream_;
      const int next = slab + kStreams;
      if constexpr (kInbox) {
        if (column_inside(slab)) StateInbox<F>::wait(shared, head_of(slab));
        update(shared, partial, turn, slab, factors, k, ahead_);
      } else if constexpr (kOneSlab) {
        update(shared, partial, turn, slab, factors, k, ahead_);
      } else if constexpr (kReadsAhead) {
        Slab now = ahead_;
        read(next, ahead_);
        update(shared, partial, turn, slab, factors, k, now);
      } else {
        update(shared, partial, turn, slab, factors, k, ahead_);
        read(next, ahead_);
      }
      turn = (turn + 1) % kTurns;
    }
  }

 private:
  GDN_DEVICE int key_channel(int r) const { return team_ + r * kTeams; }

  // Slabs are numbered through the heads of the turn; the value channel is among the block's. Where a slab is a part of
  // each row of memory, neighbouring blocks may begin with other parts (F::kSkew): all at once they would ask for the
  // same share of the memory's channels.
  GDN_DEVICE static int head_of(int slab) { return slab / kSlabs; }
  GDN_DEVICE static int part_of_row(int slab) {
    if constexpr (F::kSkew != 0) return (slab + block_number()) % kSlabs;
    return slab % kSlabs;
  }
  GDN_DEVICE int value_channel(int slab) const { return (part_of_row(slab) * kSlabLanes + lane_) * kWidth; }
  GDN_DEVICE bool column_inside(int slab) const {
    return slab < turn_.heads * kSlabs && (kWholeSlabs || value_channel(slab) < kValues);
  }

  // Elements behind the slot's start, of the column's first key channel.
  GDN_DEVICE int place(int slab) const {
    return State::base(value_head<F>(turn_.key_head, turn_.first_head + head_of(slab))) + turn_.first_value +
           value_channel(slab);
  }
  // The thread's first key channel; the others follow kTeams apart.
  GDN_DEVICE Elements<Element> column(int slab) const { return state_ + (place(slab) + team_ * State::kInnerStride); }
  GDN_DEVICE MapElements<Scale> scale_at(int slab, int i) const {
    return scales_ + Scale::base(value_head<F>(turn_.key_head, turn_.first_head + head_of(slab))) +
           (turn_.first_value + value_channel(slab) + i) * Scale::kInnerStride;
  }

  GDN_DEVICE bool key_inside(int r) const { return kWholeKeys || key_channel(r) < kKeyDim; }

  // The thread's r-th key channel of q or k.
  GDN_DEVICE float normalised_inside(const float (&x)[kKeyDim], float factor, int r) const {
    return key_inside(r) ? normalised<F>(x[key_channel(r)], factor) : 0.0f;
  }
  GDN_DEVICE float key_at(const DeltaShared<F>& shared, const QkFactors& factors, const Keys& k, int r) const {
    if constexpr (kKeepsKeys) {
      return k[r];
    } else {
      return normalised_inside(shared.k, factors.k, r);
    }
  }

  // The r-th piece of a slab that is in registers or in the inbox.
  GDN_DEVICE Piece piece_of(const Slab& now, int slab, int r) const {
    if constexpr (!kInbox) return now.piece[r];
    Piece piece;
    piece.clear();
    const int number = key_channel(r) * kValueDim + value_channel(slab);
    if (key_inside(r)) piece.raw = StateInbox<F>::template take<Piece::kBytes>(head_of(slab), number);
    return piece;
  }

  GDN_DEVICE void read(int slab, Slab& to) const {
    const bool inside = column_inside(slab);
    if constexpr (kScaled) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        to.scale[i] = inside ? load_one<typename Scale::Element>(scale_at(slab, i)) : 0.0f;
      }
    }
    if (!inside) return;
    const Elements<Element> from = column(slab);
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      to.piece[r].clear();
      if (key_inside(r)) to.piece[r].raw = load_stream<Piece::kBytes>(from + r * kTeams * State::kInnerStride);
    }
  }

  GDN_DEVICE void update(DeltaShared<F>& shared, Partial& partial, int turn, int slab, const QkFactors& factors,
                         const Keys& k, Slab& now) const {
    const bool inside = column_inside(slab);
    const int head = inside ? head_of(slab) : 0;
    const int first = inside ? value_channel(slab) : 0;
    const float decay = shared.head_decay(head);
    const float beta = shared.beta[head];
    float channel_decay[kRows];
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      channel_decay[r] = key_inside(r) ? shared.channel_decay(head, key_channel(r)) : 0.0f;
    }
    float sums[2 * kWidth];  // S^T k, then S^T q, before the head's decay
    GDN_UNROLL
    for (int i = 0; i < 2 * kWidth; ++i) sums[i] = 0.0f;
    if (inside) {
      GDN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const float q_of_row = normalised_inside(shared.q, factors.q, r);
        const float k_of_row = key_at(shared, factors, k, r);
        const Piece piece = piece_of(now, slab, r);
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          const float s = channel_decay[r] * piece.get(i);
          sums[i] += s * k_of_row;
          sums[kWidth + i] += s * q_of_row;
        }
      }
    }
    sum_over_lanes<kTeamsOfWave, kSlabLanes>(sums);
    if constexpr (kGroups > 1) sum_over_groups(partial.sum[turn][stream_], sums);
    if (!kScaled && !inside) return;  // the scales' exchange needs everybody
    float column_decay[kWidth];
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      column_decay[i] = decay;
      if constexpr (kScaled) {
        sums[i] *= now.scale[i];
        sums[kWidth + i] *= now.scale[i];
        column_decay[i] *= now.scale[i];
      }
    }

    float u[kWidth];
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      u[i] = beta * (shared.v[head * kValueDim + turn_.first_value + first + i] - decay * sums[i]);
    }
    if (inside && team_ == 0) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        put_o<F>(shared, turn_, head, turn_.first_value + first + i,
                 plus_product(decay * sums[kWidth + i], u[i], factors.product));
      }
    }
    const auto update_row = [&](int r, float(&updated)[kWidth]) {
      const float k_of_row = key_at(shared, factors, k, r);
      const Piece piece = piece_of(now, slab, r);
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        updated[i] = plus_product(column_decay[i] * (channel_decay[r] * piece.get(i)), u[i], k_of_row);
      }
    };
    float inverse[kWidth];
    if constexpr (kScaled) {
      float amax[kWidth];
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) amax[i] = 0.0f;
      if (inside) {
        GDN_UNROLL
        for (int r = 0; r < kRows; ++r) {
          float updated[kWidth];
          update_row(r, updated);
          GDN_UNROLL
          for (int i = 0; i < kWidth; ++i) amax[i] = magnitude(updated[i]) > amax[i] ? magnitude(updated[i]) : amax[i];
        }
      }
      largest_over_lanes<kTeamsOfWave, kSlabLanes>(amax);
      if constexpr (kGroups > 1) largest_over_groups(partial.amax[turn][stream_], amax);
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const RowScale next = row_scale<Element>(amax[i]);
        inverse[i] = next.inverse;
        if (inside && team_ == 0) store_one<typename Scale::Element>(scale_at(slab, i), next.scale);
      }
      if (!inside) return;
    }
    const Elements<Element> to = column(slab);
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float updated[kWidth];
      update_row(r, updated);
      if constexpr (kScaled) {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) updated[i] *= inverse[i];
      }
      chance_.round(place(slab) + key_channel(r) * State::kInnerStride, updated);
      now.piece[r].set(updated);
      if (key_inside(r)) store_stream<Piece::kBytes>(to + r * kTeams * State::kInnerStride, now.piece[r].raw);
    }
  }

  // Every thread gets the whole of S^T k for its channels, and of S^T q the one that makes o of it. One barrier: the
  // next slab uses the other half of `partial`.
  GDN_DEVICE void sum_over_groups(float (&partial)[kGroups][2][kSlabLanes * kWidth], float (&sums)[2 * kWidth]) const {
    if (first_of_group_) {
      GDN_UNROLL
      for (int i = 0; i < 2 * kWidth; ++i) partial[group_][i / kWidth][lane_ * kWidth + i % kWidth] = sums[i];
    }
    barrier();
    float whole[kWidth];
    add_groups<0, 0, 1>(partial, whole);
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) sums[i] = whole[i];
    if (team_ != 0) return;
    add_groups<1, 0, 1>(partial, whole);
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) sums[kWidth + i] = whole[i];
  }

  // The same for the largest magnitudes, in any order.
  GDN_DEVICE void largest_over_groups(float (&partial)[kGroups][kSlabLanes * kWidth], float (&amax)[kWidth]) const {
    if (first_of_group_) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) partial[group_][lane_ * kWidth + i] = amax[i];
    }
    barrier();
    GDN_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const float other = partial[group][lane_ * kWidth + i];
        amax[i] = other > amax[i] ? other : amax[i];
      }
    }
  }

  // Groups kFirst, kFirst + kStep, ..., by halves; kWhich: 0 S^T k, 1 S^T q.
  template <int kWhich, int kFirst, int kStep>
  GDN_DEVICE void add_groups(const float (&partial)[kGroups][2][kSlabLanes * kWidth], float (&sums)[kWidth]) const {
    if constexpr (kStep == kGroups) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) sums[i] = partial[kFirst][kWhich][lane_ * kWidth + i];
    } else {
      float rest[kWidth];
      add_groups<kWhich, kFirst, 2 * kStep>(partial, sums);
      add_groups<kWhich, kFirst + kStep, 2 * kStep>(partial, rest);
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) sums[i] += rest[i];
    }
  }

  Elements<Element> state_;
  MapElements<Scale> scales_;
  StateChance<F> chance_;
  DeltaTurn turn_;
  int stream_;  // which of the slabs under way
  int lane_;    // along the value channels of a slab
  int team_;    // which key channels
  int group_;   // of lanes whose sums go through shared memory
  bool first_of_group_;
  Slab ahead_;
};

}  // namespace gdn
