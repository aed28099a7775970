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
#include "gdn/gates.h"
#include "gdn/quantise.h"

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

// The records of the accepted tokens to shared memory: those of the key head, and of the value heads of a turn.
template <class F>
GDN_DEVICE void fetch_records(const Args& args, const Draft<F>& draft, const DeltaTurn& turn, bool first_turn,
                              TokensShared<F>& shared) {
  using K = typename F::RecordK;
  using U = typename F::RecordU;
  using D = typename F::RecordDecay;
  constexpr int kHeads = TokensShared<F>::kHeads, kDecays = decays_of_head<F>();
  if (draft.accepted == 0) return;
  for (int i = thread_id(); i < turn.heads * F::kValueDim; i += F::kThreads) {
    const int head = value_head<F>(turn.key_head, turn.first_head + i / F::kValueDim);
    fetch_steps<F, U, kHeads * F::kValueDim>(
        part<U>(args, draft.slot) + U::base(head) + i % F::kValueDim * U::kInnerStride, draft.accepted,
        shared.old_u[0] + i);
  }
  for (int i = thread_id(); i < turn.heads * kDecays; i += F::kThreads) {
    const int head = value_head<F>(turn.key_head, turn.first_head + i / kDecays);
    fetch_steps<F, D, kHeads * kDecays>(part<D>(args, draft.slot) + D::base(head) + i % kDecays * D::kInnerStride,
                                        draft.accepted, shared.old_decay[0] + i);
  }
  if (!first_turn) return;
  for (int i = thread_id(); i < F::kKeyDim; i += F::kThreads) {
    fetch_steps<F, K, F::kKeyDim>(part<K>(args, draft.slot) + K::base(turn.key_head) + i * K::kInnerStride,
                                  draft.accepted, shared.old_k[0] + i);
  }
}

// act(z) of all tokens of a turn's value heads to shared memory, the loads of all tokens together.
template <class F>
GDN_DEVICE void fetch_token_gates(const Args& args, const Draft<F>& draft, const DeltaTurn& turn,
                                  TokensShared<F>& shared) {
  using Z = typename F::InputZ;
  if constexpr (has_gates<F>()) {
    constexpr int kHeads = TokensShared<F>::kHeads;
    constexpr int kWidth = smaller(inner_width<Z>(), power_of_two_above(larger(1, kHeads * Z::kRun / F::kThreads)));
    // From the last threads on: the deal of channels favours the first.
    for (int i = (F::kThreads - 1 - thread_id()) * kWidth; i < turn.heads * Z::kRun; i += F::kThreads * kWidth) {
      const int head = value_head<F>(turn.key_head, turn.first_head + i / Z::kRun);
      float z[F::kTokens][kWidth];
      GDN_UNROLL
      for (int t = 0; t < F::kTokens; ++t) {
        GDN_UNROLL
        for (int j = 0; j < kWidth; ++j) z[t][j] = 0.0f;
        if (t < draft.tokens) {
          load_run<typename Z::Element, kWidth, kWidth>(
              part<Z>(args, draft.first + t) + Z::base(head) + i % Z::kRun * Z::kInnerStride, z[t]);
        }
      }
      GDN_UNROLL
      for (int t = 0; t < F::kTokens; ++t) {
        GDN_UNROLL
        for (int j = 0; j < kWidth; ++j) shared.gates[t][i + j] = gate_of<F>(z[t][j]);
      }
    }
  }
}

