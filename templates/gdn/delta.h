// The gated delta rule of one token, with the recurrent state streamed through registers once.
//
//   S <- exp(g) S;  u = beta (v - S^T k);  o = (S + k u^T)^T q;  S <- S + k u^T      (S is K x V)
//
// exp(g) is one number for a value head (gdn) or one for each key channel, a row of S (kda).
//
// The state is almost all the memory that a decode step touches, so it is read once and written once: while a row is
// in registers both S^T k and S^T q are summed over it, and o is then exp(g) S^T q + (q . k) u, with no second sum to
// wait for. o never sees the state rounded to its storage type. A head's decay is multiplied into the sums, channels'
// decays into the state before it is summed; the bodies do both, and one of the two factors is the constant 1, which
// costs nothing. So is the scale of a row of an 8-bit state (state_store.h), whose next one is made of the updated row
// while it is in registers.
//
// Two ways to deal out the state, by which channel its memory has innermost:
//   DeltaRows     a row of memory is one value channel: a few lanes share it and sum over its key channels.
//                 No barrier: once v, q, k and the gates are in shared memory, each wave runs on its own.
//   DeltaColumns  a row of memory is one key channel: the block takes a slab of value channels, for all key channels,
//   so
//                 wide that it covers whole lines of memory; its sums cross the waves through shared memory.
#pragma once

#include "gdn/arrivals.h"
#include "gdn/gates.h"
#include "gdn/norm.h"
#include "gdn/state_store.h"

namespace gdn {

// The value heads that a block works on at a time: shared memory bounds them (any group is allowed), and only groups
// beyond 8 heads of 256 channels, 6 of them with decays by channel, need more than one turn.
constexpr int kTurnNumbers = 6144;  // the generator's choices.cpp has the same
template <class F>
GDN_HD constexpr int heads_at_once() {
  const int numbers = 3 * F::kValueDim + (decays_by_channel<F>() ? F::kKeyDim : 0);  // of a head: v, o, gates, decays
  return smaller(heads_of_part<F>(), larger(1, kTurnNumbers / numbers));
}

// What the delta rule reads and leaves in shared memory, for heads_at_once<F>() value heads.
template <class F>
struct DeltaShared {
  static constexpr int kHeads = heads_at_once<F>();
  alignas(16) float q[F::kKeyDim];  // convolved, not yet normalised
  alignas(16) float k[F::kKeyDim];
  alignas(16) float v[kHeads * F::kValueDim];
  alignas(16) float o[kHeads * F::kValueDim];                           // rounded to rounding.o
  alignas(16) float gates[has_gates<F>() ? kHeads * F::kValueDim : 4];  // act(z), where the operation has a gated norm
  alignas(16) float decay[kHeads * decays_of_head<F>()];                // exp(g)
  float beta[kHeads];
  Mailbox gathered;  // where value channels are split over a cluster: o of all its blocks

  // The decay of a whole head; 1 where its key channels decay.
  GDN_DEVICE float head_decay(int head) const { return decays_by_channel<F>() ? 1.0f : decay[head]; }

