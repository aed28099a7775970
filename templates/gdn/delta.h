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
// costs nothing.
//
// Two ways to deal out the state, by which channel its memory has innermost:
//   DeltaRows     a row of memory is one value channel: a few lanes share it and sum over its key channels.
//   DeltaColumns  a row of memory is one key channel: a wave takes a narrow slab of value channels, for all key
//                 channels, so that its sums too stay inside the wave.
// Neither needs a barrier: once v, q, k and the gates are in shared memory, each wave runs on its own.
#pragma once

#include "gdn/gates.h"
#include "gdn/norm.h"

namespace gdn {

// The value heads that a block works on at a time: shared memory bounds them (any group is allowed), and only groups
// beyond 12 heads of 256 channels, 9 of them with decays by channel, need more than one turn.
template <class F>
GDN_HD constexpr int heads_at_once() {
  const int numbers = 3 * F::kValueDim + (decays_by_channel<F>() ? F::kKeyDim : 0);  // of a head: v, o, gates, decays
  return smaller(F::kGroup, larger(1, 9216 / numbers));
}

// What the delta rule reads and leaves in shared memory, for heads_at_once<F>() value heads.
template <class F>
struct DeltaShared {
  static constexpr int kHeads = heads_at_once<F>();
  alignas(16) float q[F::kKeyDim];  // convolved, not yet normalised
  alignas(16) float k[F::kKeyDim];
  alignas(16) float v[kHeads * F::kValueDim];
  alignas(16) float o[kHeads * F::kValueDim];             // rounded to rounding.o
  alignas(16) float gates[kHeads * F::kValueDim];         // act(z), where the operation has a gated norm
  alignas(16) float decay[kHeads * decays_of_head<F>()];  // exp(g)
  float beta[kHeads];

  // The decay of a whole head; 1 where its key channels decay.
  GDN_DEVICE float head_decay(int head) const { return decays_by_channel<F>() ? 1.0f : decay[head]; }

  // The decay of one key channel; 1 where the head as a whole decays.
  GDN_DEVICE float channel_decay(int head, int channel) const {
    return decays_by_channel<F>() ? decay[head * decays_of_head<F>() + channel] : 1.0f;
  }
};

// What a block's share of a turn is.
struct DeltaTurn {
  int key_head;
  int first_head;  // number in the group of the first head of this turn
  int heads;       // of this turn
};

template <class F>
class TokenRows;
template <class F>
class TokenColumns;

template <class F>
class DeltaRows {
  friend class TokenRows<F>;  // deals a state out in the same way, so that its sums have the same bits

  using State = typename F::State;
  using Element = typename State::Element;
  static constexpr int kKeyDim = F::kKeyDim, kValueDim = F::kValueDim;

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
      larger(1, smaller(smaller(F::kRowsPerPass, kBudget / kRegisters), ceil_div(kValueDim, kTeams)));
  static constexpr int kRowsOfPass = kTeams * kRows;
  static constexpr bool kWholePass = kValueDim % kRowsOfPass == 0;

  struct Pass {
    Piece piece[kRows][kPieces];
  };

 public:
  // Issues the loads of the first rows; call it early, they need nothing but the slot.
  GDN_DEVICE DeltaRows(const Args& args, long long slot, const DeltaTurn& turn)
      : state_(part<State>(args, slot)), turn_(turn), lane_(thread_id() % kLanes), team_(thread_id() / kLanes) {
    read(0, 0, ahead_);
  }

  // All waves, after a barrier behind the last write to q, k, v, decay and beta. o is complete after another barrier.
  GDN_DEVICE void run(DeltaShared<F>& shared) {
    const QkFactors factors = qk_factors<F>(shared.q, shared.k);
    const float product = qk_product<F>(shared.q, shared.k, factors);
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

    int head = 0;
    int first = 0;
    while (true) {
      Pass pass = ahead_;
      int next_head = head;
      int next_first = first + kRowsOfPass;
      if (next_first >= kValueDim) next_first = 0, ++next_head;
      const bool more = next_head < turn_.heads;
      if (more) read(next_head, next_first, ahead_);
      update(shared, head, first, q, k, product, pass);
      if (!more) break;
      head = next_head, first = next_first;
    }
  }