// k of this launch's tokens to the records, after every part of the key head has fetched the old ones.
template <class F>
GDN_DEVICE void keep_keys(const Args& args, const Draft<F>& draft, int key_head, const TokensShared<F>& shared) {
  using K = typename F::RecordK;
  for (int t = wave_id(); t < draft.tokens; t += F::kThreads / kWaveSize) {
    const auto to = part<K>(args, draft.slot) + K::base(key_head) + t * K::kTapStride;
    for (int i = lane_id(); i < F::kKeyDim; i += kWaveSize) store_one<float>(to + i * K::kInnerStride, shared.k[t][i]);
  }
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

// Brings near what the steps in front of the delta rule read of a turn, all of it at once: else each of them waits for
// memory behind the one before it, some 0.7 us each time on an H200. Waves take parts of a head in turns, a lane the
// line of its number; what lanes there are not for is read when its turn comes.
template <class F>
class NearParts {
 public:
  GDN_DEVICE NearParts(const Args& args, const Draft<F>& draft, const DeltaTurn& turn) : args_(args), draft_(draft) {
    of_head<typename F::RecordK, typename F::WindowQ, typename F::InputQ, typename F::WeightQ>(turn.key_head);
    of_head<Absent, typename F::WindowK, typename F::InputK, typename F::WeightK>(turn.key_head);
    for (int g = 0; g < turn.heads; ++g) {
      const int head = value_head<F>(turn.key_head, turn.first_head + g);
      of_head<typename F::RecordU, typename F::WindowV, typename F::InputV, typename F::WeightV>(head);
      of_head<typename F::RecordDecay, Absent, typename F::InputZ, Absent>(head);
      of_head<Absent, Absent, typename F::InputA, Absent>(head);
      of_head<Absent, Absent, typename F::InputB, Absent>(head);
    }
  }

 private:
  template <class Record, class Window, class Input, class Weight>
  GDN_DEVICE void of_head(int head) {
    if constexpr (Record::kPresent) {
      if (mine())
        rows<Record>(part<Record>(args_, draft_.slot) + Record::base(head), draft_.accepted, Record::kTapStride);
    }
    if constexpr (Window::kPresent) {
      if (mine()) taps<Window>(part<Window>(args_, draft_.slot) + Window::base(head), F::kWindow);
    }
    if constexpr (Input::kPresent) {
      if (mine()) {
        rows<Input>(part<Input>(args_, draft_.first) + Input::base(head), draft_.tokens, args_.stride[Input::kOperand]);
      }
    }
    if constexpr (Weight::kPresent) {
      if (mine()) taps<Weight>(part<Weight>(args_) + Weight::base(head), F::kConvWidth);
    }
  }

  GDN_DEVICE bool mine() { return number_++ % (F::kThreads / kWaveSize) == wave_id(); }

  // `count` rows of a part, `stride` elements apart.
  template <class M>
  GDN_DEVICE static void rows(MapElements<M> from, int count, long long stride) {
    constexpr int kInLine = 128 / static_cast<int>(sizeof(typename M::Element));
    constexpr int kLines = ceil_div((M::kRun - 1) * M::kInnerStride + 1, kInLine);
    const int line = lane_id();
    if (line < count * kLines) bring_near(from + (line / kLines * stride + line % kLines * kInLine));
  }
  // Taps may be innermost.
  template <class M>
  GDN_DEVICE static void taps(MapElements<M> from, int count) {
    rows<M>(from, M::kTapStride == 1 ? 1 : count, M::kTapStride);
  }

  const Args& args_;
  const Draft<F>& draft_;
  int number_ = 0;
};

// Whether the last accepted token has a record: accepting more tokens than there were is the caller's mistake.
template <class F>
GDN_DEVICE bool has_records(const Args& args, const Draft<F>& draft, int head) {
  using D = typename F::RecordDecay;
  if (draft.accepted == 0) return true;
  const auto last = part<D>(args, draft.slot) + (draft.accepted - 1) * D::kTapStride;
  return head_number<D>(last, head) >= 0.0f;
}

// The windows of q and k that were not stored while another part might still read them.
template <class F>
GDN_DEVICE void store_key_windows(const Args& args, const Draft<F>& draft, int key_head, float* unused) {
  Deal<F::kThreads> deal;
  convolve_tokens<F, typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ,
                  WindowUse::kStore>(args, draft, key_head, deal, TokensToShared<F::kKeyDim>{unused});
  convolve_tokens<F, typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK,
                  WindowUse::kStore>(args, draft, key_head, deal, TokensToShared<F::kKeyDim>{unused});
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

// Rows of the output behind the last sequence's, by the blocks behind those of the sequences.
template <class F>
GDN_DEVICE void zero_excess_rows(const Args& args, const SequenceShare<F>& share) {
  const int number = share.sequence - args.sequences;
  long long end = args.rows;
  if constexpr (F::kOffsetsOperand >= 0) {
    end = index_at<typename F::Offset>(args, F::kOffsetsOperand, args.sequences);
  }
  const int last = smaller(args.out_rows, (number + 1) * kExcessRows);
  int row = number * kExcessRows;
  if (row < end) row = end < last ? static_cast<int>(end) : last;
  for (; row < last; ++row) {
    for (int g = share.first_head(); g < share.end_head(); ++g) {
      fill_output<F>(args, row, value_head<F>(share.key_head, g), 0.0f);
    }
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
      zero_excess_rows(args, share);
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
    NearParts<F>(args, draft, turn);
    DeltaTokens<F> delta(args, sequence, draft, turn);
    if (first_turn && reads_early) wait_for_previous();

    if constexpr (replays<F>()) {
      // With the state under way. A head of its own: that of another part may be overwritten by now.
      if (first_turn && !has_records(args, draft, value_head<F>(key_head, first_head))) {
        fill_tokens(args, draft, share, float_of(0x7fc00000u));
        return;
      }
    }
    if constexpr (F::kRollback == Rollback::kSlots) {
      if (first_turn && thread_id() < draft.tokens) {
        shared.own_slot[thread_id()] = slot_of_step<F>(args, sequence, thread_id());
      }
    }
    if constexpr (replays<F>()) fetch_records(args, draft, turn, first_turn, shared);
    Deal<F::kThreads> deal;
    if (first_turn) {
      convolve_tokens<F, typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ, kKeyWindows>(
          args, draft, key_head, deal, TokensToShared<F::kKeyDim>{shared.q[0]});
      convolve_tokens<F, typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK, kKeyWindows>(
          args, draft, key_head, deal, TokensToShared<F::kKeyDim>{shared.k[0]});
    }
    for (int g = 0; g < turn.heads; ++g) {
      convolve_tokens<F, typename F::InputV, typename F::WeightV, typename F::BiasV, typename F::WindowV>(
          args, draft, value_head<F>(key_head, first_head + g), deal,
          TokensToShared<kValues>{shared.vo[0] + g * F::kValueDim});
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
    // A number of each token and head.
    for (int i = F::kThreads - 1 - thread_id(); i < draft.tokens * Shared::kHeads; i += F::kThreads) {
      const int token = i / Shared::kHeads, g = i % Shared::kHeads;
      if (g >= turn.heads) continue;
      const int head = value_head<F>(key_head, first_head + g);
      shared.beta[token][g] = beta_of<F>(args, draft.first + token, head);
      if constexpr (!decays_by_channel<F>()) {
        shared.decay[token][g] = exponential(log_decay_of<F>(args, draft.first + token, head));
      }
    }
    if constexpr (kParts > 1) cluster_arrive();  // this part has read the windows and the record of q and k
    barrier();
    if (first_turn) {
      normalise_tokens<F>(shared, draft.tokens);
      barrier();
    }
    if constexpr (replays<F>()) {
      if (kParts == 1 && first_turn) keep_keys(args, draft, key_head, shared);
      keep_decays(args, draft, turn, shared);
    }
    delta.run(shared);
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
