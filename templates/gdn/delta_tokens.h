// The gated delta rule of a few tokens of one sequence, with the recurrent state read once (see delta.h for the rule).
//
// A piece of the state stays in registers, as fp32, while all tokens go over it; what a token adds is stored where the
// scheme of roll-back wants it. Each token does to the state what a decode step does, in the same order of operations,
// so that an fp32 state has the same bits whichever way its tokens came.
#pragma once

#include "gdn/delta.h"
#include "gdn/draft.h"

namespace gdn {

template <class F>
GDN_HD constexpr bool replays() {
  return F::kRollback == Rollback::kReplay;
}

// The value heads that a block works on at a time: as many as fit in 48 KB with all tokens' numbers.
template <class F>
GDN_HD constexpr int token_heads_at_once() {
  const int shared = F::kTokens * (2 * F::kKeyDim + 1 + (replays<F>() ? F::kKeyDim : 0));
  const int a_head = F::kTokens * (2 * F::kValueDim + decays_of_head<F>() + 1 +
                                   (replays<F>() ? F::kValueDim + decays_of_head<F>() : 0));
  return smaller(heads_of_part<F>(), larger(1, (12 * 1024 - 64 - shared) / a_head));
}

// What the tokens of a turn have in shared memory.
template <class F>
struct TokensShared {
  static constexpr int kHeads = token_heads_at_once<F>();
  static constexpr int kRecords = replays<F>() ? F::kTokens : 1;  // of the launch before
  alignas(16) float q[F::kTokens][F::kKeyDim];                    // convolved, then normalised
  alignas(16) float k[F::kTokens][F::kKeyDim];
  alignas(16) float vo[F::kTokens][kHeads * F::kValueDim];     // v; then o, rounded to rounding.o
  alignas(16) float gates[F::kTokens][kHeads * F::kValueDim];  // act(z)
  alignas(16) float old_k[kRecords][replays<F>() ? F::kKeyDim : 1];
  alignas(16) float old_u[kRecords][replays<F>() ? kHeads * F::kValueDim : 1];
  alignas(16) float old_decay[kRecords][replays<F>() ? kHeads * decays_of_head<F>() : 1];
  alignas(16) float decay[F::kTokens][kHeads * decays_of_head<F>()];  // exp(g)
  float beta[F::kTokens][kHeads];
  float product[F::kTokens];  // q . k

  // As of DeltaShared: the decay of a whole head, and that of a key channel; one of the two is 1.
  GDN_DEVICE static float head_decay(const float* decay, int head) {
    return decays_by_channel<F>() ? 1.0f : decay[head];
  }
  GDN_DEVICE static float channel_decay(const float* decay, int head, int channel) {
    return decays_by_channel<F>() ? decay[head * decays_of_head<F>() + channel] : 1.0f;
  }
};

// Normalises q and k of all tokens where they stand: waves take tokens in turn. Between two barriers.
template <class F>
GDN_DEVICE void normalise_tokens(TokensShared<F>& shared, int tokens) {
  for (int t = wave_id(); t < tokens; t += F::kThreads / kWaveSize) {
    const QkFactors factors = qk_factors<F>(shared.q[t], shared.k[t]);
    const float product = factors.product;
    for (int channel = lane_id(); channel < F::kKeyDim; channel += kWaveSize) {
      shared.q[t][channel] = normalised<F>(shared.q[t][channel], factors.q);
      shared.k[t][channel] = normalised<F>(shared.k[t][channel], factors.k);
    }
    if (lane_id() == 0) shared.product[t] = product;
  }
}

// kCount numbers whose neighbours lie kStride apart in M, at an address that M's alignment allows.
template <class M, int kCount, int kStride>
GDN_DEVICE void store_along(MapElements<M> to, const float (&x)[kCount]) {
  using Element = typename M::Element;
  if constexpr (kStride == 1) {
    constexpr int kWidth =
        access_width<Element>(smaller(M::kAlign, smaller(power_of_two_in(M::kOuterStride == 1 ? 0 : M::kOuterStride),
                                                         power_of_two_in(M::kInnerStride == 1 ? 0 : M::kInnerStride))),
                              kCount);
    GDN_UNROLL
    for (int i = 0; i < kCount; i += kWidth) {
      float piece[kWidth];
      GDN_UNROLL
      for (int j = 0; j < kWidth; ++j) piece[j] = x[i + j];
      Pack<Element, kWidth> pack;
      pack.set(piece);
      store_stream<Pack<Element, kWidth>::kBytes>(to + i, pack.raw);
    }
  } else {
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) store_one<Element>(to + i * kStride, x[i]);
  }
}

