// The gated delta rule of one token over a state whose memory has the key channel innermost (see delta.h).
#pragma once

#include "gdn/state_inbox.h"

namespace gdn {

// Whether a block has one pass over a state with the key channel innermost, and its sums are made at once: of launches
// of few rows, where what counts is how long one takes. States of fp32 always have them so, those of 16 bits where the
// plan wants it (at_once): of some rows they are the slower ones on plain edges (tests/bench/NOTES.md).
template <class F>
GDN_HD constexpr bool one_pass();

// Which rows of a head a pass has, where all of its passes have as many (the plan's choice row_order). What memory is
// asked for at a time is spread over the head in another way (tests/bench/NOTES.md).
struct RowOrder {
  static constexpr int kRuns = 0;       // a run, of which each team has a run
  static constexpr int kApart = 1;      // as many runs as a team has rows, of which each team has one
  static constexpr int kOfTeams = 2;    // of each team's run of the head the next rows
  static constexpr int kAlternate = 3;  // every n-th, with n passes
};

template <class F>
class TokenRows;

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

  // Where the plan wants it a block's states come to shared memory, all of them at once.
  static constexpr bool kInbox = F::kInbox != 0;
  static constexpr bool kScaled = scaled_state<F>();
  struct Pass {
    Piece piece[kRows][kPieces];
    float scale[kScaled ? kRows : 1];
  };

 public:
  static constexpr bool kOnePass = heads_of_part<F>() == 1 && kValues <= kRowsOfPass;

  // Issues the loads of the first rows, if they come to registers; call it early, they need nothing but the slot.
  GDN_DEVICE DeltaRows(const Args& args, long long slot, const DeltaTurn& turn)
      : state_(part<State>(args, slot)),
        scales_(part<Scale>(args, slot)),
        chance_(args, slot),
        turn_(turn),
        lane_(thread_id() % kLanes),
        team_(thread_id() / kLanes) {
    if constexpr (!kInbox) read(0, 0, ahead_);
    bring_passes_near<F>(state_, turn_, kRowsOfPass);
  }

  // Asks for what the inbox holds; all threads, before the barrier ahead of run().
  GDN_DEVICE void ask_inbox(DeltaShared<F>& shared) const { StateInbox<F>::ask(state_, turn_, shared); }

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