  // The decay of one key channel; 1 where the head as a whole decays.
  GDN_DEVICE float channel_decay(int head, int channel) const {
    return decays_by_channel<F>() ? decay[head * decays_of_head<F>() + channel] : 1.0f;
  }
};

// What a block's share of a turn is: value channels first_value to first_value + values_of_part<F>() - 1 of its heads.
struct DeltaTurn {
  int key_head;
  int first_head;  // number in the group of the first head of this turn
  int heads;       // of this turn
  int first_value = 0;
  // Where value channels are split, o goes to a block of the cluster, or to memory (arrivals.h).
  int gatherer = 0;
  Elements<float> gathered = nullptr;
};

// Whether a block has one pass over a state of fp32 with the key channel innermost: of launches of few rows, where what
// counts is how long one takes. Those of 16 bits were slower in the same way (tests/bench/NOTES.md).
template <class F>
GDN_HD constexpr bool one_pass();

// Whether a block collects o of whole heads: only a norm asks for it.
template <class F>
GDN_HD constexpr bool gathers_o() {
  return F::kRowParts > 1 && normalises<F>();
}

// o of one value channel, to where the operation collects it.
template <class F>
GDN_DEVICE void put_o(DeltaShared<F>& shared, const DeltaTurn& turn, int head, int value_channel, float o) {
  float* const to = shared.o + head * F::kValueDim + value_channel;
  if constexpr (!gathers_o<F>()) {
    *to = rounded<typename F::RoundO>(o);
  } else if constexpr (meets_in_memory<F>()) {
    store_one<float>(turn.gathered + head * F::kValueDim + value_channel, rounded<typename F::RoundO>(o));
  } else {
    cluster_send(*to, shared.gathered, turn.gatherer, rounded<typename F::RoundO>(o));
  }
}

// A state with the key channel innermost: asks the L2 for what F::kAhead passes of `rows` rows behind the first pass
// will read of a block's share, while the block is still busy with what comes before the delta rule. A pass of rows
// that follow each other is one request where the target has such.
template <class F>
GDN_DEVICE void bring_passes_near(MapElements<typename F::State> state, const DeltaTurn& turn, int rows) {
  using State = typename F::State;
  constexpr int kInLine = 128 / static_cast<int>(sizeof(typename State::Element));
  constexpr int kLines = ceil_div(F::kKeyDim, kInLine), kValues = values_of_part<F>();
  if constexpr (F::kAhead > 0 && State::kInnerStride == 1 && State::kOuterStride == F::kKeyDim && kBringsRuns) {
    if (kValues % rows == 0) {
      if (thread_id() >= F::kAhead) return;
      const int row = rows * (1 + thread_id()), head = row / kValues;
      if (head >= turn.heads) return;
      bring_run_near(state + (State::base(value_head<F>(turn.key_head, turn.first_head + head)) +
                              (turn.first_value + row % kValues) * State::kOuterStride),
                     rows * F::kKeyDim * static_cast<int>(sizeof(typename State::Element)));
    }
  } else if constexpr (F::kAhead > 0 && State::kInnerStride == 1) {
    for (int i = thread_id(); i < F::kAhead * rows * kLines; i += F::kThreads) {
      const int row = rows + i / kLines, head = row / kValues;
      if (head >= turn.heads) return;
      bring_near(state + State::base(value_head<F>(turn.key_head, turn.first_head + head)) +
                 ((turn.first_value + row % kValues) * State::kOuterStride + i % kLines * kInLine));
    }
  }
}

template <class F>
class TokenRows;
template <class F>
class TokenColumns;

template <class F>
class DeltaRows {
  friend class TokenRows<F>;  // deals a state out in the same way, so that its sums have the same bits

  using State = typename F::State;
  using Scale = typename F::StateScale;
  using Element = typename State::Element;
  static constexpr int kKeyDim = F::kKeyDim, kValueDim = F::kValueDim, kValues = values_of_part<F>();

  // One access: 16 bytes where the layout allows.
  static constexpr int kWidth =
      State::kInnerStride == 1
          ? access_width<Element>(smaller(State::kAlign, power_of_two_in(State::kOuterStride)), kKeyDim)
          : 1;
  static constexpr int kAccesses = kKeyDim / kWidth;

  // Lanes that share a row. A power of two that divides its accesses leaves no lane idle; where that power is so small
  // that a lane would hold more than 24 numbers of a row, more lanes share it and some idle at its end.
  static constexpr int kEvenLanes = smaller(32, power_of_two_in(kAccesses));
  static constexpr bool kEven = kAccesses / kEvenLanes * kWidth <= 24;
  static constexpr int kLanes = kEven ? kEvenLanes : smaller(32, power_of_two_above(kAccesses));
  static constexpr int kPieces = ceil_div(kAccesses, kLanes);  // accesses of a lane in a row
  static constexpr bool kWholeRow = kLanes * kPieces == kAccesses;

  // Rows that a lane has in flight, and as many again being read ahead: the plan's wish, but within the registers that
  // a thread of so large a block has, and no more than there are.
  static_assert(F::kThreads <= 512, "larger blocks leave a thread too few registers: lower `threads` in the plan");
  static constexpr int kBudget = F::kThreads <= 256 ? 32 : 16;
  static constexpr int kTeams = F::kThreads / kLanes;
  using Piece = Pack<Element, kWidth>;
  static constexpr int kRegisters = kPieces * larger(Raw<Piece::kBytes>::kWords, kWidth / 2);  // of a row
  static constexpr int kRows =
      larger(1, smaller(smaller(F::kRowsPerPass, kBudget / kRegisters), ceil_div(kValues, kTeams)));
  static constexpr int kRowsOfPass = kTeams * kRows;
  static constexpr bool kWholePass = kValues % kRowsOfPass == 0;

  static constexpr bool kScaled = scaled_state<F>();
  struct Pass {
    Piece piece[kRows][kPieces];
    float scale[kScaled ? kRows : 1];
  };

 public:
  static constexpr bool kOnePass = heads_of_part<F>() == 1 && kValues <= kRowsOfPass;

