// state_commit: the states and windows of sequences as if the accepted tokens of their last launch had been decoded one
// by one, before a snapshot, a prefill or a transfer, and between two launches of the scheme `intermediate`.
//
//   slots         the state of the last accepted token to the slot of the first one, which then holds the sequence
//   intermediate  the state after the last accepted token to the sequence's slot
//   replay        the accepted records applied to the state in the sequence's slot
//
// The window's front becomes the inputs that the state belongs to. The next launch starts from the sequence's slot: it
// is told that no token was accepted (with a slot for each token: one). Padding rows and rows that are mistaken (see
// draft_of in draft.h) are left alone. Grid: x = sequences, y = key heads.
#pragma once

#include "gdn/conv.h"
#include "gdn/draft.h"
#include "gdn/gates.h"
#include "gdn/state_store.h"

namespace gdn {

// One head of one part: the width - 1 inputs at the offset, brought to the window's front.
template <class F, class Window>
GDN_DEVICE void commit_window(const Args& args, const Draft<F>& draft, int head) {
  constexpr int kHistory = F::kConvWidth - 1;
  using Tile = TapTile<Window, 1, 0, kHistory>;
  const auto window = part<Window>(args, draft.slot) + Window::base(head);
  for (int channel = thread_id(); channel < Window::kRun; channel += F::kThreads) {
    const auto rows = window + channel * Window::kInnerStride;
    float history[1][kHistory];
    Tile::load(rows + draft.window_offset() * Window::kTapStride, history);
    Tile::store(rows, history);
  }
}

// Where element (key channel, value channel) of a state lies below its head.
template <class M>
GDN_DEVICE int state_offset(int key_channel, int value_channel) {
  return key_channel * M::kInnerStride + value_channel * M::kOuterStride;
}

// A number of the committed state: one of `source`, times a scale, with the accepted records applied where there are
// any.
template <class F, class From>
GDN_DEVICE float committed(const Args& args, const Draft<F>& draft, int key_head, int head, MapElements<From> source,
                           int key_channel, int value_channel, float scale) {
  float s = load_one<typename From::Element>(source + state_offset<From>(key_channel, value_channel));
  if constexpr (F::kRollback == Rollback::kReplay) {
    using K = typename F::RecordK;
    using U = typename F::RecordU;
    using D = typename F::RecordDecay;
    if constexpr (scaled_state<F>()) s *= scale;
    for (int t = 0; t < draft.accepted; ++t) {
      const float k = load_one<float>(part<K>(args, draft.slot) + K::base(key_head) + t * K::kTapStride +
                                      key_channel * K::kInnerStride);
      const float u = load_one<float>(part<U>(args, draft.slot) + U::base(head) + t * U::kTapStride +
                                      value_channel * U::kInnerStride);
      const float decay = load_one<float>(part<D>(args, draft.slot) + D::base(head) + t * D::kTapStride +
                                          (decays_by_channel<F>() ? key_channel * D::kInnerStride : 0));
      s = plus_product(decay * s, u, k);
    }
  }
  return s;
}

// One value head's state from `from` to its slot, rounded as decode rounds what it stores. `from` is as it was stored
// where each token has a slot: it moves as it is.
template <class F, class From>
GDN_DEVICE void commit_state(const Args& args, const Draft<F>& draft, int key_head, int head, MapElements<From> from) {
  using State = typename F::State;
  // Lanes along the dimension whose neighbours touch, waves along the other.
  constexpr bool kKeysTouch = State::kInnerStride == 1;
  constexpr int kFast = kKeysTouch ? F::kKeyDim : F::kValueDim;
  constexpr int kSlow = kKeysTouch ? F::kValueDim : F::kKeyDim;
  const auto source = from + From::base(head);
  const auto to = part<State>(args, draft.slot) + State::base(head);
  const StateChance<F> chance(args, draft.slot);
  for (int slow = wave_id(); slow < kSlow; slow += F::kThreads / kWaveSize) {
    for (int fast = lane_id(); fast < kFast; fast += kWaveSize) {
      const int key_channel = kKeysTouch ? fast : slow;
      const int value_channel = kKeysTouch ? slow : fast;
      float s[1] = {committed<F, From>(args, draft, key_head, head, source, key_channel, value_channel, 1.0f)};
      chance.round(State::base(head) + state_offset<State>(key_channel, value_channel), s);
      store_one<typename State::Element>(to + state_offset<State>(key_channel, value_channel), s[0]);
    }
  }
}

// The scales of a state that moves from another slot.
template <class F>
GDN_DEVICE void move_scales(const Args& args, const Draft<F>& draft, long long from, int head) {
  using Scale = typename F::StateScale;
  for (int i = thread_id(); i < F::kValueDim; i += F::kThreads) {
    const int at = Scale::base(head) + i * Scale::kInnerStride;
    const float scale = load_one<typename Scale::Element>(part<Scale>(args, from) + at);
    store_one<typename Scale::Element>(part<Scale>(args, draft.slot) + at, scale);
  }
}

// And a head's state of 8 bits that is made anew: a wave has the key channels of a value channel, whose scale it finds
// before it makes the codes.
template <class F, class From>
GDN_DEVICE void commit_scaled(const Args& args, const Draft<F>& draft, int key_head, int head, MapElements<From> from) {
  using State = typename F::State;
  using Scale = typename F::StateScale;
  const auto source = from + From::base(head);
  const auto to = part<State>(args, draft.slot) + State::base(head);
  for (int value = wave_id(); value < F::kValueDim; value += F::kThreads / kWaveSize) {
    const auto scale_at = part<Scale>(args, draft.slot) + (Scale::base(head) + value * Scale::kInnerStride);
    const float scale = load_one<typename Scale::Element>(scale_at);  // of a state that stands there
    float amax[1] = {0.0f};
    for (int key = lane_id(); key < F::kKeyDim; key += kWaveSize) {
      const float s = magnitude(committed<F, From>(args, draft, key_head, head, source, key, value, scale));
      amax[0] = s > amax[0] ? s : amax[0];
    }
    largest_over_lanes<kWaveSize>(amax);
    const RowScale next = row_scale<typename State::Element>(amax[0]);
    for (int key = lane_id(); key < F::kKeyDim; key += kWaveSize) {
      const float s = committed<F, From>(args, draft, key_head, head, source, key, value, scale);
      store_one<typename State::Element>(to + state_offset<State>(key, value), s * next.inverse);
    }
    if (lane_id() == 0) store_one<typename Scale::Element>(scale_at, next.scale);
  }
}

template <class F>
GDN_DEVICE void state_commit(const Args& args) {
  using State = typename F::State;
  const int sequence = block_row();
  const int key_head = block_head();
  const Draft<F> draft = draft_of<F>(args, sequence);
  if (!draft.fate.computed) return;
  // Nothing to do where the sequence stands as its slot says.
  if (F::kRollback == Rollback::kSlots ? draft.accepted <= 1 : draft.accepted == 0) return;
  if constexpr (F::kRollback == Rollback::kReplay) {
    using D = typename F::RecordDecay;
    const auto last = part<D>(args, draft.slot) + (draft.accepted - 1) * D::kTapStride;
    if (head_number<D>(last, value_head<F>(key_head, 0)) < 0.0f) return;
  }

  commit_window<F, typename F::WindowQ>(args, draft, key_head);
  commit_window<F, typename F::WindowK>(args, draft, key_head);
  for (int g = 0; g < F::kGroup; ++g) {
    const int head = value_head<F>(key_head, g);
    commit_window<F, typename F::WindowV>(args, draft, head);
    if constexpr (F::kRollback == Rollback::kIntermediate) {
      using From = typename F::Intermediate;
      const auto from = part<From>(args, sequence) + (draft.accepted - 1) * From::kTapStride;
      if constexpr (scaled_state<F>()) {
        commit_scaled<F, From>(args, draft, key_head, head, from);
      } else {
        commit_state<F, From>(args, draft, key_head, head, from);
      }
    } else if constexpr (F::kRollback == Rollback::kReplay && scaled_state<F>()) {
      commit_scaled<F, State>(args, draft, key_head, head, part<State>(args, draft.slot));
    } else {
      const long long from = initial_slot<F>(args, sequence, draft);
      commit_state<F, State>(args, draft, key_head, head, part<State>(args, from));
      if constexpr (scaled_state<F>()) move_scales(args, draft, from, head);
    }
  }
}

}  // namespace gdn
