// state_commit: the states and windows of sequences as if the accepted tokens of their last launch had been decoded one
// by one, before a snapshot, a prefill or a transfer, and between two launches of the scheme `intermediate`.
//
//   slots         the state of the last accepted token to the slot of the first one, which then holds the sequence
//   intermediate  the state after the last accepted token to the sequence's slot
//   replay        the accepted records applied to the state in the sequence's slot
//
// The window's front becomes the inputs that the state belongs to. The next launch starts from the sequence's slot: it
// is told that no token was accepted (with a slot for each token: one). Padding rows and rows that are mistaken (see
// draft_of in draft.h) are left alone. Grid: x = sequences, y = key heads x their value heads' parts x parts of a state
// (split.h): no two blocks touch the same number, so they need not meet.
#pragma once

#include "gdn/conv.h"
#include "gdn/draft.h"
#include "gdn/gates.h"
#include "gdn/split.h"
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

// The records of the accepted tokens that a block applies, of a key head and one of its value heads.
template <class F>
struct CommitShared {
  static constexpr bool kReplays = F::kRollback == Rollback::kReplay;
  static constexpr int kRecords = kReplays ? F::kTokens : 1;
  alignas(16) float k[kRecords][kReplays ? F::kKeyDim : 1];
  alignas(16) float u[kRecords][kReplays ? F::kValueDim : 1];
  alignas(16) float decay[kRecords][kReplays ? decays_of_head<F>() : 1];
};

// An element of a state.
struct StatePlace {
  int key, value;
};

// Channels [first, end) of a dimension.
struct Channels {
  int first, end;
};

// Those of a dimension of `size` channels that part `number` of F::kRowParts has.
template <class F>
GDN_DEVICE Channels channels_of_part(int number, int size) {
  const int most = ceil_div(size, F::kRowParts);
  return {smaller(size, number * most), smaller(size, (number + 1) * most)};
}

// All waves, before a barrier. All of a block's numbers are asked for at once: it waits for memory once.
template <class F>
GDN_DEVICE void fetch_records_of(const Args& args, const Draft<F>& draft, int key_head, int head, Channels keys,
                                 Channels values, CommitShared<F>& shared) {
  using K = typename F::RecordK;
  using U = typename F::RecordU;
  using D = typename F::RecordDecay;
  const Channels decays = decays_by_channel<F>() ? keys : Channels{0, 1};
  const int behind_keys = keys.end - keys.first, behind_values = behind_keys + values.end - values.first;
  for (int i = thread_id(); i < behind_values + decays.end - decays.first; i += F::kThreads) {
    if (i < behind_keys) {
      const int channel = keys.first + i;
      fetch_steps<F, K, F::kKeyDim>(part<K>(args, draft.slot) + K::base(key_head) + channel * K::kInnerStride,
                                    draft.accepted, shared.k[0] + channel);
    } else if (i < behind_values) {
      const int channel = values.first + i - behind_keys;
      fetch_steps<F, U, F::kValueDim>(part<U>(args, draft.slot) + U::base(head) + channel * U::kInnerStride,
                                      draft.accepted, shared.u[0] + channel);
    } else {
      const int channel = decays.first + i - behind_values;
      fetch_steps<F, D, decays_of_head<F>()>(part<D>(args, draft.slot) + D::base(head) + channel * D::kInnerStride,
                                             draft.accepted, shared.decay[0] + channel);
    }
  }
}

// Whether the last accepted token has a record, by the records that were fetched for these key channels.
template <class F>
GDN_DEVICE bool has_records(const Draft<F>& draft, Channels keys, const CommitShared<F>& shared) {
  return !(shared.decay[draft.accepted - 1][decays_by_channel<F>() ? keys.first : 0] < 0.0f);
}

// A number of the state with the accepted records applied.
template <class F>
GDN_DEVICE float replayed(const CommitShared<F>& shared, int accepted, int key_channel, int value_channel, float s) {
  GDN_UNROLL
  for (int t = 0; t < CommitShared<F>::kRecords; ++t) {
    if (t >= accepted) break;
    const float decay = shared.decay[t][decays_by_channel<F>() ? key_channel : 0];
    s = plus_product(decay * s, shared.u[t][value_channel], shared.k[t][key_channel]);
  }
  return s;
}

