// decode_spec: up to F::kTokens tokens of every sequence through the whole layer between the projections, in one
// launch, so that those which turn out to be rejected can be undone (see draft.h).
//
//   operands  as of decode; with the scheme's pool (intermediate_state, or record_k, record_u and record_decay), a slot
//             for each sequence or for each of its tokens, cu_seqlens, and accepted where a launch undoes the last one
//   rows      sequences of padding, and mistaken ones: see draft_of in draft.h; a sequence without tokens is left alone
//   grid      x = sequences, y = key heads; block (sequence, j) owns the channels of q_j, k_j and of the value heads
//   that
//             read key head j, so no two blocks share a window, a state or a record
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
GDN_DEVICE void fetch_records(const Args& args, const Draft<F>& draft, const DeltaTurn& turn, TokensShared<F>& shared) {
  using K = typename F::RecordK;
  using U = typename F::RecordU;
  using D = typename F::RecordDecay;
  for (int t = 0; t < draft.accepted; ++t) {
    if (turn.first_head == 0) {
      const auto from = part<K>(args, draft.slot) + K::base(turn.key_head) + t * K::kTapStride;
      for (int i = thread_id(); i < F::kKeyDim; i += F::kThreads) {
        shared.old_k[t][i] = load_one<float>(from + i * K::kInnerStride);
      }
    }
    for (int g = 0; g < turn.heads; ++g) {
      const int head = value_head<F>(turn.key_head, turn.first_head + g);
      const auto from = part<U>(args, draft.slot) + U::base(head) + t * U::kTapStride;
      for (int i = thread_id(); i < F::kValueDim; i += F::kThreads) {
        shared.old_u[t][g * F::kValueDim + i] = load_one<float>(from + i * U::kInnerStride);
      }
      const auto decays = part<D>(args, draft.slot) + D::base(head) + t * D::kTapStride;
      for (int i = thread_id(); i < decays_of_head<F>(); i += F::kThreads) {
        shared.old_decay[t][g * decays_of_head<F>() + i] = load_one<float>(decays + i * D::kInnerStride);
      }
    }
  }
}

// k and the decays of this launch's tokens to the records, after the old ones were fetched. A step that the launch has
// no token for gets a decay that no token has.
template <class F>
GDN_DEVICE void keep_records(const Args& args, const Draft<F>& draft, const DeltaTurn& turn,
                             const TokensShared<F>& shared) {
  using K = typename F::RecordK;
  using D = typename F::RecordDecay;
  if (turn.first_head == 0) {
    for (int t = wave_id(); t < draft.tokens; t += F::kThreads / kWaveSize) {
      const auto to = part<K>(args, draft.slot) + K::base(turn.key_head) + t * K::kTapStride;
      for (int i = lane_id(); i < F::kKeyDim; i += kWaveSize)
        store_one<float>(to + i * K::kInnerStride, shared.k[t][i]);
    }
  }
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

// Whether the last accepted token has a record: accepting more tokens than there were is the caller's mistake.
template <class F>
GDN_DEVICE bool has_records(const Args& args, const Draft<F>& draft, int key_head) {
  using D = typename F::RecordDecay;
  if (!draft.fate.computed || draft.accepted == 0) return true;
  const auto last = part<D>(args, draft.slot) + (draft.accepted - 1) * D::kTapStride;
  return head_number<D>(last, value_head<F>(key_head, 0)) >= 0.0f;
}

template <class F>
GDN_DEVICE void decode_spec(const Args& args) {
  const int sequence = block_row();
  const int key_head = block_head();
  Draft<F> draft = draft_of<F>(args, sequence);
  if constexpr (replays<F>()) {
    if (!has_records(args, draft, key_head)) draft.fate = {false, true, float_of(0x7fc00000u)};
  }
  if (!draft.fate.computed) {
    for (int t = 0; draft.fate.filled && t < draft.tokens; ++t) {
      for (int g = 0; g < F::kGroup; ++g) {
        fill_output<F>(args, draft.first + t, value_head<F>(key_head, g), draft.fate.filler);
      }
    }
    return;
  }
  if (draft.tokens == 0) return;

  using Shared = TokensShared<F>;
  constexpr int kValues = Shared::kHeads * F::kValueDim;
  GDN_SHARED(Shared, shared);
  static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of a block");
  for (int first_head = 0; first_head < F::kGroup; first_head += Shared::kHeads) {
    const DeltaTurn turn{key_head, first_head, smaller(Shared::kHeads, F::kGroup - first_head)};
    DeltaTokens<F> delta(args, sequence, draft, turn);

    Deal<F::kThreads> deal;
    if (first_head == 0) {
      convolve_tokens<F, typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ>(
          args, draft, key_head, deal, TokensToShared<F::kKeyDim>{shared.q[0]});
      convolve_tokens<F, typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK>(
          args, draft, key_head, deal, TokensToShared<F::kKeyDim>{shared.k[0]});
    }
    for (int g = 0; g < turn.heads; ++g) {
      convolve_tokens<F, typename F::InputV, typename F::WeightV, typename F::BiasV, typename F::WindowV>(
          args, draft, value_head<F>(key_head, first_head + g), deal,
          TokensToShared<kValues>{shared.vo[0] + g * F::kValueDim});
    }
    for (int t = 0; t < draft.tokens; ++t) {
      for (int g = 0; g < turn.heads; ++g) {
        fetch_gates<F>(args, draft.first + t, value_head<F>(key_head, first_head + g), deal,
                       shared.gates[t] + g * F::kValueDim);
      }
    }
    if constexpr (decays_by_channel<F>()) {
      for (int t = 0; t < draft.tokens; ++t) {
        for (int g = 0; g < turn.heads; ++g) {
          log_decays<F>(args, draft.first + t, value_head<F>(key_head, first_head + g), deal,
                        DecaysToShared{shared.decay[t] + g * F::kKeyDim});
        }
      }
    }
    // A number of each token and head: to the last threads, since the deal of channels favours the first.
    for (int t = 0; t < draft.tokens; ++t) {
      for (int g = F::kThreads - 1 - thread_id() - t * turn.heads; g < turn.heads; g += F::kThreads) {
        if (g < 0) continue;
        const int head = value_head<F>(key_head, first_head + g);
        shared.beta[t][g] = beta_of<F>(args, draft.first + t, head);
        if constexpr (!decays_by_channel<F>()) {
          shared.decay[t][g] = exponential(log_decay_of<F>(args, draft.first + t, head));
        }
      }
    }
    if constexpr (replays<F>()) fetch_records(args, draft, turn, shared);
    barrier();
    if (first_head == 0) {
      normalise_tokens<F>(shared, draft.tokens);
      barrier();
    }
    if constexpr (replays<F>()) keep_records(args, draft, turn, shared);
    delta.run(shared);
    barrier();
    for (int t = 0; t < draft.tokens; ++t) {
      for (int g = 0; g < turn.heads; ++g) {
        if ((t * turn.heads + g) % (F::kThreads / kWaveSize) != wave_id()) continue;
        gated_norm<F>(args, draft.first + t, value_head<F>(key_head, first_head + g), shared.vo[t] + g * F::kValueDim,
                      shared.gates[t] + g * F::kValueDim);
      }
    }
    if (first_head + Shared::kHeads < F::kGroup) barrier();  // the next turn overwrites them all
  }
}

}  // namespace gdn
