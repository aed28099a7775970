// The gated delta rule of a few tokens over a bf16 state with the key channel innermost, replayed from records, by
// matrix products of warps (see delta_tokens.h).
//
// With D the decay of all accepted records, w_j that of those behind record j, c_t that of this launch's tokens up to t
// and c_s,t that of the tokens behind s up to t, the recurrence solved by hand is
//
//   S'  = D S + sum_j (w_j k_j) u_j^T                                                        what is stored
//   u_t = beta_t (v_t - c_t S'^T k_t - sum_{s<t} c_s,t (k_s . k_t) u_s)
//   o_t = c_t S'^T q_t + sum_{s<=t} c_s,t (k_s . q_t) u_s
//   S'^T x = D S^T x + sum_j w_j (k_j . x) u_j
//
// so that the state enters as it stands in memory, an operand without rounding: a warp multiplies 16 rows of it by k
// and q of four tokens at once, and adds the records to it by products as well. k, q and w u are each the sum of two
// bf16 numbers, which leaves 2^-16 of an operand out, and the state's own rounding 2^-9. Not the bits of decode, which
// rounds the state after each token and not once for all of them.
//
// Lane 4 g + c of a warp has rows g and g + 8 and of each the 16 bytes that begin with key channel 8 c of every 32. The
// order of key channels within a product is the same for both operands, and no matter.
#pragma once

#include "gdn/tokens_shared.h"

#if defined(GDN_ON_HOST)
#include "gdn_host/products.h"
#endif

namespace gdn {

// d += a b, 16x16 by 16x8, bf16 in and fp32 out. Lane 4 g + c: d is rows g (d[0], d[1]) and g + 8, columns 2 c and 2 c
// + 1; a[0] and a[2] are row g, a[1] and a[3] row g + 8, of columns 2 c and 2 c + 1 (a[0], a[1]) and 8 more; b0 and b1
// column g of the same rows.
#if defined(GDN_ON_CUDA)
GDN_DEVICE void product_16x8_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#else
GDN_DEVICE void product_16x8_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  gdn_host::product_16x8_bf16(d, a, b0, b1);
}
#endif

// Two numbers as bf16, and what that leaves of them.
struct TwoParts {
  unsigned high, low;
  GDN_DEVICE TwoParts(float x, float y)
      : high(float_to_bf16_pair(x, y)),
        low(float_to_bf16_pair(x - float_of(high << 16), y - float_of(high & 0xffff0000u))) {}
};

template <class F>
class TokenProducts {
  using State = typename F::State;
  using Element = typename State::Element;
  using Shared = TokensShared<F>;
  static constexpr int kKeyDim = F::kKeyDim, kValueDim = F::kValueDim, kTokens = F::kTokens;
  static constexpr int kWidth = 8;                // numbers of an access
  static constexpr int kAccesses = kKeyDim / 32;  // of a lane in a row
  static constexpr int kTiles = kValueDim / 16, kWaves = F::kThreads / kWaveSize;
  using Piece = Pack<Element, kWidth>;
  static_assert(kWaveSize == 32 && replays<F>() && !decays_by_channel<F>() && kTokens <= 4, "what the plan checks");
  static_assert(State::kInnerStride == 1 && kKeyDim % 32 == 0 && kValueDim % 16 == 0 && sizeof(Element) == 2,
                "and of the state");

  struct Tile {
    Piece piece[2][kAccesses];
  };

 public:
  GDN_DEVICE TokenProducts(const Args& args, int, const Draft<F>& draft, const DeltaTurn& turn)
      : args_(args),
        draft_(draft),
        turn_(turn),
        group_(lane_id() / 4),
        place_(lane_id() % 4),
        state_(part<State>(args, draft.slot) + (group_ * State::kOuterStride + place_ * kWidth)) {}

  // Whether begin() is called in one place: the L2 may have been asked for its rows before. Where rows were asked for
  // in either of two places, copies made one of the two sets of registers, right behind the loads, and waited for them:
  // in front of all that run() prepares. Parts of a key head have no registers left for it.
  static constexpr bool kBeginsOnce = F::kHeadParts == 1;

  // Asks the L2 for what begin() loads.
  GDN_DEVICE void bring_near() const {
    constexpr int kRows = smaller(kWaves * 16, kValueDim);
    constexpr int kBytes = ((kRows - 1) * State::kOuterStride + kKeyDim) * static_cast<int>(sizeof(Element));
    if (thread_id() == F::kThreads - kWaveSize) {  // one that has nothing to convolve
      bring_run_near(part<State>(args_, draft_.slot) + State::base(head_of(0)), kBytes);
    }
  }