// Several tokens take several sums over a row's lanes, one after the other, and a shuffle costs four times what a
// multiplication does: so a thread may stand for several of the lanes that decode deals a row out to (F::kRowLanes says
// how many threads there are instead). It adds up what each of them would on its own, and then the sums in the order in
// which they would meet, so that they have the same bits.
template <class F>
class TokenRows {
  using State = typename F::State;
  using Element = typename State::Element;
  using Deal = DeltaRows<F>;
  static constexpr int kKeyDim = F::kKeyDim, kValueDim = F::kValueDim;
  static constexpr int kWidth = Deal::kWidth;
  static constexpr int kLanes = F::kRowLanes > 0 ? smaller(power_of_two_above(F::kRowLanes), Deal::kLanes)
                                                 : Deal::kLanes;
  static constexpr int kStrands = Deal::kLanes / kLanes;  // lanes of decode that a thread stands for
  static constexpr int kPieces = Deal::kPieces * kStrands, kTeams = F::kThreads / kLanes;
  static constexpr int kAccesses = Deal::kAccesses;
  static constexpr bool kWholeRow = Deal::kWholeRow;
  using Piece = Pack<Element, kWidth>;
  static constexpr int kRows =
      larger(1, smaller(smaller(F::kRowsPerPass, 32 / (kPieces * kWidth)), ceil_div(kValueDim, kTeams)));
  static constexpr int kRowsOfPass = kTeams * kRows;
  static constexpr bool kWholePass = kValueDim % kRowsOfPass == 0;

  struct Pass {
    Piece piece[kRows][kPieces];
  };
  using Numbers = float[kRows][kPieces][kWidth];

 public:
  // Issues the loads of the first rows; call it early.
  GDN_DEVICE TokenRows(const Args& args, int sequence, const Draft<F>& draft, const DeltaTurn& turn)
      : args_(args),
        draft_(draft),
        sequence_(sequence),
        turn_(turn),
        initial_(part<State>(args, initial_slot<F>(args, sequence, draft))),
        lane_(thread_id() % kLanes),
        team_(thread_id() / kLanes) {
    read(0, 0, ahead_);
  }

