// The gated delta rule of a few tokens over a state whose memory has the key channel innermost (see delta_tokens.h).
#pragma once

#include "gdn/tokens_shared.h"

namespace gdn {

// Several tokens take several sums over a row's lanes, one after the other, and a shuffle costs four times what a
// multiplication does: so a thread may stand for several of the lanes that decode deals a row out to (F::kRowLanes says
// how many threads there are instead). It adds up what each of them would on its own, and then the sums in the order in
// which they would meet, so that they have the same bits. S^T k has to be known before the next token's turn; S^T q has
// not: the lanes' parts of it are kept, and what a few tokens have of them is added up at once, each sum for one lane.
template <class F>
class TokenRows {
  using State = typename F::State;
  using Scale = typename F::StateScale;
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

  // Neighbouring threads share a row, so that they read and write whole lines of memory; or they belong to different
  // teams (F::kInterleave), so that shared memory has less to serve: what neighbours read is then the same, and threads
  // whose 16 bytes lie 32 apart, as those of 16-bit states do, do not meet in a bank.
  static constexpr int kTeamsOfWave = kWaveSize / kLanes;
  static constexpr int kLaneStride = F::kInterleave != 0 ? kTeamsOfWave : 1;

  // Tokens whose readouts are added up together: sums for as many lanes as there are, or what registers hold.
  static constexpr int kTogether = smaller(F::kTokens, larger(1, 4 / kRows));
  static constexpr int kSums = kTogether * kRows;
  static constexpr int kMine = dealt_count<kLanes, kSums>();

  static constexpr bool kScaled = scaled_state<F>();
  static constexpr bool kInbox = F::kInbox != Inbox::kNone;
  static constexpr int kOfHead = kKeyDim * kValueDim;  // numbers of a head in the inbox
  // Rows of the first head that come to registers, beside an inbox of all others.
  static constexpr int kBeside = F::kInbox == Inbox::kRest ? kValueDim / 2 : 0;
  static_assert(!kInbox || (kBulkFetches && State::kInnerStride == 1 && State::kOuterStride == kKeyDim && !kScaled),
                "a head's state is one run of memory");
  static_assert(kBeside == 0 || (kBeside % kRowsOfPass == 0 && kWholePass), "whole passes come to registers");
  struct Pass {
    Piece piece[kRows][kPieces];
    float scale[kScaled ? kRows : 1];
  };
  using Numbers = float[kRows][kPieces][kWidth];

  // Of tokens together, each row's: this lane's part of S^T q before the head's decay, and u.
  struct Readouts {
    float sum[kSums], u[kSums];
  };

 public:
  GDN_DEVICE TokenRows(const Args& args, int sequence, const Draft<F>& draft, const DeltaTurn& turn)
      : args_(args),
        draft_(draft),
        sequence_(sequence),
        turn_(turn),
        lane_(lane_id() / kLaneStride % kLanes),
        team_(wave_id() * kTeamsOfWave + (F::kInterleave != 0 ? lane_id() % kTeamsOfWave : lane_id() / kLanes)),
        slot_(initial_slot<F>(args, sequence, draft)),
        initial_(part<State>(args, slot_) + place<State>()) {}

  // Whether registers are loaded in one place: the inbox may have been asked for its rows before.
  static constexpr bool kBeginsOnce = kBeside > 0;

  // Issues the loads of the first rows, or the requests for all of them; all waves, before run(). `asked`: of the
  // inbox.
  GDN_DEVICE void begin(TokensShared<F>& shared, bool asked = false) {
    if constexpr (!kInbox || kBeside > 0) read(0, 0, ahead_);
    if constexpr (!kInbox) {
      bring_passes_near<F>(part<State>(args_, slot_), turn_, kRowsOfPass);
    } else {
      if (!asked) ask_inbox(shared);
    }
  }
  GDN_DEVICE void ask_inbox(TokensShared<F>& shared) {
    if (thread_id() == F::kThreads - kWaveSize) {  // one that has nothing to convolve
      const auto beside = [](int head) { return head == 0 ? kBeside : 0; };
      const auto bytes = [&](int head) {
        return (kOfHead - beside(head) * kKeyDim) * static_cast<int>(sizeof(Element));
      };
      for (int head = 0; head < turn_.heads; ++head) mailbox_open(shared.states[head], bytes(head));
      for (int head = 0; head < turn_.heads; ++head) {
        bulk_fetch(in_inbox(head, beside(head)),
                   part<State>(args_, slot_) + (State::base(head_of(head)) + beside(head) * kKeyDim), bytes(head),
                   shared.states[head]);
      }
    }
  }