  // Issues the loads of the first rows; all waves, before run().
  GDN_DEVICE void begin() {
    read<kBeginsOnce && kWaves <= kTiles>(wave_id(), ahead_);
    bring_passes_near<F>(part<State>(args_, draft_.slot), turn_, kWaves * 16);
  }

  // All waves, after a barrier behind the last write to shared. o stands in place of v after another barrier.
  GDN_DEVICE void run(Shared& shared) {
    prepare_operands(shared);
    barrier();
    prepare_factors(shared);
    barrier();
    // A zero that nobody knows before: the products take the rows' words in another order of registers, and a compiler
    // puts these copies, which wait for the rows, as far ahead as it can.
    if constexpr (kBeginsOnce) {
      const unsigned zero = shared.factors[0].zero;
      GDN_UNROLL
      for (int r = 0; r < 2; ++r) {
        GDN_UNROLL
        for (int a = 0; a < kAccesses; ++a) {
          GDN_UNROLL
          for (int i = 0; i < kWidth / 2; ++i) ahead_.piece[r][a].raw.word[i] ^= zero;
        }
      }
    }
    const int tiles = turn_.heads * kTiles;
    for (int tile = wave_id(); tile < tiles; tile += kWaves) {
      const Tile s = ahead_;
      read(tile + kWaves, ahead_);
      work(shared, tile / kTiles, tile % kTiles * 16, s);
    }
  }

 private:
  GDN_DEVICE int head_of(int head) const { return value_head<F>(turn_.key_head, turn_.first_head + head); }

  // kFirstHead: the tile is one of the first head, and so there is one.
  template <bool kFirstHead = false>
  GDN_DEVICE void read(int number, Tile& tile) const {
    const int head = kFirstHead ? 0 : number / kTiles, first = number % kTiles * 16;
    if (!kFirstHead && head >= turn_.heads) return;
    const auto from = state_ + (State::base(head_of(head)) + first * State::kOuterStride);
    GDN_UNROLL
    for (int r = 0; r < 2; ++r) {
      GDN_UNROLL
      for (int a = 0; a < kAccesses; ++a) {
        tile.piece[r][a].raw = load_stream<16>(from + (r * 8 * State::kOuterStride + a * 32));
      }
    }
  }