  // Issues the loads of the first rows; call it early, they need nothing but the slot.
  GDN_DEVICE DeltaRows(const Args& args, long long slot, const DeltaTurn& turn)
      : state_(part<State>(args, slot)),
        scales_(part<Scale>(args, slot)),
        chance_(args, slot),
        turn_(turn),
        lane_(thread_id() % kLanes),
        team_(thread_id() / kLanes) {
    read(0, 0, ahead_);
    bring_passes_near<F>(state_, turn_, kRowsOfPass);
  }

  // All waves, after a barrier behind the last write to q, k, v, decay and beta. o is complete after another barrier.
  GDN_DEVICE void run(DeltaShared<F>& shared) {
    const QkFactors factors = qk_factors<F>(shared.q, shared.k);
    float q[kPieces][kWidth];
    float k[kPieces][kWidth];
    GDN_UNROLL
    for (int p = 0; p < kPieces; ++p) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const int channel = (lane_ + p * kLanes) * kWidth + i;
        const bool inside = kWholeRow || channel < kKeyDim;
        q[p][i] = inside ? normalised<F>(shared.q[channel], factors.q) : 0.0f;
        k[p][i] = inside ? normalised<F>(shared.k[channel], factors.k) : 0.0f;
      }
    }

    if constexpr (one_pass<F>()) return update_once(shared, q, k, factors.product);
    int head = 0;
    int first = 0;
    while (true) {
      Pass pass = ahead_;
      int next_head = head;
      int next_first = first + kRowsOfPass;
      if (next_first >= kValues) next_first = 0, ++next_head;
      const bool more = next_head < turn_.heads;
      if (more) read(next_head, next_first, ahead_);
      update(shared, head, first, q, k, factors.product, pass);
      if (!more) break;
      head = next_head, first = next_first;
    }
  }

 private:
  // The r-th row of this lane's team in a pass, among the block's value channels: a team's rows lie together, 2 KB of
  // fp32 at K = 128, which the memory serves better than rows that are spread over the pass.
  GDN_DEVICE int row(int first, int r) const { return first + team_ * kRows + r; }

  // Elements behind the slot's start.
  GDN_DEVICE int place(int head, int value_channel, int p) const {
    return State::base(value_head<F>(turn_.key_head, turn_.first_head + head)) +
           (turn_.first_value + value_channel) * State::kOuterStride +
           (lane_ + p * kLanes) * kWidth * State::kInnerStride;
  }
  GDN_DEVICE Elements<Element> piece_at(int head, int value_channel, int p) const {
    return state_ + place(head, value_channel, p);
  }
  GDN_DEVICE MapElements<Scale> scale_at(int head, int value_channel) const {
    return scales_ + Scale::base(value_head<F>(turn_.key_head, turn_.first_head + head)) +
           (turn_.first_value + value_channel) * Scale::kInnerStride;
  }

  GDN_DEVICE bool inside(int value_channel, int p) const {
    return (kWholePass || value_channel < kValues) && (kWholeRow || lane_ + p * kLanes < kAccesses);
  }

  GDN_DEVICE void read(int head, int first, Pass& pass) const {
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if constexpr (kScaled) {
        const bool row_inside = kWholePass || row(first, r) < kValues;
        pass.scale[r] = row_inside ? load_one<typename Scale::Element>(scale_at(head, row(first, r))) : 0.0f;
      }
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        pass.piece[r][p].clear();
        if (inside(row(first, r), p)) {
          pass.piece[r][p].raw = load_stream<Piece::kBytes>(piece_at(head, row(first, r), p));
        }
      }
    }
  }

  GDN_DEVICE void update(DeltaShared<F>& shared, int head, int first, const float (&q)[kPieces][kWidth],
                         const float (&k)[kPieces][kWidth], float product, Pass& pass) const {
    const float decay = shared.head_decay(head);
    const float beta = shared.beta[head];
    float channel_decay[kPieces][kWidth];
    GDN_UNROLL
    for (int p = 0; p < kPieces; ++p) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const int channel = (lane_ + p * kLanes) * kWidth + i;
        channel_decay[p][i] = kWholeRow || channel < kKeyDim ? shared.channel_decay(head, channel) : 0.0f;
      }
    }
    float sums[2 * kRows];  // S^T k and S^T q, before the head's decay
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      sums[2 * r] = sums[2 * r + 1] = 0.0f;
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          const float s = channel_decay[p][i] * pass.piece[r][p].get(i);
          sums[2 * r] += s * k[p][i];
          sums[2 * r + 1] += s * q[p][i];
        }
      }
      sums[2 * r] *= scale_of_row(pass, r);
      sums[2 * r + 1] *= scale_of_row(pass, r);
    }
    sum_over_lanes<kLanes>(sums);

    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int value_channel = row(first, r);
      const bool row_inside = kWholePass || value_channel < kValues;
      const float v = row_inside ? shared.v[head * kValueDim + turn_.first_value + value_channel] : 0.0f;
      const float u = beta * (v - decay * sums[2 * r]);
      if (row_inside && lane_ == r % kLanes) {
        put_o<F>(shared, turn_, head, turn_.first_value + value_channel,
                 plus_product(decay * sums[2 * r + 1], u, product));
      }
      const float row_decay = decay * scale_of_row(pass, r);
      const auto updated_piece = [&](int p, float(&updated)[kWidth]) {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          updated[i] = plus_product(row_decay * (channel_decay[p][i] * pass.piece[r][p].get(i)), u, k[p][i]);
        }
      };
      float inverse = 1.0f;
      if constexpr (kScaled) {
        float amax[1] = {0.0f};
        GDN_UNROLL
        for (int p = 0; p < kPieces; ++p) {
          float updated[kWidth];
          updated_piece(p, updated);
          GDN_UNROLL
          for (int i = 0; i < kWidth; ++i) {
            amax[0] = magnitude(updated[i]) > amax[0] ? magnitude(updated[i]) : amax[0];
          }
        }
        largest_over_lanes<kLanes>(amax);
        const RowScale next = row_scale<Element>(amax[0]);
        inverse = next.inverse;
        if (row_inside && lane_ == r % kLanes) {
          store_one<typename Scale::Element>(scale_at(head, value_channel), next.scale);
        }
      }
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        float updated[kWidth];
        updated_piece(p, updated);
        if constexpr (kScaled) {
          GDN_UNROLL
          for (int i = 0; i < kWidth; ++i) updated[i] *= inverse;
        }
        chance_.round(place(head, value_channel, p), updated);
        pass.piece[r][p].set(updated);
        if (inside(value_channel, p)) {
          store_stream<Piece::kBytes>(piece_at(head, value_channel, p), pass.piece[r][p].raw);
        }
      }
    }
  }

  // The only pass of a block over a state of fp32. The sums of all rows at once, of which a few of the team's lanes are
  // left with those of a row and make u and o of them for all: more registers, and fewer steps one after the other.
  GDN_DEVICE void update_once(DeltaShared<F>& shared, const float (&q)[kPieces][kWidth],
                              const float (&k)[kPieces][kWidth], float product) {
    constexpr int kMine = dealt_count<kLanes, kRows>();
    const float decay = shared.head_decay(0);
    float of_k[kRows], of_q[kRows];  // S^T k and S^T q, before the head's decay
    float channel_decay[kPieces][kWidth];
    GDN_UNROLL
    for (int p = 0; p < kPieces; ++p) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const int channel = (lane_ + p * kLanes) * kWidth + i;
        channel_decay[p][i] = kWholeRow || channel < kKeyDim ? shared.channel_decay(0, channel) : 0.0f;
      }
    }
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      of_k[r] = of_q[r] = 0.0f;
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          const float s = channel_decay[p][i] * ahead_.piece[r][p].get(i);
          of_k[r] += s * k[p][i];
          of_q[r] += s * q[p][i];
        }
      }
    }
    float my_k[kMine], my_q[kMine], u[kRows];
    deal_sums<kLanes, 1>(lane_, of_k, my_k);
    deal_sums<kLanes, 1>(lane_, of_q, my_q);
    GDN_UNROLL
    for (int i = 0; i < kMine; ++i) {
      const int value_channel = row(0, first_dealt<kLanes, kRows>(lane_) + i);
      const bool row_inside = kWholePass || value_channel < kValues;
      const float v = row_inside ? shared.v[turn_.first_value + value_channel] : 0.0f;
      my_k[i] = shared.beta[0] * (v - decay * my_k[i]);
      if (row_inside && first_with_dealt<kLanes, kRows>(lane_)) {
        put_o<F>(shared, turn_, 0, turn_.first_value + value_channel, plus_product(decay * my_q[i], my_k[i], product));
      }
    }
    gather_dealt<kLanes, kRows>(my_k, u);
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        float updated[kWidth];
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          updated[i] = plus_product(decay * (channel_decay[p][i] * ahead_.piece[r][p].get(i)), u[r], k[p][i]);
        }
        ahead_.piece[r][p].set(updated);
        if (inside(row(0, r), p)) {
          store_stream<Piece::kBytes>(piece_at(0, row(0, r), p), ahead_.piece[r][p].raw);
        }
      }
    }
  }

  // 1 where the state has no scales.
  GDN_DEVICE static float scale_of_row(const Pass& pass, int r) {
    if constexpr (kScaled) {
      return pass.scale[r];
    } else {
      return 1.0f;
    }
  }

  Elements<Element> state_;
  MapElements<Scale> scales_;
  StateChance<F> chance_;
  DeltaTurn turn_;
  int lane_;  // among the lanes that share a row
  int team_;  // which lanes share a row
  Pass ahead_;
};

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
  static constexpr bool kReadsAhead = 2 * kRows * kWords <= 64 && !F::kStochasticState;

  // Sums over the teams: inside a wave by shuffles, then over the groups of lanes that shuffles don't join.
  static constexpr int kTeamsOfWave = larger(1, kWaveSize / kSlabLanes);
  static constexpr int kGroups = kTeams / kTeamsOfWave;
  static constexpr bool kScaled = scaled_state<F>();
  struct Partial {
    alignas(16) float sum[2][kStreams][kGroups][2][kSlabLanes * kWidth];  // in turns; S^T k, then S^T q
    float amax[2][kStreams][kGroups][kScaled ? kSlabLanes * kWidth : 1];  // in turns; of the updated columns
  };
  struct Slab {
    Piece piece[kRows];
    float scale[kScaled ? kWidth : 1];
  };

 public:
  // Issues the loads of the first slab; call it early, they need nothing but the slot.
  GDN_DEVICE DeltaColumns(const Args& args, long long slot, const DeltaTurn& turn)
      : state_(part<State>(args, slot)), scales_(part<Scale>(args, slot)), chance_(args, slot), turn_(turn) {
    const int thread = thread_id() % kThreadsOfSlab;
    stream_ = thread_id() / kThreadsOfSlab;
    lane_ = thread % kSlabLanes;
    group_ = kTeamsOfWave > 1 ? thread / kWaveSize : thread / kSlabLanes;
    first_of_group_ = thread % kWaveSize < kSlabLanes;
    team_ = (kTeamsOfWave > 1 ? thread % kWaveSize / kSlabLanes : 0) * kGroups + group_;
    read(stream_, ahead_);
  }

  // All threads, after a barrier behind the last write to q, k, v, decay and beta. o is complete after another barrier.
  GDN_DEVICE void run(DeltaShared<F>& shared) {
    const QkFactors factors = qk_factors<F>(shared.q, shared.k);
    float k[kRows];  // q is used once a slab: no registers for it
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      k[r] = key_inside(r) ? normalised<F>(shared.k[key_channel(r)], factors.k) : 0.0f;
    }
    GDN_SHARED(Partial, partial);
    const int slabs = turn_.heads * kSlabs;
    int turn = 0;
    for (int first = 0; first < slabs; first += kStreams) {
      const int slab = first + stream_;
      const int next = slab + kStreams;
      if constexpr (kOneSlab) {
        update(shared, partial, turn, slab, factors, k, ahead_);
      } else if constexpr (kReadsAhead) {
        Slab now = ahead_;
        read(next, ahead_);
        update(shared, partial, turn, slab, factors, k, now);
      } else {
        update(shared, partial, turn, slab, factors, k, ahead_);
        read(next, ahead_);
      }
      turn = 1 - turn;
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
                         const float (&k)[kRows], Slab& now) const {
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
        const float q = key_inside(r) ? normalised<F>(shared.q[key_channel(r)], factors.q) : 0.0f;
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          const float s = channel_decay[r] * now.piece[r].get(i);
          sums[i] += s * k[r];
          sums[kWidth + i] += s * q;
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
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        updated[i] = plus_product(column_decay[i] * (channel_decay[r] * now.piece[r].get(i)), u[i], k[r]);
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

template <class F>
GDN_HD constexpr bool one_pass() {
  using State = typename F::State;
  return State::kInnerStride == 1 && same_type<typename State::Element, float>() && DeltaRows<F>::kOnePass;
}

template <bool kColumns, class F>
struct DeltaChoice {
  using Type = DeltaRows<F>;
};
template <class F>
struct DeltaChoice<true, F> {
  using Type = DeltaColumns<F>;
};

// Columns where the value channels are adjacent in memory; rows serve every other layout, element by element where
// neither channel is.
template <class F>
using Delta = typename DeltaChoice<(F::State::kOuterStride == 1 && F::State::kInnerStride != 1), F>::Type;

}  // namespace gdn