  // All waves, after a barrier behind the last write to shared. o stands in place of v after another barrier.
  GDN_DEVICE void run(TokensShared<F>& shared) {
    int head = 0;
    int first = 0;
    while (true) {
      Numbers s;
      GDN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        GDN_UNROLL
        for (int p = 0; p < kPieces; ++p) {
          GDN_UNROLL
          for (int i = 0; i < kWidth; ++i) s[r][p][i] = ahead_.piece[r][p].get(i);
        }
      }
      int next_head = head;
      int next_first = first + kRowsOfPass;
      if (next_first >= kValueDim) next_first = 0, ++next_head;
      const bool more = next_head < turn_.heads;
      if (more) read(next_head, next_first, ahead_);
      if constexpr (replays<F>()) {
        for (int t = 0; t < draft_.accepted; ++t) replay(shared, t, head, first, s);
        if (draft_.accepted > 0) store<State>(part<State>(args_, draft_.slot), head, first, s);
      }
      for (int t = 0; t < draft_.tokens; ++t) {
        step(shared, t, head, first, s);
        if constexpr (F::kRollback == Rollback::kSlots) {
          store<State>(part<State>(args_, slot_of_step<F>(args_, sequence_, t)), head, first, s);
        } else if constexpr (F::kRollback == Rollback::kIntermediate) {
          using To = typename F::Intermediate;
          store<To>(part<To>(args_, sequence_) + t * To::kTapStride, head, first, s);
        }
      }
      if (!more) break;
      head = next_head, first = next_first;
    }
  }

 private:
  GDN_DEVICE int row(int first, int r) const { return first + team_ * kRows + r; }
  // The access that piece p of a thread is: strand by strand, and in each as decode's lane has them.
  GDN_DEVICE int access(int p) const { return lane_ + p / Deal::kPieces * kLanes + p % Deal::kPieces * Deal::kLanes; }
  GDN_DEVICE int channel(int p) const { return access(p) * kWidth; }
  GDN_DEVICE bool channels_inside(int p) const { return kWholeRow || access(p) < kAccesses; }
  GDN_DEVICE bool row_inside(int value_channel) const { return kWholePass || value_channel < kValueDim; }
  GDN_DEVICE int head_of(int head) const { return value_head<F>(turn_.key_head, turn_.first_head + head); }

  GDN_DEVICE void read(int head, int first, Pass& pass) const {
    const auto from = initial_ + State::base(head_of(head));
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        pass.piece[r][p].clear();
        if (row_inside(row(first, r)) && channels_inside(p)) {
          pass.piece[r][p].raw =
              load_stream<Piece::kBytes>(from + row(first, r) * State::kOuterStride + channel(p) * State::kInnerStride);
        }
      }
    }
  }

  template <class To>
  GDN_DEVICE void store(MapElements<To> state, int head, int first, const Numbers& s) const {
    const auto to = state + To::base(head_of(head));
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        if (row_inside(row(first, r)) && channels_inside(p)) {
          store_along<To, kWidth, To::kInnerStride>(
              to + row(first, r) * To::kOuterStride + channel(p) * To::kInnerStride, s[r][p]);
        }
      }
    }
  }

  // The lane's channels of q or k.
  GDN_DEVICE void fetch(const float (&from)[kKeyDim], float (&x)[kPieces][kWidth]) const {
    GDN_UNROLL
    for (int p = 0; p < kPieces; ++p) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) x[p][i] = channels_inside(p) ? from[channel(p) + i] : 0.0f;
    }
  }

  // The decays of the lane's channels of a head.
  GDN_DEVICE void fetch_decays(const float* decay, int head, float (&x)[kPieces][kWidth]) const {
    GDN_UNROLL
    for (int p = 0; p < kPieces; ++p) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        x[p][i] = channels_inside(p) ? TokensShared<F>::channel_decay(decay, head, channel(p) + i) : 0.0f;
      }
    }
  }

  // S <- d S + k u^T of a record.
  GDN_DEVICE void replay(TokensShared<F>& shared, int t, int head, int first, Numbers& s) const {
    float k[kPieces][kWidth];
    float channel_decay[kPieces][kWidth];
    fetch(shared.old_k[t], k);
    fetch_decays(shared.old_decay[t], head, channel_decay);
    const float decay = shared.head_decay(shared.old_decay[t], head);
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float u = row_inside(row(first, r)) ? shared.old_u[t][head * kValueDim + row(first, r)] : 0.0f;
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i)
          s[r][p][i] = plus_product(decay * (channel_decay[p][i] * s[r][p][i]), u, k[p][i]);
      }
    }
  }

  GDN_DEVICE void step(TokensShared<F>& shared, int t, int head, int first, Numbers& s) const {
    float q[kPieces][kWidth];
    float k[kPieces][kWidth];
    float channel_decay[kPieces][kWidth];
    fetch(shared.q[t], q);
    fetch(shared.k[t], k);
    fetch_decays(shared.decay[t], head, channel_decay);
    const float decay = shared.head_decay(shared.decay[t], head);
    const float beta = shared.beta[t][head];
    float v[kRows];
    float sums[2 * kRows];  // S^T k and S^T q, before the head's decay
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      // v is read before the lanes meet in the sums, and o takes its place after that.
      v[r] = row_inside(row(first, r)) ? shared.vo[t][head * kValueDim + row(first, r)] : 0.0f;
      float of_strand[kStrands][2];
      GDN_UNROLL
      for (int strand = 0; strand < kStrands; ++strand) {
        of_strand[strand][0] = of_strand[strand][1] = 0.0f;
        GDN_UNROLL
        for (int p = strand * Deal::kPieces; p < (strand + 1) * Deal::kPieces; ++p) {
          GDN_UNROLL
          for (int i = 0; i < kWidth; ++i) {
            const float decayed = channel_decay[p][i] * s[r][p][i];
            of_strand[strand][0] += decayed * k[p][i];
            of_strand[strand][1] += decayed * q[p][i];
          }
        }
      }
      // As sum_over_lanes would: halves of the lanes first.
      GDN_UNROLL
      for (int half = kStrands / 2; half > 0; half /= 2) {
        GDN_UNROLL
        for (int strand = 0; strand < half; ++strand) {
          of_strand[strand][0] += of_strand[strand + half][0];
          of_strand[strand][1] += of_strand[strand + half][1];
        }
      }
      sums[2 * r] = of_strand[0][0];
      sums[2 * r + 1] = of_strand[0][1];
    }
    sum_over_lanes<kLanes>(sums);

    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float u = beta * (v[r] - decay * sums[2 * r]);
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i)
          s[r][p][i] = plus_product(decay * (channel_decay[p][i] * s[r][p][i]), u, k[p][i]);
      }
      if (row_inside(row(first, r)) && lane_ == r % kLanes) {
        shared.vo[t][head * kValueDim + row(first, r)] =
            rounded<typename F::RoundO>(plus_product(decay * sums[2 * r + 1], u, shared.product[t]));
        keep_u(t, head, row(first, r), u);
      }
    }
  }

  GDN_DEVICE void keep_u(int t, int head, int value_channel, float u) const {
    if constexpr (replays<F>()) {
      using Record = typename F::RecordU;
      store_one<float>(part<Record>(args_, draft_.slot) + Record::base(head_of(head)) + t * Record::kTapStride +
                           value_channel * Record::kInnerStride,
                       u);
    }
  }

  const Args& args_;
  const Draft<F>& draft_;
  int sequence_;
  DeltaTurn turn_;
  MapElements<State> initial_;
  int lane_;  // among the lanes that share a row
  int team_;  // which lanes share a row
  Pass ahead_;
};

