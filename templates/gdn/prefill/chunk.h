// The gated delta rule over a whole sequence, in plain fp32: right for every layout, dimension and rule.
//
// A block owns one value head of one sequence and F::kColumns of its value channels, and walks the sequence in chunks
// of a few tokens. With G the running sum of log2 decays inside a chunk (per key channel c for kda),
//
//   A_ij = beta_i sum_c k_i k_j 2^(G_i - G_j)  for j < i      P_ij = sum_c q_i k_j 2^(G_i - G_j)  for j <= i
//   x_i  = beta_i (v_i - S^T (k_i 2^G_i)) - sum_{j < i} A_ij x_j
//   o_i  = S^T (q_i 2^G_i) + sum_{j <= i} P_ij x_j
//   S    = 2^G_last S + sum_j (k_j 2^(G_last - G_j)) x_j^T
//
// Every exponent is a difference that is at most 0: nothing overflows, however strong the decay. The pairs above the
// diagonal are never formed.
//
// The block's chunk is its own: prefill.chunk is what tiles of matrix instructions are made for, and no number depends
// on it but by rounding. The state stays in registers as fp32: kLanes threads share a value channel, each has
// K / kLanes key channels of it.
#pragma once

#include "gdn/prefill/sequence.h"

namespace gdn {

template <class F>
class ChunkShape {
 public:
  static constexpr bool kByChannel = F::kRule == Rule::kKda;
  static constexpr int kColumns = F::kColumns;
  static constexpr int kLanes = F::kThreads / kColumns;
  static constexpr int kSlices = ceil_div(F::kValueDim, kColumns);
  static constexpr int kRows = F::kKeyDim / kLanes;  // key channels of a thread
  // A thread's registers bound a chunk: its share of the state, three sums or values a token, and what the compilers
  // for AMD fetch ahead of them. So does shared memory: q, k and, for kda, a third tile of as many tokens.
  static constexpr int kTokens = 8;
  static constexpr int kStride = F::kKeyDim + 4;  // of a tile's row: neighbouring rows start in other banks
  static_assert(kLanes * kColumns == F::kThreads && kWaveSize % kLanes == 0, "a value channel's lanes lie in one wave");
  static_assert(F::kKeyDim % (4 * kLanes) == 0, "a thread's key channels are whole groups of four");
};

template <class F>
struct ChunkShared {
  using Shape = ChunkShape<F>;
  static constexpr int kTokens = Shape::kTokens;
  static constexpr int kUpdateTokens = Shape::kByChannel ? kTokens : 0;
  alignas(16) float q[kTokens * Shape::kStride];                  // kda: later q 2^G
  alignas(16) float k[kTokens * Shape::kStride];                  // kda: later k 2^G
  alignas(16) float u[larger(4, kUpdateTokens* Shape::kStride)];  // kda: G, later k 2^(G_last - G)
  alignas(16) float last[Shape::kByChannel ? F::kKeyDim : 4];     // kda: 2^G_last
  float v[kTokens * Shape::kColumns];
  float o[kTokens * Shape::kColumns];
  float a[kTokens * kTokens];  // A, with beta
  float p[kTokens * kTokens];  // P
  float g[kTokens];            // gdn: G
  float beta[kTokens];
};

// `Tokens` brings a chunk's numbers and takes its results; all of its functions are called by all threads:
//   fetch(row, n, shared)  q and k of n tokens from `row` on as the rule reads them, zeros behind; v of the block's
//                          columns; beta; log2 of the decays: G not yet summed, in `g` or, for kda, in `u`
//   put(row, n, shared)    o of n tokens
template <class F, class Tokens>
class Chunks {
  using Shape = ChunkShape<F>;
  using Shared = ChunkShared<F>;
  static constexpr int kTokens = Shape::kTokens, kLanes = Shape::kLanes, kRows = Shape::kRows;
  static constexpr int kStride = Shape::kStride, kColumns = Shape::kColumns;
  static constexpr bool kByChannel = Shape::kByChannel;

 public:
  GDN_DEVICE Chunks(Shared& shared, Tokens tokens, int first_column)
      : shared_(shared), tokens_(tokens), first_column_(first_column) {
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) state_[r] = 0.0f;
  }