 private:
  // The r-th row of this lane's team in a pass: a team's rows lie together, 2 KB of fp32 at K = 128, which the memory
  // serves better than rows that are spread over the pass.
  GDN_DEVICE int row(int first, int r) const { return first + team_ * kRows + r; }

  GDN_DEVICE Elements<Element> piece_at(int head, int value_channel, int p) const {
    return state_ + State::base(value_head<F>(turn_.key_head, turn_.first_head + head)) +
           value_channel * State::kOuterStride + (lane_ + p * kLanes) * kWidth * State::kInnerStride;
  }

  GDN_DEVICE bool inside(int value_channel, int p) const {
    return (kWholePass || value_channel < kValueDim) && (kWholeRow || lane_ + p * kLanes < kAccesses);
  }

  GDN_DEVICE void read(int head, int first, Pass& pass) const {
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
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
    }
    sum_over_lanes<kLanes>(sums);

    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int value_channel = row(first, r);
      const bool row_inside = kWholePass || value_channel < kValueDim;
      const float v = row_inside ? shared.v[head * kValueDim + value_channel] : 0.0f;
      const float u = beta * (v - decay * sums[2 * r]);
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        float updated[kWidth];
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          updated[i] = decay * (channel_decay[p][i] * pass.piece[r][p].get(i)) + u * k[p][i];
        }
        pass.piece[r][p].set(updated);
        if (inside(value_channel, p)) {
          store_stream<Piece::kBytes>(piece_at(head, value_channel, p), pass.piece[r][p].raw);
        }
      }
      if (row_inside && lane_ == r % kLanes) {
        shared.o[head * kValueDim + value_channel] = rounded<typename F::RoundO>(decay * sums[2 * r + 1] + u * product);
      }
    }
  }

  Elements<Element> state_;
  DeltaTurn turn_;
  int lane_;  // among the lanes that share a row
  int team_;  // which lanes share a row
  Pass ahead_;
};

template <class F>
class DeltaColumns {
  friend class TokenColumns<F>;

  using State = typename F::State;
  using Element = typename State::Element;
  static constexpr int kKeyDim = F::kKeyDim, kValueDim = F::kValueDim;
  static constexpr int kWidth =
      access_width<Element>(smaller(State::kAlign, power_of_two_in(State::kInnerStride)), kValueDim);
  static constexpr int kAccesses = kValueDim / kWidth;
  static_assert(F::kThreads <= 256, "larger blocks leave a thread too few registers: lower `threads` in the plan");

  // Lanes side by side along the value channels: 128 bytes if the rest of the wave then covers the key channels in 16
  // rows a lane, else half of that; a whole 32-byte sector is the least.
  GDN_HD static constexpr int lanes() {
    for (int lanes = 8; lanes > 2; lanes /= 2) {
      if (lanes <= power_of_two_above(kAccesses) && ceil_div(kKeyDim, kWaveSize / lanes) <= 16) return lanes;
    }
    return 2;
  }
  static constexpr int kLanes = lanes();
  static constexpr int kTeams = kWaveSize / kLanes;
  static constexpr int kRows = ceil_div(kKeyDim, kTeams);  // key channels of a lane
  static constexpr bool kWholeKeys = kKeyDim % kTeams == 0;
  static constexpr int kSlabs = ceil_div(kAccesses, kLanes);  // of a head
  static constexpr bool kWholeSlabs = kAccesses % kLanes == 0;
  static constexpr int kWaves = F::kThreads / kWaveSize;
  using Piece = Pack<Element, kWidth>;