  // The words of k, q and the records in the order in which lanes take them, and k . k and the like, step by step.
  // Column 2 t of the tokens' operand is k of token t, column 2 t + 1 its q.
  GDN_DEVICE void prepare_operands(Shared& shared) const {
    const int t = group_ / 2;
    const bool inside = t < draft_.tokens;
    const float* const column = group_ % 2 == 0 ? shared.k[smaller(t, kTokens - 1)] : shared.q[smaller(t, kTokens - 1)];
    // The rows that they meet: records, then k.
    const bool old = group_ < 4;
    const int number = group_ % 4;
    const bool row_is = number < (old ? draft_.accepted : draft_.tokens);
    const float* const row = old ? shared.old_k[smaller(number, kTokens - 1)] : shared.k[smaller(number, kTokens - 1)];
    for (int step = wave_id(); step < kKeyDim / 16; step += kWaves) {
      const int channel = step / 2 * 32 + place_ * 8 + step % 2 * 4;
      float x[4], y[4];
      GDN_UNROLL
      for (int i = 0; i < 4; ++i) {
        x[i] = inside ? column[channel + i] : 0.0f;
        y[i] = row_is ? row[channel + i] : 0.0f;
      }
      const TwoParts x0(x[0], x[1]), x1(x[2], x[3]), y0(y[0], y[1]), y1(y[2], y[3]);
      unsigned(&to)[4] = shared.token[step][lane_id()];
      to[0] = x0.high, to[1] = x1.high, to[2] = x0.low, to[3] = x1.low;
      const unsigned a[4] = {y0.high, y0.low, y1.high, y1.low};  // a row's two parts are rows 8 apart
      float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      product_16x8_bf16(d, a, x0.high, x1.high);
      product_16x8_bf16(d, a, x0.low, x1.low);
      shared.dots[step][group_][2 * place_] = d[0] + d[2];
      shared.dots[step][group_][2 * place_ + 1] = d[1] + d[3];
    }
    // Of two records two parts each, against which w u has them twice: all four products of parts.
    const int record = place_ % 2 * 2;
    for (int a = wave_id(); a < kAccesses; a += kWaves) {
      GDN_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int channel = a * 32 + group_ / 2 * 8 + 2 * j + group_ % 2;
        const float x = record < draft_.accepted ? shared.old_k[smaller(record, kTokens - 1)][channel] : 0.0f;
        const float y = record + 1 < draft_.accepted ? shared.old_k[smaller(record + 1, kTokens - 1)][channel] : 0.0f;
        const TwoParts both(x, y);
        shared.record[a][lane_id()][j] = place_ < 2 ? both.high : both.low;
      }
    }
  }

  // What the numbers of a row are multiplied by, a table for each head.
  GDN_DEVICE void prepare_factors(Shared& shared) const {
    for (int i = thread_id(); i < turn_.heads * 16; i += F::kThreads) {
      const int head = i / 16, s = i % 16 / 4, t = i % 4;
      const bool token = t < draft_.tokens, record = s < draft_.accepted;
      float old_k = 0.0f, old_q = 0.0f, new_k = 0.0f, new_q = 0.0f;
      GDN_UNROLL
      for (int step = 0; step < kKeyDim / 16; ++step) {
        old_k += shared.dots[step][s][2 * t], old_q += shared.dots[step][s][2 * t + 1];
        new_k += shared.dots[step][4 + s][2 * t], new_q += shared.dots[step][4 + s][2 * t + 1];
      }
      float all = 1.0f, weight = 1.0f, upto = 1.0f, between = 1.0f;
      GDN_UNROLL
      for (int n = 0; n < kTokens; ++n) {
        if (n < draft_.accepted) {
          const float decay = shared.old_decay[n][head];
          all *= decay;
          if (n > s) weight *= decay;
        }
        if (n < draft_.tokens && n <= t) {
          const float decay = shared.decay[n][head];
          upto *= decay;
          if (n > s) between *= decay;
        }
      }
      const float beta = token ? shared.beta[smaller(t, kTokens - 1)][head] : 0.0f;
      const float product = token ? shared.product[smaller(t, kTokens - 1)] : 0.0f;
      TokenFactors& to = shared.factors[head];
      to.old_x[s][t] = record && token ? beta * (upto * (weight * old_k)) : 0.0f;
      to.old_y[s][t] = record && token ? upto * (weight * old_q) : 0.0f;
      to.new_x[s][t] = s < t && token ? beta * (between * new_k) : 0.0f;
      to.new_y[s][t] = s < t ? between * new_q : s == t ? product : 0.0f;
      if (s == 0) to.x[t] = beta * (upto * all), to.y[t] = upto * all, to.beta[t] = beta;
      if (t == 0) to.weight[s] = record ? weight : 0.0f;
      if (s == 0 && t == 0) to.all = all, to.zero = 0;
    }
  }

  // The numbers of the four lanes of a row, in their order.
  GDN_DEVICE void gather(float mine, float (&all)[4]) const {
    const float other = shuffle_xor<1>(mine);
    const bool odd = place_ % 2 != 0, high = place_ >= 2;
    const float first = odd ? other : mine, second = odd ? mine : other;
    const float first_across = shuffle_xor<2>(first), second_across = shuffle_xor<2>(second);
    all[0] = high ? first_across : first;
    all[1] = high ? second_across : second;
    all[2] = high ? first : first_across;
    all[3] = high ? second : second_across;
  }

  // The lane's own of a number for each lane of a row: chosen by values, for a compiler may choose an element's
  // address.
  GDN_DEVICE float of_place(const float (&all)[4]) const {
    const float first = all[0], second = all[1], third = all[2], fourth = all[3];
    const float even = place_ >= 2 ? third : first, odd = place_ >= 2 ? fourth : second;
    return place_ % 2 != 0 ? odd : even;
  }

  // 16 rows of a head.
  GDN_DEVICE void work(Shared& shared, int head, int first, const Tile& s) const {
    const TokenFactors& factors = shared.factors[head];
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f}, low[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    GDN_UNROLL
    for (int step = 0; step < kKeyDim / 16; ++step) {
      const auto& word = shared.token[step][lane_id()];
      const Piece &upper = s.piece[0][step / 2], &lower = s.piece[1][step / 2];
      const int at = step % 2 * 2;
      const unsigned a[4] = {upper.raw.word[at], lower.raw.word[at], upper.raw.word[at + 1], lower.raw.word[at + 1]};
      product_16x8_bf16(d, a, word[0], word[1]);
      product_16x8_bf16(low, a, word[2], word[3]);
    }
    // u of the records, of this lane's rows.
    float old[2][4];
    GDN_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int value_channel = first + group_ + 8 * r;
      GDN_UNROLL
      for (int j = 0; j < 4; ++j) {
        old[r][j] = j < kTokens && j < draft_.accepted
                        ? shared.old_u[smaller(j, kTokens - 1)][head * kValueDim + value_channel]
                        : 0.0f;
      }
    }
    if (draft_.accepted > 0) store(shared, head, first, s, old);
    float own[2], o[2];
    GDN_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int value_channel = first + group_ + 8 * r;
      float x[4], u[4] = {};
      gather(d[2 * r] + low[2 * r], x);
      const float y = d[2 * r + 1] + low[2 * r + 1];
      GDN_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        const float v = shared.vo[t][head * kValueDim + value_channel];
        u[t] = factors.beta[t] * v - factors.x[t] * x[t];
        GDN_UNROLL
        for (int j = 0; j < kTokens; ++j) u[t] -= factors.old_x[j][t] * old[r][j];
        GDN_UNROLL
        for (int n = 0; n < t; ++n) u[t] -= factors.new_x[n][t] * u[n];
      }
      // Each lane one token's o.
      own[r] = of_place(u);
      o[r] = factors.y[place_] * y;
      GDN_UNROLL
      for (int j = 0; j < kTokens; ++j) {
        o[r] += factors.old_y[j][place_] * old[r][j];
        // Not of a later token: it may be no number.
        o[r] += factors.new_y[j][place_] * (j <= place_ ? u[j] : 0.0f);
      }
    }
    wave_barrier();  // v has been read
    using Record = typename F::RecordU;
    GDN_UNROLL
    for (int r = 0; r < 2; ++r) {
      if (place_ >= draft_.tokens) continue;
      const int value_channel = first + group_ + 8 * r;
      shared.vo[place_][head * kValueDim + value_channel] = rounded<typename F::RoundO>(o[r]);
      store_one<float>(part<Record>(args_, draft_.slot) + (Record::base(head_of(head)) + place_ * Record::kTapStride +
                                                           value_channel * Record::kInnerStride),
                       own[r]);
    }
  }

  // The state with the records, to where it was.
  GDN_DEVICE void store(const Shared& shared, int head, int first, const Tile& s, const float (&old)[2][4]) const {
    const TokenFactors& factors = shared.factors[head];
    const bool odd = place_ % 2 != 0;
    unsigned a[4];
    GDN_UNROLL
    for (int r = 0; r < 2; ++r) {
      const TwoParts both(odd ? factors.weight[2] * old[r][2] : factors.weight[0] * old[r][0],
                          odd ? factors.weight[3] * old[r][3] : factors.weight[1] * old[r][1]);
      a[r] = both.high, a[2 + r] = both.low;
    }
    const float all = factors.all;
    const int base = State::base(head_of(head)) + first * State::kOuterStride;
    const int begin = base + group_ * State::kOuterStride + place_ * kWidth;
    const StateChance<F> chance(args_, draft_.slot);
    GDN_UNROLL
    for (int access = 0; access < kAccesses; ++access) {
      const auto& words = shared.record[access][lane_id()];
      float x[2][kWidth];
      GDN_UNROLL
      for (int j = 0; j < 4; ++j) {
        const unsigned upper = s.piece[0][access].raw.word[j], lower = s.piece[1][access].raw.word[j];
        float d[4] = {all * float_of(upper << 16), all * float_of(upper & 0xffff0000u), all * float_of(lower << 16),
                      all * float_of(lower & 0xffff0000u)};
        product_16x8_bf16(d, a, words[j], words[j]);
        x[0][2 * j] = d[0], x[0][2 * j + 1] = d[1];
        x[1][2 * j] = d[2], x[1][2 * j + 1] = d[3];
      }
      GDN_UNROLL
      for (int r = 0; r < 2; ++r) {
        const int offset = r * 8 * State::kOuterStride + access * 32;
        chance.round(begin + offset, x[r]);
        Piece piece;
        piece.set(x[r]);
        store_stream<16>(state_ + (base + offset), piece.raw);
      }
    }
  }

  const Args& args_;
  const Draft<F>& draft_;
  DeltaTurn turn_;
  int group_;                 // which rows
  int place_;                 // which key channels, and whose token's o
  MapElements<State> state_;  // of the slot, with the lane's place
  Tile ahead_;
};

}  // namespace gdn