  // From a state of `State`'s element type, at the value head's first element, and back to it. `State` is the map.
  template <class State>
  GDN_DEVICE void load_state(MapElements<State> head) {
    if (!column_inside()) return;
    GDN_UNROLL
    for (int r = 0; r < kRows; r += 4) {
      float four[4];
      if constexpr (State::kInnerStride == 1) {
        load_run<typename State::Element, 4, align_of<State>()>(head + state_offset<State>(r), four);
      } else {
        GDN_UNROLL
        for (int i = 0; i < 4; ++i) {
          four[i] = load_one<typename State::Element>(head + state_offset<State>(r) + i * State::kInnerStride);
        }
      }
      GDN_UNROLL
      for (int i = 0; i < 4; ++i) state_[r + i] = four[i];
    }
  }

  template <class State>
  GDN_DEVICE void store_state(MapElements<State> head) const {
    if (!column_inside()) return;
    GDN_UNROLL
    for (int r = 0; r < kRows; r += 4) {
      const float four[4] = {state_[r], state_[r + 1], state_[r + 2], state_[r + 3]};
      if constexpr (State::kInnerStride == 1) {
        store_run<typename State::Element, 4, align_of<State>()>(head + state_offset<State>(r), four);
      } else {
        GDN_UNROLL
        for (int i = 0; i < 4; ++i) {
          store_one<typename State::Element>(head + state_offset<State>(r) + i * State::kInnerStride, four[i]);
        }
      }
    }
  }

  // All tokens of the sequence, in order. A chunk ends early where a snapshot is due: keep(slot) is called behind it.
  template <class Keep>
  GDN_DEVICE void run(const SequenceRows& rows, Snapshots<F> snapshots, Keep keep) {
    int n = 0;
    for (int row = rows.first; row < rows.end; row += n) {
      while (snapshots.row() < row) snapshots.step();  // of rows that do not ascend
      n = smaller(kTokens, smaller(rows.end - row, snapshots.row() - row + 1));
      tokens_.fetch(row, n, shared_);
      barrier();
      sum_decays(n);
      barrier();
      pairs();
      if constexpr (kByChannel) {
        barrier();
        fold_decays(n);
      }
      barrier();
      step(n);
      barrier();
      tokens_.put(row, n, shared_);
      for (; snapshots.row() == row + n - 1; snapshots.step()) {
        if (const long long slot = snapshots.slot(); slot >= 0) keep(slot);
      }
    }
  }

 private:
  GDN_DEVICE int lane() const { return thread_id() % kLanes; }
  GDN_DEVICE int column() const { return thread_id() / kLanes; }  // of the block
  GDN_DEVICE bool column_inside() const { return first_column_ + column() < F::kValueDim; }
  // The key channel of register r, r a multiple of 4; the next three are its neighbours.
  GDN_DEVICE int channel(int r) const { return (r / 4 * kLanes + lane()) * 4; }

  template <class State>
  GDN_HD static constexpr int align_of() {
    return smaller(4, smaller(State::kAlign, power_of_two_in(State::kOuterStride)));
  }
  template <class State>
  GDN_DEVICE int state_offset(int r) const {
    return channel(r) * State::kInnerStride + (first_column_ + column()) * State::kOuterStride;
  }

  // log2 of the decays to their running sums; tokens behind the n-th do not decay.
  GDN_DEVICE void sum_decays(int n) {
    if constexpr (kByChannel) {
      for (int c = thread_id(); c < F::kKeyDim; c += F::kThreads) {
        float sum = 0.0f;
        for (int i = 0; i < kTokens; ++i) {
          if (i < n) sum += shared_.u[i * kStride + c];
          shared_.u[i * kStride + c] = sum;
        }
      }
    } else if (thread_id() == 0) {
      float sum = 0.0f;
      for (int i = 0; i < kTokens; ++i) {
        if (i < n) sum += shared_.g[i];
        shared_.g[i] = sum;
      }
    }
  }