    if constexpr (kInbox) return update_from_inbox(shared, q, k, factors.product);
    if constexpr (one_pass<F>()) return update_once(shared, q, k, factors.product);
    if constexpr (F::kInTurns != 0) return update_in_turns(shared, q, k, factors.product);
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
  // The r-th row of this lane's team in the pass that begins at `first`, among the block's value channels. Which rows a
  // pass has does not matter to the results; to the memory it does (RowOrder; tests/bench/NOTES.md).
  GDN_DEVICE int row(int first, int r) const {
    constexpr int kPasses = kValues / kRowsOfPass;
    constexpr int kOrder = kWholePass && kPasses > 1 ? F::kRowOrder : RowOrder::kRuns;
    [[maybe_unused]] const int pass = first / kRowsOfPass;
    if constexpr (kOrder == RowOrder::kApart) return (r * kPasses + pass) * kTeams + team_;
    if constexpr (kOrder == RowOrder::kOfTeams) return (team_ * kPasses + pass) * kRows + r;
    if constexpr (kOrder == RowOrder::kAlternate) return (team_ * kRows + r) * kPasses + pass;
    return first + team_ * kRows + r;
  }

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
        if (!inside(row(first, r), p)) continue;
        if constexpr (kInbox) {
          const int number = row(first, r) * kKeyDim + (lane_ + p * kLanes) * kWidth;
          pass.piece[r][p].raw = StateInbox<F>::template take<Piece::kBytes>(head, number);
        } else {
          pass.piece[r][p].raw = load_stream<Piece::kBytes>(piece_at(head, row(first, r), p));
        }
      }
    }
  }

  // The decays of the lane's key channels of a head.
  GDN_DEVICE void fetch_decays(const DeltaShared<F>& shared, int head, float (&x)[kPieces][kWidth]) const {
    GDN_UNROLL
    for (int p = 0; p < kPieces; ++p) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const int channel = (lane_ + p * kLanes) * kWidth + i;
        x[p][i] = kWholeRow || channel < kKeyDim ? shared.channel_decay(head, channel) : 0.0f;
      }
    }
  }

  GDN_DEVICE void update(DeltaShared<F>& shared, int head, int first, const float (&q)[kPieces][kWidth],
                         const float (&k)[kPieces][kWidth], float product, Pass& pass) const {
    const float decay = shared.head_decay(head);
    const float beta = shared.beta[head];
    float channel_decay[kPieces][kWidth];
    fetch_decays(shared, head, channel_decay);
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

  // All passes, out of shared memory: nothing is gained by asking for the next one early.
  GDN_DEVICE void update_from_inbox(DeltaShared<F>& shared, const float (&q)[kPieces][kWidth],
                                    const float (&k)[kPieces][kWidth], float product) {
    for (int head = 0; head < turn_.heads; ++head) {
      StateInbox<F>::wait(shared, head);
      for (int first = 0; first < kValues; first += kRowsOfPass) {
        read(head, first, ahead_);
        update(shared, head, first, q, k, product, ahead_);
      }
    }
  }

  // Passes in turns, each in registers of its own: one is read while the other is worked on. The loop above copies a
  // pass before it asks for the next one, and so waits for its numbers first.
  GDN_DEVICE void update_in_turns(DeltaShared<F>& shared, const float (&q)[kPieces][kWidth],
                                  const float (&k)[kPieces][kWidth], float product) {
    constexpr int kOfHead = ceil_div(kValues, kRowsOfPass), kPasses = heads_of_part<F>() * kOfHead;
    static_assert(F::kGroup == F::kHeadParts * heads_of_part<F>() && heads_at_once<F>() == heads_of_part<F>(),
                  "as many heads in every block, in one turn");
    Pass other;
    GDN_UNROLL
    for (int n = 0; n < kPasses; n += 2) {
      const bool second = n + 1 < kPasses;
      if (second) ask_for((n + 1) / kOfHead, (n + 1) % kOfHead * kRowsOfPass, other);
      update(shared, n / kOfHead, n % kOfHead * kRowsOfPass, q, k, product, ahead_);
      if (n + 2 < kPasses) ask_for((n + 2) / kOfHead, (n + 2) % kOfHead * kRowsOfPass, ahead_);
      if (second) update(shared, (n + 1) / kOfHead, (n + 1) % kOfHead * kRowsOfPass, q, k, product, other);
    }
  }

  // Reads a pass here: compilers would put off the loads until they have registers to spare, but not past a barrier.
  GDN_DEVICE void ask_for(int head, int first, Pass& pass) const {
    read(head, first, pass);
    wave_barrier();
  }

  // The only pass of a block over a state without scales and rounding by chance. The sums of all rows at once, of which
  // a few of the team's lanes are left with those of a row and make u and o of them for all: more registers, and fewer
  // steps one after the other.
  GDN_DEVICE void update_once(DeltaShared<F>& shared, const float (&q)[kPieces][kWidth],
                              const float (&k)[kPieces][kWidth], float product) {
    constexpr int kMine = dealt_count<kLanes, kRows>();
    const float decay = shared.head_decay(0);
    float of_k[kRows], of_q[kRows];  // S^T k and S^T q, before the head's decay
    float channel_decay[kPieces][kWidth];
    fetch_decays(shared, 0, channel_decay);
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
GDN_HD constexpr bool one_pass() {
  using State = typename F::State;
  return State::kInnerStride == 1 && DeltaRows<F>::kOnePass &&
         (same_type<typename State::Element, float>() || F::kAtOnce != 0);
}

// The heads of a turn, as a constant where the plan wants it and where a block has one pass and so one head: what comes
// before the state is read then has no loops over them.
template <class F>
GDN_DEVICE int heads_of_turn(const DeltaTurn& turn) {
  constexpr bool kFixed = F::kFixedHeads != 0 || one_pass<F>();
  static_assert(
      !kFixed || (F::kGroup == F::kHeadParts * heads_of_part<F>() && heads_of_part<F>() % heads_at_once<F>() == 0),
      "every turn has as many heads");
  return kFixed ? heads_at_once<F>() : turn.heads;
}

}  // namespace gdn
