// The gated delta rule of a few tokens over a state whose memory has the value channel innermost (see delta_tokens.h).
#pragma once

#include "gdn/tokens_shared.h"

namespace gdn {

template <class F>
class TokenColumns {
  using State = typename F::State;
  using Scale = typename F::StateScale;
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
  static constexpr bool kScaled = scaled_state<F>();

 public:
  GDN_DEVICE TokenColumns(const Args& args, int sequence, const Draft<F>& draft, const DeltaTurn& turn)
      : args_(args),
        draft_(draft),
        sequence_(sequence),
        turn_(turn),
        slot_(initial_slot<F>(args, sequence, draft)),
        initial_(part<State>(args, slot_)),
        lane_(lane_id() % kLanes),
        team_(lane_id() / kLanes) {
    slab_ = wave_id();
    settle();
  }

  // Issues the loads of the wave's first slab; all waves, before run().
  GDN_DEVICE void begin() { read(); }

  // All waves, after a barrier behind the last write to shared. o stands in place of v after another barrier.
  GDN_DEVICE void run(TokensShared<F>& shared) {
    while (head_ < turn_.heads) {
      Numbers s;
      GDN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          s[r][i] = piece_[r].get(i);
          if constexpr (kScaled) s[r][i] *= scale_[i];
        }
      }
      if constexpr (replays<F>()) {
        for (int t = 0; t < draft_.accepted; ++t) replay(shared, t, s);
        if (draft_.accepted > 0) store_state(draft_.slot, s);
      }
      for (int t = 0; t < draft_.tokens; ++t) {
        step(shared, t, s);
        if constexpr (F::kRollback == Rollback::kSlots) {
          store_state(shared.own_slot[t], s);
        } else if constexpr (F::kRollback == Rollback::kIntermediate) {
          store_intermediate(t, s);
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
    if constexpr (kScaled) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        scale_[i] = column_inside() ? load_one<typename Scale::Element>(scale_at(slot_, i)) : 0.0f;
      }
    }
    const auto from = initial_ + State::base(head_of()) + value_channel();
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      piece_[r].clear();
      if (column_inside() && key_inside(r)) {
        piece_[r].raw = load_stream<Piece::kBytes>(from + key_channel(r) * State::kInnerStride);
      }
    }
  }

  GDN_DEVICE MapElements<Scale> scale_at(long long slot, int i) const {
    return part<Scale>(args_, slot) + (Scale::base(head_of()) + (value_channel() + i) * Scale::kInnerStride);
  }

  // To the state of a slot, rounded as decode rounds what it stores; the numbers at hand stay as they are.
  GDN_DEVICE void store_state(long long slot, const Numbers& s) const {
    const int begin = State::base(head_of()) + value_channel() * State::kOuterStride;
    const auto to = part<State>(args_, slot) + begin;
    const StateChance<F> chance(args_, slot);
    float inverse[kWidth];
    if constexpr (kScaled) {
      float amax[kWidth];
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        amax[i] = 0.0f;
        GDN_UNROLL
        for (int r = 0; r < kRows; ++r) amax[i] = magnitude(s[r][i]) > amax[i] ? magnitude(s[r][i]) : amax[i];
      }
      largest_over_lanes<kTeams, kLanes>(amax);
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        const RowScale next = row_scale<Element>(amax[i]);
        inverse[i] = next.inverse;
        if (team_ == 0 && column_inside()) store_one<typename Scale::Element>(scale_at(slot, i), next.scale);
      }
    }
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float x[kWidth];
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        x[i] = s[r][i];
        if constexpr (kScaled) x[i] *= inverse[i];
      }
      chance.round(begin + key_channel(r) * State::kInnerStride, x);
      if (column_inside() && key_inside(r)) {
        store_along<State, kWidth, State::kOuterStride, F::kEvictFirst != 0>(to + key_channel(r) * State::kInnerStride,
                                                                             x);
      }
    }
  }

  // To the states of a sequence's tokens.
  GDN_DEVICE void store_intermediate(int t, const Numbers& s) const {
    using To = typename F::Intermediate;
    const auto to =
        part<To>(args_, sequence_) + (To::base(head_of()) + t * To::kTapStride + value_channel() * To::kOuterStride);
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
    wave_barrier();  // every lane has read v, whose place o takes
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
  long long slot_;  // that the sequence starts from
  MapElements<State> initial_;
  int lane_;      // along the value channels of a slab
  int team_;      // which key channels
  int head_ = 0;  // of this turn
  int slab_;      // of that head
  Piece piece_[kRows];
  float scale_[kScaled ? kWidth : 1];
};

}  // namespace gdn