 public:
  // Issues the loads of the wave's first slab; call it early, they need nothing but the slot.
  GDN_DEVICE DeltaColumns(const Args& args, long long slot, const DeltaTurn& turn)
      : state_(part<State>(args, slot)), turn_(turn), lane_(lane_id() % kLanes), team_(lane_id() / kLanes) {
    slab_ = wave_id();
    settle();
    read();
  }

  // All waves, after a barrier behind the last write to q, k, v, decay and beta. o is complete after another barrier.
  GDN_DEVICE void run(DeltaShared<F>& shared) {
    const QkFactors factors = qk_factors<F>(shared.q, shared.k);
    const float product = qk_product<F>(shared.q, shared.k, factors);
    float q[kRows];
    float k[kRows];
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int channel = team_ + r * kTeams;
      const bool inside = kWholeKeys || channel < kKeyDim;
      q[r] = inside ? normalised<F>(shared.q[channel], factors.q) : 0.0f;
      k[r] = inside ? normalised<F>(shared.k[channel], factors.k) : 0.0f;
    }
    while (head_ < turn_.heads) {
      update(shared, q, k, product);
      slab_ += kWaves;
      settle();
      read();
    }
  }

 private:
  // Slabs are numbered through the heads; carries an overflow of slab_ into head_.
  GDN_DEVICE void settle() {
    while (slab_ >= kSlabs) slab_ -= kSlabs, ++head_;
  }

  GDN_DEVICE int value_channel() const { return (slab_ * kLanes + lane_) * kWidth; }
  GDN_DEVICE bool column_inside() const { return kWholeSlabs || value_channel() < kValueDim; }

  GDN_DEVICE Elements<Element> column() const {
    return state_ + State::base(value_head<F>(turn_.key_head, turn_.first_head + head_)) + value_channel();
  }

  GDN_DEVICE bool inside(int r) const { return column_inside() && (kWholeKeys || team_ + r * kTeams < kKeyDim); }

  GDN_DEVICE void read() {
    if (head_ >= turn_.heads) return;
    const Elements<Element> from = column();
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      piece_[r].clear();
      if (inside(r)) piece_[r].raw = load_stream<Piece::kBytes>(from + (team_ + r * kTeams) * State::kInnerStride);
    }
  }

  GDN_DEVICE void update(DeltaShared<F>& shared, const float (&q)[kRows], const float (&k)[kRows], float product) {
    const float decay = shared.head_decay(head_);
    const float beta = shared.beta[head_];
    float channel_decay[kRows];
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int channel = team_ + r * kTeams;
      channel_decay[r] = kWholeKeys || channel < kKeyDim ? shared.channel_decay(head_, channel) : 0.0f;
    }
    float sums[2 * kWidth];  // S^T k, then S^T q, before the head's decay
    GDN_UNROLL
    for (int i = 0; i < 2 * kWidth; ++i) sums[i] = 0.0f;
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const float s = channel_decay[r] * piece_[r].get(i);
        sums[i] += s * k[r];
        sums[kWidth + i] += s * q[r];
      }
    }
    sum_over_lanes<kTeams, kLanes>(sums);

    float u[kWidth];
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      const float v = column_inside() ? shared.v[head_ * kValueDim + value_channel() + i] : 0.0f;
      u[i] = beta * (v - decay * sums[i]);
    }
    const Elements<Element> to = column();
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float updated[kWidth];
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) updated[i] = decay * (channel_decay[r] * piece_[r].get(i)) + u[i] * k[r];
      piece_[r].set(updated);
      if (inside(r)) store_stream<Piece::kBytes>(to + (team_ + r * kTeams) * State::kInnerStride, piece_[r].raw);
    }
    if (team_ == 0 && column_inside()) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        shared.o[head_ * kValueDim + value_channel() + i] =
            rounded<typename F::RoundO>(decay * sums[kWidth + i] + u[i] * product);
      }
    }
  }

  Elements<Element> state_;
  DeltaTurn turn_;
  int lane_;      // along the value channels of a slab
  int team_;      // which key channels
  int head_ = 0;  // of this turn
  int slab_;      // of that head
  Piece piece_[kRows];
};

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
