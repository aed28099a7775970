// decode_spec: up to F::kTokens tokens of every sequence through the whole layer between the projections, in one
// launch, so that those which turn out to be rejected can be undone (see draft.h).
//
//   operands  as of decode; with the scheme's pool (intermediate_state, or record_k, record_u and record_decay), a slot
//             for each sequence or for each of its tokens, cu_seqlens, and accepted where a launch undoes the last one
//   rows      sequences of padding, and mistaken ones: see draft_of in draft.h; a sequence without tokens is left alone
//   grid      sequences x key heads x parts of a key head's value heads (split.h), one dimension; the parts are one
//   cluster
//
// On a programmatic edge a launch asks the L2 for what it will read before the launch ahead of it is through, and where
// the caller promises so, reads slot indices, offsets, accepted and the states early (see args.h).
//
// A part convolves q and k whole, and what its own value heads need. Windows of v, states and the records of u and of
// the decay are its own; the windows of q and k and the record of k are read by every part, so one of them writes these
// after all have met.
#pragma once

#include "gdn/conv_tokens.h"
#include "gdn/delta_tokens.h"
#include "gdn/excess.h"
#include "gdn/gates.h"
#include "gdn/late_copy.h"

namespace gdn {

// Where convolved channels of all tokens go: a row of kStride numbers for each in shared memory.
template <int kStride>
struct TokensToShared {
  float* to;
  template <int kChannels>
  GDN_DEVICE void operator()(int token, int channel, const float (&y)[kChannels]) const {
    GDN_UNROLL
    for (int i = 0; i < kChannels; ++i) to[token * kStride + channel + i] = y[i];
  }
};

// A part of the records of the accepted tokens, a key head's or a turn's value heads', to shared memory, where it has
// kHeads heads a token. Under way when this returns (late_copy.h).
template <class F, class M, int kHeads, bool kOfKey>
GDN_DEVICE void fetch_record(const Args& args, const Draft<F>& draft, const DeltaTurn& turn, float* to) {
  constexpr int kWidth = smaller(4, inner_width<M>()), kOfHead = M::kRun / kWidth;
  static_assert(sizeof(typename M::Element) == 4, "copied as it stands");
  const auto from = part<M>(args, draft.slot);
  constexpr int kOfStep = kHeads * kOfHead;
  for_items<F::kTokens * kOfStep, F::kThreads>(thread_id(), draft.accepted * kOfStep, [&](int i) {
    const int t = i / kOfStep, g = i / kOfHead % kHeads, channel = i % kOfHead * kWidth;
    if (!kOfKey && g >= turn.heads) return;
    const int head = kOfKey ? turn.key_head : value_head<F>(turn.key_head, turn.first_head + g);
    copy_late<kWidth * 4>(to + (t * kHeads + g) * M::kRun + channel,
                          from + (M::base(head) + t * M::kTapStride + channel * M::kInnerStride));
  });
}

// The records of the accepted tokens: of the key head in its first turn, and of the value heads of a turn.
template <class F>
GDN_DEVICE void fetch_records(const Args& args, const Draft<F>& draft, const DeltaTurn& turn, bool first_turn,
                              TokensShared<F>& shared) {
  constexpr int kHeads = TokensShared<F>::kHeads;
  if (first_turn) fetch_record<F, typename F::RecordK, 1, true>(args, draft, turn, shared.old_k[0]);
  fetch_record<F, typename F::RecordU, kHeads, false>(args, draft, turn, shared.old_u[0]);
  fetch_record<F, typename F::RecordDecay, kHeads, false>(args, draft, turn, shared.old_decay[0]);
}

// Channels of z that a thread takes of all tokens at once: so many that a quarter of a block's threads are enough, for
// most of the others convolve meanwhile; not more than its registers hold.
template <class F>
GDN_HD constexpr int gate_width() {
  using Z = typename F::InputZ;
  const int wish = power_of_two_above(larger(1, 4 * TokensShared<F>::kHeads * Z::kRun / F::kThreads));
  return smaller(inner_width<Z>(), smaller(wish, larger(1, 32 / power_of_two_above(F::kTokens))));
}
// And the threads that this takes.
template <class F>
GDN_HD constexpr int gate_threads() {
  if constexpr (!has_gates<F>()) {
    return 0;
  } else {
    return smaller(F::kThreads, TokensShared<F>::kHeads * F::InputZ::kRun / gate_width<F>());
  }
}

// act(z) of all tokens of a turn's value heads to shared memory, the loads of all tokens together (see
// convolve_tokens).
template <class F>
GDN_DEVICE void fetch_token_gates(const Args& args, const Draft<F>& draft, const DeltaTurn& turn,
                                  TokensShared<F>& shared) {
  using Z = typename F::InputZ;
  if constexpr (has_gates<F>()) {
    constexpr int kWidth = gate_width<F>();
    // From the last threads on: the deal of channels favours the first.
    constexpr int kItems = Z::kRun / kWidth;
    // A loop where heads are parted: without one, two of those forms spill.
    constexpr int kMost = F::kHeadParts == 1 ? TokensShared<F>::kHeads * kItems : F::kThreads + 1;
    for_items<kMost, F::kThreads>(F::kThreads - 1 - thread_id(), turn.heads * kItems, [&](int item) {
      const int i = item * kWidth;
      const int head = value_head<F>(turn.key_head, turn.first_head + i / Z::kRun);
      float z[F::kTokens][kWidth];
      GDN_UNROLL
      for (int t = 0; t < F::kTokens; ++t) {
        const auto from = part<Z>(args, draft.first + smaller(t, draft.tokens - 1)) + Z::base(head);
        load_run<typename Z::Element, kWidth, kWidth>(from + i % Z::kRun * Z::kInnerStride, z[t]);
      }
      GDN_UNROLL
      for (int t = 0; t < F::kTokens; ++t) {
        GDN_UNROLL
        for (int j = 0; j < kWidth; ++j) shared.gates[t][i + j] = gate_of<F>(z[t][j]);
      }
    });
  }
}

// k of this launch's tokens to the records, after every part of the key head has fetched the old ones.
template <class F>
GDN_DEVICE void keep_keys(const Args& args, const Draft<F>& draft, int key_head, const TokensShared<F>& shared) {
  using K = typename F::RecordK;
  for_items<F::kTokens, F::kThreads / kWaveSize>(wave_id(), draft.tokens, [&](int t) {
    const auto to = part<K>(args, draft.slot) + K::base(key_head) + t * K::kTapStride;
    for (int i = lane_id(); i < F::kKeyDim; i += kWaveSize) store_one<float>(to + i * K::kInnerStride, shared.k[t][i]);
  });
}

// And the decays of a turn's heads. A step that the launch has no token for gets a decay that no token has.
template <class F>
GDN_DEVICE void keep_decays(const Args& args, const Draft<F>& draft, const DeltaTurn& turn,
                            const TokensShared<F>& shared) {
  using D = typename F::RecordDecay;
  for (int g = 0; g < turn.heads; ++g) {
    const auto decays = part<D>(args, draft.slot) + D::base(value_head<F>(turn.key_head, turn.first_head + g));
    for (int i = F::kThreads - 1 - thread_id(); i < decays_of_head<F>(); i += F::kThreads) {
      for (int t = 0; t < F::kTokens; ++t) {
        store_one<float>(decays + i * D::kInnerStride + t * D::kTapStride,
                         t < draft.tokens ? shared.decay[t][g * decays_of_head<F>() + i] : -1.0f);
      }
    }
  }
}

// Whether the last accepted token has a record, whose decay is not below 0: accepting more tokens than there were is
// the caller's mistake. In memory, as a head has it; then among the records in shared memory.
template <class F>
GDN_DEVICE bool has_last_record(const Args& args, const Draft<F>& draft, int head) {
  using D = typename F::RecordDecay;
  if (draft.accepted == 0) return true;
  return head_number<D>(part<D>(args, draft.slot) + (draft.accepted - 1) * D::kTapStride, head) >= 0.0f;
}
template <class F>
GDN_DEVICE bool has_last_record(const TokensShared<F>& shared, const Draft<F>& draft) {
  return draft.accepted == 0 || shared.old_decay[draft.accepted - 1][0] >= 0.0f;
}

// The windows of q and k that were not stored while another part might still read them.
template <class F>
GDN_DEVICE void store_key_windows(const Args& args, const Draft<F>& draft, int key_head, float* unused) {
  Deal<F::kThreads> deal;
  const auto may_store = [] { return true; };
  convolve_tokens<F, typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ,
                  WindowUse::kStore>(args, draft, key_head, deal, TokensToShared<F::kKeyDim>{unused}, may_store);
  convolve_tokens<F, typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK,
                  WindowUse::kStore>(args, draft, key_head, deal, TokensToShared<F::kKeyDim>{unused}, may_store);
}

// Which value heads of which key head of which sequence a block has.
template <class F>
struct SequenceShare {
  int sequence, key_head, number;  // of the part; the block's number in its cluster
  GDN_DEVICE explicit SequenceShare(int block)
      : sequence(block / (F::kKeyHeads * F::kHeadParts)),
        key_head(block / F::kHeadParts % F::kKeyHeads),
        number(block % F::kHeadParts) {}
  GDN_DEVICE int first_head() const { return number * heads_of_part<F>(); }
  GDN_DEVICE int end_head() const { return smaller(F::kGroup, first_head() + heads_of_part<F>()); }
};

// The output of a block's value heads, for all tokens of its sequence.
template <class F>
GDN_DEVICE void fill_tokens(const Args& args, const Draft<F>& draft, const SequenceShare<F>& share, float filler) {
  for (int t = 0; t < draft.tokens; ++t) {
    for (int g = share.first_head(); g < share.end_head(); ++g) {
      fill_output<F>(args, draft.first + t, value_head<F>(share.key_head, g), filler);
    }
  }
}

// Whether the state's first loads to registers are in one place, see TokenProducts and TokenRows.
template <class F>
GDN_HD constexpr bool begins_once() {
  if constexpr (!same_type<DeltaTokens<F>, TokenColumns<F>>()) {
    return DeltaTokens<F>::kBeginsOnce;
  } else {
    return false;
  }
}

// What may be asked for ahead of them.
template <class F>
GDN_DEVICE void ask_ahead(DeltaTokens<F>& delta, TokensShared<F>& shared) {
  if constexpr (same_type<DeltaTokens<F>, TokenRows<F>>()) {
    delta.ask_inbox(shared);
  } else {
    delta.bring_near();
  }
}

// The state's first loads, some of them to shared memory; `asked`: behind ask_ahead().
template <class F>
GDN_DEVICE void begin(DeltaTokens<F>& delta, TokensShared<F>& shared, bool asked = false) {
  if constexpr (same_type<DeltaTokens<F>, TokenRows<F>>()) {
    delta.begin(shared, asked);
  } else {
    delta.begin();
  }
}

template <class F>
GDN_DEVICE void decode_spec(const Args& args) {
  constexpr int kParts = F::kHeadParts;
  static_assert(F::kRowParts == 1, "a part has whole value heads");
  static_assert(kParts == 1 || kHasClusters, "the target has no clusters: one block serves a key head");
  launch_dependents();
  const bool reads_early = (args.promises & kPoolsAreReady) != 0;
  if (!reads_early) wait_for_previous();
  const SequenceShare<F> share(block_number());
  const int sequence = share.sequence;
  const int key_head = share.key_head;
  if constexpr (zeroes_excess<F>()) {
    if (sequence >= args.sequences) {
      if (reads_early) wait_for_previous();
      zero_excess_rows<F>(args, sequence - args.sequences, key_head, share.first_head(), share.end_head());
      return;
    }
  }
  const Draft<F> draft = draft_of<F>(args, sequence);
  if (!draft.fate.computed || draft.tokens == 0) {
    if (reads_early) wait_for_previous();
    if (!draft.fate.computed && draft.fate.filled) fill_tokens(args, draft, share, draft.fate.filler);
    return;
  }

  using Shared = TokensShared<F>;
  constexpr int kValues = Shared::kHeads * F::kValueDim;
  GDN_SHARED(Shared, shared);
  static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of a block");
  static_assert(kParts == 1 || Shared::kHeads >= heads_of_part<F>(), "the parts of a key head take one turn");
  constexpr WindowUse kKeyWindows = kParts > 1 ? WindowUse::kConvolve : WindowUse::kConvolveAndStore;
  for (int first_head = share.first_head(); first_head < share.end_head(); first_head += Shared::kHeads) {
    const DeltaTurn turn{key_head, first_head, smaller(Shared::kHeads, share.end_head() - first_head)};
    const bool first_turn = first_head == share.first_head();
    DeltaTokens<F> delta(args, sequence, draft, turn);
    const bool begins_early = first_turn && reads_early;
    if (begins_early) {
      if constexpr (begins_once<F>()) {
        ask_ahead<F>(delta, shared);
      } else {
        begin<F>(delta, shared);
      }
      wait_for_previous();
    }
    // Nothing may be written where the last accepted token has no record: looked at when windows are written, so that
    // nobody waits for it before; at once by AMD's, which run out of scalar registers otherwise. Of a head of its own:
    // that of another part may be overwritten by now.
    const int own_head = value_head<F>(key_head, first_head);
    const auto may_store = [&] {
      if constexpr (replays<F>() && kCopiesLate) return !first_turn || has_last_record(args, draft, own_head);
      return true;
    };
    if constexpr (replays<F>()) {
      if (!kCopiesLate && first_turn && !has_last_record(args, draft, own_head)) {
        fill_tokens(args, draft, share, float_of(0x7fc00000u));
        return;
      }
      fetch_records(args, draft, turn, first_turn, shared);
      late_copies_sent();
    }
    if constexpr (slots_at_once<F>()) {
      GDN_UNROLL
      for (int step = 0; step < F::kTokens; ++step) {
        if (first_turn && thread_id() == step) shared.own_slot[step] = draft.own[step];
      }
    } else if constexpr (F::kRollback == Rollback::kSlots) {
      if (first_turn && thread_id() < draft.tokens) {
        shared.own_slot[thread_id()] = slot_of_step<F>(args, sequence, thread_id());
      }
    }
    Deal<F::kThreads> deal;
    if (first_turn) {
      convolve_tokens<F, typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ, kKeyWindows>(
          args, draft, key_head, deal, TokensToShared<F::kKeyDim>{shared.q[0]}, may_store);
      convolve_tokens<F, typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK, kKeyWindows>(
          args, draft, key_head, deal, TokensToShared<F::kKeyDim>{shared.k[0]}, may_store);
    }
    for (int g = 0; g < turn.heads; ++g) {
      convolve_tokens<F, typename F::InputV, typename F::WeightV, typename F::BiasV, typename F::WindowV>(
          args, draft, value_head<F>(key_head, first_head + g), deal,
          TokensToShared<kValues>{shared.vo[0] + g * F::kValueDim}, may_store);
    }
    fetch_token_gates(args, draft, turn, shared);
    if constexpr (decays_by_channel<F>()) {
      for (int t = 0; t < draft.tokens; ++t) {
        for (int g = 0; g < turn.heads; ++g) {
          log_decays<F>(args, draft.first + t, value_head<F>(key_head, first_head + g), deal,
                        DecaysToShared{shared.decay[t] + g * F::kKeyDim});
        }
      }
    }
    // A number of each token and head, by threads that have no z.
    const int behind_gates = (2 * F::kThreads - 1 - gate_threads<F>() - thread_id()) % F::kThreads;
    for_items<F::kTokens * Shared::kHeads, F::kThreads>(behind_gates, draft.tokens * Shared::kHeads, [&](int i) {
      const int token = i / Shared::kHeads, g = i % Shared::kHeads;
      if (g >= turn.heads) return;
      const int head = value_head<F>(key_head, first_head + g);
      shared.beta[token][g] = beta_of<F>(args, draft.first + token, head);
      if constexpr (!decays_by_channel<F>()) {
        shared.decay[token][g] = exponential(log_decay_of<F>(args, draft.first + token, head));
      }
    });
    // Here, not in front of what the block waits for first: else that stands behind the state in memory's queues, and
    // the first rows arrive long before anybody asks for them. A block that waits for the launch before has the time.
    if (begins_once<F>() || !begins_early) begin<F>(delta, shared, begins_early);
    if constexpr (replays<F>()) late_copies_arrived();
    barrier();
    if constexpr (replays<F>()) {
      // Nothing has been written yet.
      if (kCopiesLate && first_turn && !has_last_record(shared, draft)) {
        if constexpr (F::kInbox != 0) delta.give_up(shared);
        fill_tokens(args, draft, share, float_of(0x7fc00000u));
        return;
      }
    }
    if constexpr (kParts > 1) cluster_arrive();  // this part has read the windows and the record of q and k
    if (first_turn) {
      normalise_tokens<F>(shared, draft.tokens);
      barrier();
    }
    // Nothing but the norm of q and k is to stand between the state's loads and the rule. Products have much to prepare
    // there: for them it is ahead (tests/bench/NOTES.md has both ways of both).
    const auto keep = [&] {
      if constexpr (replays<F>()) {
        if (kParts == 1 && first_turn) keep_keys(args, draft, key_head, shared);
        keep_decays(args, draft, turn, shared);
      }
    };
    if constexpr (F::kProducts != 0) keep();
    delta.run(shared);
    if constexpr (F::kProducts == 0) keep();
    barrier();
    for (int t = 0; t < draft.tokens; ++t) {
      if constexpr (normalises<F>()) {
        for (int g = 0; g < turn.heads; ++g) {
          if ((t * turn.heads + g) % (F::kThreads / kWaveSize) != wave_id()) continue;
          gated_norm<F>(args, draft.first + t, value_head<F>(key_head, first_head + g), shared.vo[t] + g * F::kValueDim,
                        shared.gates[t] + g * F::kValueDim);
        }
      } else {
        write_o<F, F::kValueDim>(args, draft.first + t, key_head, first_head, turn.heads, 0, shared.vo[t]);
      }
    }
    if constexpr (kParts > 1) {
      cluster_wait();  // every part has
      if (share.number == 0) {
        store_key_windows<F>(args, draft, key_head, shared.q[0]);
        if constexpr (replays<F>()) keep_keys(args, draft, key_head, shared);
      }
    }
    if (first_head + Shared::kHeads < share.end_head()) barrier();  // the next turn overwrites them all
  }
}

}  // namespace gdn