// Part `number` of one value head's state from `from` to its slot, rounded as decode rounds what it stores. `from` is
// as it was stored where each token has a slot: it moves as it is. Threads lie along the dimension whose neighbours
// touch, with as many of them as an access takes; a part has channels of the other. False, and nothing is touched:
// the caller accepts tokens that were not.
template <class F, class From>
GDN_DEVICE bool commit_state(const Args& args, const Draft<F>& draft, int key_head, int head, MapElements<From> from,
                             int number, CommitShared<F>& shared) {
  using State = typename F::State;
  using Element = typename State::Element;
  constexpr bool kKeysTouch = State::kInnerStride == 1, kTouch = kKeysTouch || State::kOuterStride == 1;
  constexpr int kFast = kKeysTouch ? F::kKeyDim : F::kValueDim;
  constexpr int kSlow = kKeysTouch ? F::kValueDim : F::kKeyDim;
  constexpr int kAlign =
      smaller(State::kAlign, power_of_two_in(kKeysTouch ? State::kOuterStride : State::kInnerStride));
  // Eight, for eight elements share a block of random bits.
  constexpr int kWidth = kTouch ? smaller(8, access_width<Element>(kAlign, kFast)) : 1;
  // The source may lie otherwise: then its elements come one by one.
  constexpr bool kSourceTouches = (kKeysTouch ? From::kInnerStride : From::kOuterStride) == 1;
  constexpr int kSourceAlign = kSourceTouches
                                   ? smaller(smaller(From::kAlign, power_of_two_in(From::kTapStride)),
                                             power_of_two_in(kKeysTouch ? From::kOuterStride : From::kInnerStride))
                                   : 1;
  constexpr int kPieces = kFast / kWidth;                        // of a slow channel
  constexpr int kTogether = larger(1, smaller(4, 16 / kWidth));  // pieces that a thread has under way
  // The first element of a piece.
  const auto place = [](int piece) -> StatePlace {
    const int fast = piece % kPieces * kWidth, slow = piece / kPieces;
    return kKeysTouch ? StatePlace{fast, slow} : StatePlace{slow, fast};
  };
  const auto source = from + From::base(head);
  const auto to = part<State>(args, draft.slot) + State::base(head);
  const StateChance<F> chance(args, draft.slot);
  const Channels slow = channels_of_part<F>(number, kSlow);
  const int begin = slow.first * kPieces, end = slow.end * kPieces;
  if (begin == end) return true;
  constexpr int kStep = F::kThreads * kTogether;
  using Numbers = float[kTogether][kWidth];
  const auto read = [&](int turn, Numbers& s) {
    GDN_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      const int piece = turn + j * F::kThreads + thread_id();
      if (piece >= end) continue;
      const auto [key, value] = place(piece);
      const auto at = source + state_offset<From>(key, value);
      if constexpr (kSourceTouches) {
        load_run<typename From::Element, kWidth, kSourceAlign>(at, s[j]);
      } else {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          s[j][i] = load_one<typename From::Element>(at + i * (kKeysTouch ? From::kInnerStride : From::kOuterStride));
        }
      }
    }
  };
  Numbers ahead;
  read(begin, ahead);
  if constexpr (CommitShared<F>::kReplays) {  // with the first loads of the state under way
    constexpr Channels kWhole{0, kFast};
    const Channels keys = kKeysTouch ? kWhole : slow;
    fetch_records_of(args, draft, key_head, head, keys, kKeysTouch ? slow : kWhole, shared);
    barrier();
    if (!has_records(draft, keys, shared)) return false;
  }
  for (int turn = begin; turn < end; turn += kStep) {
    Numbers s;
    GDN_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      GDN_UNROLL
      for (int i = 0; i < kWidth; ++i) s[j][i] = ahead[j][i];
    }
    if (turn + kStep < end) read(turn + kStep, ahead);
    GDN_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      const int piece = turn + j * F::kThreads + thread_id();
      if (piece >= end) continue;
      const auto [key, value] = place(piece);
      if constexpr (CommitShared<F>::kReplays) {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          s[j][i] =
              replayed<F>(shared, draft.accepted, key + (kKeysTouch ? i : 0), value + (kKeysTouch ? 0 : i), s[j][i]);
        }
      }
      chance.round(State::base(head) + state_offset<State>(key, value), s[j]);
      store_run<Element, kWidth, kAlign>(to + state_offset<State>(key, value), s[j]);
    }
  }
  return true;
}

// The scales of a state that moves from another slot.
template <class F>
GDN_DEVICE void move_scales(const Args& args, const Draft<F>& draft, long long from, int head, Channels values) {
  using Scale = typename F::StateScale;
  for (int i = values.first + thread_id(); i < values.end; i += F::kThreads) {
    const int at = Scale::base(head) + i * Scale::kInnerStride;
    const float scale = load_one<typename Scale::Element>(part<Scale>(args, from) + at);
    store_one<typename Scale::Element>(part<Scale>(args, draft.slot) + at, scale);
  }
}