  // A and P, a pair of tokens a thread.
  GDN_DEVICE void pairs() {
    for (int pair = thread_id(); pair < kTokens * kTokens; pair += F::kThreads) {
      const int i = pair / kTokens;
      const int j = pair % kTokens;
      if (j > i) continue;
      float kk = 0.0f;
      float qk = 0.0f;
      for (int c = 0; c < F::kKeyDim; c += 4) {
        GDN_UNROLL
        for (int d = c; d < c + 4; ++d) {
          float right = shared_.k[j * kStride + d];
          if constexpr (kByChannel) right *= exp2(shared_.u[i * kStride + d] - shared_.u[j * kStride + d]);
          kk = fused(shared_.k[i * kStride + d], right, kk);
          qk = fused(shared_.q[i * kStride + d], right, qk);
        }
      }
      float decay = 1.0f;
      if constexpr (!kByChannel) decay = exp2(shared_.g[i] - shared_.g[j]);
      shared_.a[pair] = j < i ? shared_.beta[i] * decay * kk : 0.0f;
      shared_.p[pair] = decay * qk;
    }
  }

  // kda: the decays go into the tiles that meet the state.
  GDN_DEVICE void fold_decays(int n) {
    for (int c = thread_id(); c < F::kKeyDim; c += F::kThreads) {
      const float end = shared_.u[(kTokens - 1) * kStride + c];
      shared_.last[c] = exp2(end);
      for (int i = 0; i < kTokens; ++i) {
        const int at = i * kStride + c;
        const float sum = shared_.u[at];
        const float k = shared_.k[at];
        const float decay = exp2(sum);
        shared_.u[at] = i < n ? k * exp2(end - sum) : 0.0f;
        shared_.k[at] = k * decay;
        shared_.q[at] *= decay;
      }
    }
  }

  GDN_DEVICE void step(int n) {
    float sums[2 * kTokens];  // S^T k, then S^T q
    GDN_UNROLL
    for (int i = 0; i < 2 * kTokens; ++i) sums[i] = 0.0f;
    GDN_UNROLL
    for (int r = 0; r < kRows; r += 4) {
      const float* k = shared_.k + channel(r);
      const float* q = shared_.q + channel(r);
      GDN_UNROLL
      for (int i = 0; i < kTokens; ++i) {
        GDN_UNROLL
        for (int d = 0; d < 4; ++d) {
          sums[i] = fused(k[i * kStride + d], state_[r + d], sums[i]);
          sums[kTokens + i] = fused(q[i * kStride + d], state_[r + d], sums[kTokens + i]);
        }
      }
    }
    sum_over_lanes<kLanes>(sums);

    float x[kTokens];
    GDN_UNROLL
    for (int i = 0; i < kTokens; ++i) {
      const float decay = kByChannel ? 1.0f : exp2(shared_.g[i]);
      x[i] = shared_.beta[i] * (shared_.v[i * kColumns + column()] - decay * sums[i]);
      GDN_UNROLL
      for (int j = 0; j < i; ++j) x[i] = fused(-shared_.a[i * kTokens + j], x[j], x[i]);
    }
    GDN_UNROLL
    for (int i = 0; i < kTokens; ++i) {
      if (i % kLanes != lane()) continue;  // a value channel's lanes share the work
      float o = (kByChannel ? 1.0f : exp2(shared_.g[i])) * sums[kTokens + i];
      GDN_UNROLL
      for (int j = 0; j <= i; ++j) o = fused(shared_.p[i * kTokens + j], x[j], o);
      shared_.o[i * kColumns + column()] = o;
    }

    if constexpr (!kByChannel) {
      const float end = shared_.g[kTokens - 1];
      GDN_UNROLL
      for (int i = 0; i < kTokens; ++i) x[i] = i < n ? x[i] * exp2(end - shared_.g[i]) : 0.0f;
      const float decay = exp2(end);
      GDN_UNROLL
      for (int r = 0; r < kRows; ++r) state_[r] *= decay;
    }
    GDN_UNROLL
    for (int r = 0; r < kRows; r += 4) {
      const float* u = (kByChannel ? shared_.u : shared_.k) + channel(r);
      if constexpr (kByChannel) {
        GDN_UNROLL
        for (int d = 0; d < 4; ++d) state_[r + d] *= shared_.last[channel(r) + d];
      }
      GDN_UNROLL
      for (int i = 0; i < kTokens; ++i) {
        GDN_UNROLL
        for (int d = 0; d < 4; ++d) state_[r + d] = fused(u[i * kStride + d], x[i], state_[r + d]);
      }
    }
  }

  Shared& shared_;
  Tokens tokens_;
  int first_column_;
  float state_[kRows];
};

}  // namespace gdn