  // In place of run(), all waves: what begin() asked for must not arrive where another block has its numbers by then.
  GDN_DEVICE void give_up(TokensShared<F>& shared) {
    if constexpr (kInbox) {
      barrier();
      for (int head = 0; head < turn_.heads; ++head) mailbox_wait(shared.states[head]);
    }
  }

  // All waves, after a barrier behind the last write to shared. o stands in place of v after another barrier.
  GDN_DEVICE void run(TokensShared<F>& shared) {
    if constexpr (replays<F>()) {
      if (draft_.tokens == F::kTokens && draft_.accepted == F::kTokens) return go_through<true>(shared);
    }
    go_through<false>(shared);
  }

 private:
  // Passes one after the other. kFull: as many tokens and records as there can be, so that no branch stands between one
  // and the next, and what one reads is asked for while the one before is added up.
  template <bool kFull>
  GDN_DEVICE void go_through(TokensShared<F>& shared) {
    const int tokens = kFull ? F::kTokens : draft_.tokens;
    const int accepted = kFull ? F::kTokens : draft_.accepted;
    int head = 0;
    int first = 0;
    while (true) {
      if constexpr (kInbox) {
        if (kBeside == 0 || head > 0 || first >= kBeside) {
          if (first == (head == 0 ? kBeside : 0)) mailbox_wait(shared.states[head]);
          take(head, first, ahead_);
        }
      }
      Numbers s;
      GDN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        GDN_UNROLL
        for (int p = 0; p < kPieces; ++p) {
          GDN_UNROLL
          for (int i = 0; i < kWidth; ++i) {
            s[r][p][i] = ahead_.piece[r][p].get(i);
            if constexpr (kScaled) s[r][p][i] *= ahead_.scale[r];
          }
        }
      }
      int next_head = head;
      int next_first = first + kRowsOfPass;
      if (next_first >= kValueDim) next_first = 0, ++next_head;
      const bool more = next_head < turn_.heads;
      if constexpr (!kInbox) {
        if (more) read(next_head, next_first, ahead_);
      } else if constexpr (kBeside > kRowsOfPass) {
        if (next_head == 0 && next_first < kBeside) read(0, next_first, ahead_);
      }
      if constexpr (replays<F>()) {
        GDN_UNROLL
        for (int t = 0; t < F::kTokens; ++t) {
          if (t < accepted) replay(shared, t, head, first, s);
        }
        if (accepted > 0) store_state(draft_.slot, head, first, s);
      }
      GDN_UNROLL
      for (int begin = 0; begin < F::kTokens; begin += kTogether) {
        if (begin >= tokens) break;
        Readouts readouts;
        GDN_UNROLL
        for (int i = 0; i < kTogether; ++i) {
          const int t = begin + i;
          if (t < tokens) {
            step(shared, t, tokens, head, first, s, i * kRows, readouts);
            keep(shared, t, head, first, s);
          } else {
            GDN_UNROLL
            for (int r = 0; r < kRows; ++r) readouts.sum[i * kRows + r] = readouts.u[i * kRows + r] = 0.0f;
          }
        }
        read_out(shared, begin, tokens, head, first, readouts);
      }
      if (!more) break;
      head = next_head, first = next_first;
    }
  }