template <class F>
class TokenColumns {
  using State = typename F::State;
  using Element = typename State::Element;
  using Deal = DeltaColumns<F>;
  static constexpr int kKeyDim = F::kKeyDim, kValueDim = F::kValueDim;
  static constexpr int kWidth = smaller(4, Deal::kWidth);  // numbers of a slab as fp32, within a thread's registers
  static constexpr int kAccesses = kValueDim / kWidth;
  static constexpr int kLanes = Deal::kLanes, kTeams = Deal::kTeams, kRows = Deal::kRows, kWaves = Deal::kWaves;
  static constexpr bool kWholeKeys = Deal::kWholeKeys;
  static constexpr int kSlabs = ceil_div(kAccesses, kLanes);  // of a head
  static constexpr bool kWholeSlabs = kAccesses % kLanes == 0;
  using Piece = Pack<Element, kWidth>;
  using Numbers = float[kRows][kWidth];

 public:
  // Issues the loads of the wave's first slab; call it early.
  GDN_DEVICE TokenColumns(const Args& args, int sequence, const Draft<F>& draft, const DeltaTurn& turn)
      : args_(args),
        draft_(draft),
        sequence_(sequence),
        turn_(turn),
        initial_(part<State>(args, initial_slot<F>(args, sequence, draft))),
        lane_(lane_id() % kLanes),
        team_(lane_id() / kLanes) {
    slab_ = wave_id();
    settle();
    read();
  }

  // All waves, after a barrier behind the last write to shared. o stands in place of v after another barrier.
  GDN_DEVICE void run(TokensShared<F>& shared) {
    while (head_ < turn_.heads) {
      Numbers s;
      GDN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) s[r][i] = piece_[r].get(i);
      }
      if constexpr (replays<F>()) {
        for (int t = 0; t < draft_.accepted; ++t) replay(shared, t, s);
        if (draft_.accepted > 0) store<State>(part<State>(args_, draft_.slot), s);
      }
      for (int t = 0; t < draft_.tokens; ++t) {
        step(shared, t, s);
        if constexpr (F::kRollback == Rollback::kSlots) {
          store<State>(part<State>(args_, slot_of_step<F>(args_, sequence_, t)), s);
        } else if constexpr (F::kRollback == Rollback::kIntermediate) {
          using To = typename F::Intermediate;
          store<To>(part<To>(args_, sequence_) + t * To::kTapStride, s);
        }
      }
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
  GDN_DEVICE int key_channel(int r) const { return team_ + r * kTeams; }
  GDN_DEVICE bool key_inside(int r) const { return kWholeKeys || key_channel(r) < kKeyDim; }
  GDN_DEVICE int head_of() const { return value_head<F>(turn_.key_head, turn_.first_head + head_); }