// And value channels of a head's state of 8 bits that is made anew: a wave has the key channels of one, whose scale it
// finds before it makes the codes.
template <class F, class From>
GDN_DEVICE bool commit_scaled(const Args& args, const Draft<F>& draft, int key_head, int head, MapElements<From> from,
                              Channels values, CommitShared<F>& shared) {
  using State = typename F::State;
  using Scale = typename F::StateScale;
  const auto source = from + From::base(head);
  const auto to = part<State>(args, draft.slot) + State::base(head);
  if constexpr (CommitShared<F>::kReplays) {
    constexpr Channels kKeys{0, F::kKeyDim};
    fetch_records_of(args, draft, key_head, head, kKeys, values, shared);
    barrier();
    if (!has_records(draft, kKeys, shared)) return false;
  }
  constexpr int kPieces = ceil_div(F::kKeyDim, kWaveSize);
  for (int value = values.first + wave_id(); value < values.end; value += F::kThreads / kWaveSize) {
    const auto scale_at = part<Scale>(args, draft.slot) + (Scale::base(head) + value * Scale::kInnerStride);
    const float scale = load_one<typename Scale::Element>(scale_at);  // of a state that stands there
    float s[kPieces];
    float amax[1] = {0.0f};
    GDN_UNROLL
    for (int p = 0; p < kPieces; ++p) {
      const int key = p * kWaveSize + lane_id();
      s[p] = key < F::kKeyDim ? load_one<typename From::Element>(source + state_offset<From>(key, value)) : 0.0f;
    }
    GDN_UNROLL
    for (int p = 0; p < kPieces; ++p) {
      const int key = p * kWaveSize + lane_id();
      if constexpr (CommitShared<F>::kReplays) {
        if (key < F::kKeyDim) s[p] = replayed<F>(shared, draft.accepted, key, value, s[p] * scale);
      }
      amax[0] = magnitude(s[p]) > amax[0] ? magnitude(s[p]) : amax[0];
    }
    largest_over_lanes<kWaveSize>(amax);
    const RowScale next = row_scale<typename State::Element>(amax[0]);
    GDN_UNROLL
    for (int p = 0; p < kPieces; ++p) {
      const int key = p * kWaveSize + lane_id();
      if (key >= F::kKeyDim) continue;
      store_one<typename State::Element>(to + state_offset<State>(key, value), s[p] * next.inverse);
    }
    if (lane_id() == 0) store_one<typename Scale::Element>(scale_at, next.scale);
  }
  return true;
}

template <class F>
GDN_DEVICE void state_commit(const Args& args) {
  using State = typename F::State;
  constexpr int kParts = parts_of_key_head<F>();
  const int sequence = block_row();
  const int key_head = block_head() / kParts;
  const int head_part = block_head() % kParts / F::kRowParts, row_part = block_head() % F::kRowParts;
  const Draft<F> draft = draft_of<F>(args, sequence);
  if (!draft.fate.computed) return;
  // Nothing to do where the sequence stands as its slot says.
  if (F::kRollback == Rollback::kSlots ? draft.accepted <= 1 : draft.accepted == 0) return;

  GDN_SHARED(CommitShared<F>, shared);
  const Channels values = channels_of_part<F>(row_part, F::kValueDim);
  const int first_head = head_part * heads_of_part<F>(), end_head = smaller(F::kGroup, first_head + heads_of_part<F>());
  for (int g = first_head; g < end_head; ++g) {
    const int head = value_head<F>(key_head, g);
    bool good = true;
    if constexpr (F::kRollback == Rollback::kIntermediate) {
      using From = typename F::Intermediate;
      const auto from = part<From>(args, sequence) + (draft.accepted - 1) * From::kTapStride;
      if constexpr (scaled_state<F>()) {
        good = commit_scaled<F, From>(args, draft, key_head, head, from, values, shared);
      } else {
        good = commit_state<F, From>(args, draft, key_head, head, from, row_part, shared);
      }
    } else if constexpr (F::kRollback == Rollback::kReplay && scaled_state<F>()) {
      good = commit_scaled<F, State>(args, draft, key_head, head, part<State>(args, draft.slot), values, shared);
    } else {
      const long long from = initial_slot<F>(args, sequence, draft);
      good = commit_state<F, State>(args, draft, key_head, head, part<State>(args, from), row_part, shared);
      if constexpr (scaled_state<F>()) move_scales(args, draft, from, head, values);
    }
    if (!good) return;
    if (row_part == 0) commit_window<F, typename F::WindowV>(args, draft, head);
    if (CommitShared<F>::kReplays && g + 1 < end_head) barrier();  // the next head's records take their place
  }
  if (head_part == 0 && row_part == 0) {
    commit_window<F, typename F::WindowQ>(args, draft, key_head);
    commit_window<F, typename F::WindowK>(args, draft, key_head);
  }
}

}  // namespace gdn