  GDN_DEVICE int row(int first, int r) const { return first + team_ * kRows + r; }
  // The access that piece p of a thread is, behind its first: strand by strand, and in each as decode's lane has them.
  GDN_HD static constexpr int access(int p) { return p / Deal::kPieces * kLanes + p % Deal::kPieces * Deal::kLanes; }
  GDN_DEVICE int channel(int p) const { return lane_ * kWidth + access(p) * kWidth; }
  GDN_DEVICE bool channels_inside(int p) const { return kWholeRow || lane_ + access(p) < kAccesses; }
  GDN_DEVICE bool row_inside(int value_channel) const { return kWholePass || value_channel < kValueDim; }
  GDN_DEVICE int head_of(int head) const { return value_head<F>(turn_.key_head, turn_.first_head + head); }

  // Where the thread's elements begin in a head's state, and how far behind that piece p of row r is: the first is
  // added to pointers once, the second is part of an access.
  template <class M>
  GDN_DEVICE int place() const {
    return team_ * kRows * M::kOuterStride + lane_ * kWidth * M::kInnerStride;
  }
  template <class M>
  GDN_HD static constexpr int offset(int r, int p) {
    return r * M::kOuterStride + access(p) * kWidth * M::kInnerStride;
  }

  GDN_DEVICE void read(int head, int first, Pass& pass) const {
    const auto from = initial_ + (State::base(head_of(head)) + first * State::kOuterStride);
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if constexpr (kScaled) {
        const bool inside = row_inside(row(first, r));
        pass.scale[r] = inside ? load_one<typename Scale::Element>(scale_at(slot_, head, row(first, r))) : 0.0f;
      }
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        pass.piece[r][p].clear();
        if (row_inside(row(first, r)) && channels_inside(p)) {
          pass.piece[r][p].raw = load_stream<Piece::kBytes>(from + offset<State>(r, p));
        }
      }
    }
  }

  // Where a row of a head is in the inbox; those beside it have no place.
  GDN_DEVICE static Element* in_inbox(int head, int value_channel) {
    return reinterpret_cast<Element*>(dynamic_shared()) + (head * kOfHead + (value_channel - kBeside) * kKeyDim);
  }
  // The same from the inbox.
  GDN_DEVICE void take(int head, int first, Pass& pass) const {
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        pass.piece[r][p].clear();
        if (!row_inside(row(first, r)) || !channels_inside(p)) continue;
        const Element* const from = in_inbox(head, row(first, r)) + channel(p);
        const auto* const words = static_cast<const unsigned*>(__builtin_assume_aligned(from, Piece::kBytes));
        GDN_UNROLL
        for (int i = 0; i < Raw<Piece::kBytes>::kWords; ++i) pass.piece[r][p].raw.word[i] = words[i];
      }
    }
  }

  GDN_DEVICE MapElements<Scale> scale_at(long long slot, int head, int value_channel) const {
    return part<Scale>(args_, slot) + (Scale::base(head_of(head)) + value_channel * Scale::kInnerStride);
  }

  // To the state of a slot, rounded as decode rounds what it stores; the numbers at hand stay as they are.
  GDN_DEVICE void store_state(long long slot, int head, int first, const Numbers& s) const {
    const int begin = State::base(head_of(head)) + first * State::kOuterStride + place<State>();
    const auto to = part<State>(args_, slot) + begin;
    const StateChance<F> chance(args_, slot);
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float inverse = 1.0f;
      if constexpr (kScaled) {
        float amax[1] = {0.0f};
        GDN_UNROLL
        for (int p = 0; p < kPieces; ++p) {
          GDN_UNROLL
          for (int i = 0; i < kWidth; ++i) amax[0] = magnitude(s[r][p][i]) > amax[0] ? magnitude(s[r][p][i]) : amax[0];
        }
        largest_over_lanes<kLanes, kLaneStride>(amax);
        const RowScale next = row_scale<Element>(amax[0]);
        inverse = next.inverse;
        if (row_inside(row(first, r)) && lane_ == r % kLanes) {
          store_one<typename Scale::Element>(scale_at(slot, head, row(first, r)), next.scale);
        }
      }
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        float x[kWidth];
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) x[i] = kScaled ? s[r][p][i] * inverse : s[r][p][i];
        chance.round(begin + offset<State>(r, p), x);
        if (row_inside(row(first, r)) && channels_inside(p)) {
          store_along<State, kWidth, State::kInnerStride, F::kEvictFirst != 0>(to + offset<State>(r, p), x);
        }
      }
    }
  }

  // To the states of a sequence's tokens.
  GDN_DEVICE void store_intermediate(int t, int head, int first, const Numbers& s) const {
    using To = typename F::Intermediate;
    const auto to = part<To>(args_, sequence_) +
                    (To::base(head_of(head)) + t * To::kTapStride + first * To::kOuterStride + place<To>());
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        if (row_inside(row(first, r)) && channels_inside(p)) {
          store_along<To, kWidth, To::kInnerStride>(to + offset<To>(r, p), s[r][p]);
        }
      }
    }
  }

  // What the scheme wants of the state after a token.
  GDN_DEVICE void keep(const TokensShared<F>& shared, int t, int head, int first, const Numbers& s) const {
    if constexpr (F::kRollback == Rollback::kSlots) {
      store_state(shared.own_slot[t], head, first, s);
    } else if constexpr (F::kRollback == Rollback::kIntermediate) {
      store_intermediate(t, head, first, s);
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

  // A token of `tokens`; its readouts begin with number `number`, a constant after unrolling.
  GDN_DEVICE void step(TokensShared<F>& shared, int t, int tokens, int head, int first, Numbers& s, int number,
                       Readouts& readouts) const {
    float q[kPieces][kWidth];
    float k[kPieces][kWidth];
    float channel_decay[kPieces][kWidth];
    fetch(shared.q[t], q);
    fetch(shared.k[t], k);
    fetch_decays(shared.decay[t], head, channel_decay);
    const float decay = shared.head_decay(shared.decay[t], head);
    const float beta = shared.beta[t][head];
    float v[kRows];
    float sums[kRows];  // S^T k, before the head's decay
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
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
      sums[r] = of_strand[0][0];
      readouts.sum[number + r] = of_strand[0][1];
    }
    sum_over_lanes<kLanes, kLaneStride>(sums);
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) readouts.u[number + r] = beta * (v[r] - decay * sums[r]);
    // Behind the last token nobody asks for the state, unless it is stored.
    if (replays<F>() && t + 1 == tokens) return;
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      GDN_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        GDN_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          s[r][p][i] = plus_product(decay * (channel_decay[p][i] * s[r][p][i]), readouts.u[number + r], k[p][i]);
        }
      }
    }
  }

  // o of the tokens from `begin` on, and their records of u: a lane has a few of all.
  GDN_DEVICE void read_out(TokensShared<F>& shared, int begin, int tokens, int head, int first,
                           const Readouts& readouts) const {
    float sum[kMine];
    float u[kMine];
    deal_sums<kLanes, kLaneStride>(lane_, readouts.sum, sum);
    deal<kLanes>(lane_, readouts.u, u);
    wave_barrier();  // every lane has read v, whose place o takes
    GDN_UNROLL
    for (int i = 0; i < kMine; ++i) {
      const int number = first_dealt<kLanes, kSums>(lane_) + i;
      const int t = begin + number / kRows;
      const int value_channel = row(first, number % kRows);
      if (!first_with_dealt<kLanes, kSums>(lane_) || t >= tokens || !row_inside(value_channel)) continue;
      const float decay = shared.head_decay(shared.decay[t], head);
      shared.vo[t][head * kValueDim + value_channel] =
          rounded<typename F::RoundO>(plus_product(decay * sum[i], u[i], shared.product[t]));
      if constexpr (replays<F>()) {
        using Record = typename F::RecordU;
        store_one<float>(part<Record>(args_, draft_.slot) + (Record::base(head_of(head)) + t * Record::kTapStride +
                                                             value_channel * Record::kInnerStride),
                         u[i]);
      }
    }
  }

  const Args& args_;
  const Draft<F>& draft_;
  int sequence_;
  DeltaTurn turn_;
  int lane_;                    // among the lanes that share a row
  int team_;                    // which lanes share a row
  long long slot_;              // that the sequence starts from
  MapElements<State> initial_;  // its state, with the thread's place
  Pass ahead_;
};

}  // namespace gdn