  GDN_DEVICE void read() {
    if (head_ >= turn_.heads) return;
    const auto from = initial_ + State::base(head_of()) + value_channel();
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      piece_[r].clear();
      if (column_inside() && key_inside(r)) {
        piece_[r].raw = load_stream<Piece::kBytes>(from + key_channel(r) * State::kInnerStride);
      }
    }
  }

  template <class To>
  GDN_DEVICE void store(MapElements<To> state, const Numbers& s) const {
    const auto to = state + To::base(head_of()) + value_channel() * To::kOuterStride;
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (column_inside() && key_inside(r)) {
        store_along<To, kWidth, To::kOuterStride>(to + key_channel(r) * To::kInnerStride, s[r]);
      }
    }
  }

  GDN_DEVICE void replay(TokensShared<F>& shared, int t, Numbers& s) const {
    const float decay = shared.head_decay(shared.old_decay[t], head_);
    float u[kWidth];
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      u[i] = column_inside() ? shared.old_u[t][head_ * kValueDim + value_channel() + i] : 0.0f;
    }
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float k = key_inside(r) ? shared.old_k[t][key_channel(r)] : 0.0f;
      const float channel_decay =
          key_inside(r) ? shared.channel_decay(shared.old_decay[t], head_, key_channel(r)) : 0.0f;
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) s[r][i] = plus_product(decay * (channel_decay * s[r][i]), u[i], k);
    }
  }

  GDN_DEVICE void step(TokensShared<F>& shared, int t, Numbers& s) const {
    const float decay = shared.head_decay(shared.decay[t], head_);
    const float beta = shared.beta[t][head_];
    float k[kRows];
    float channel_decay[kRows];
    float v[kWidth];
    float sums[2 * kWidth];  // S^T k, then S^T q, before the head's decay
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      v[i] = column_inside() ? shared.vo[t][head_ * kValueDim + value_channel() + i] : 0.0f;
      sums[i] = sums[kWidth + i] = 0.0f;
    }
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      k[r] = key_inside(r) ? shared.k[t][key_channel(r)] : 0.0f;
      const float q = key_inside(r) ? shared.q[t][key_channel(r)] : 0.0f;
      channel_decay[r] = key_inside(r) ? shared.channel_decay(shared.decay[t], head_, key_channel(r)) : 0.0f;
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const float decayed = channel_decay[r] * s[r][i];
        sums[i] += decayed * k[r];
        sums[kWidth + i] += decayed * q;
      }
    }
    sum_over_lanes<kTeams, kLanes>(sums);

    float u[kWidth];
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) u[i] = beta * (v[i] - decay * sums[i]);
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) s[r][i] = plus_product(decay * (channel_decay[r] * s[r][i]), u[i], k[r]);
    }
    if (team_ == 0 && column_inside()) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        shared.vo[t][head_ * kValueDim + value_channel() + i] =
            rounded<typename F::RoundO>(plus_product(decay * sums[kWidth + i], u[i], shared.product[t]));
        if constexpr (replays<F>()) {
          using Record = typename F::RecordU;
          store_one<float>(part<Record>(args_, draft_.slot) + Record::base(head_of()) + t * Record::kTapStride +
                               (value_channel() + i) * Record::kInnerStride,
                           u[i]);
        }
      }
    }
  }

  const Args& args_;
  const Draft<F>& draft_;
  int sequence_;
  DeltaTurn turn_;
  MapElements<State> initial_;
  int lane_;      // along the value channels of a slab
  int team_;      // which key channels
  int head_ = 0;  // of this turn
  int slab_;      // of that head
  Piece piece_[kRows];
};

template <bool kColumns, class F>
struct TokenChoice {
  using Type = TokenRows<F>;
};
template <class F>
struct TokenChoice<true, F> {
  using Type = TokenColumns<F>;
};

template <class F>
using DeltaTokens = typename TokenChoice<(F::State::kOuterStride == 1 && F::State::kInnerStride != 1), F>::Type;

}  // namespace gdn
