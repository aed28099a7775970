#include "plain_prefill.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace gdn::bench {
namespace {

constexpr int kChunk = 64, kTaps = 4;

float from_bf16(std::uint16_t x) {
  const std::uint32_t bits = std::uint32_t{x} << 16;
  float value = 0;
  std::memcpy(&value, &bits, 4);
  return value;
}

std::uint16_t to_bf16(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, 4);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// e^x in a form that vectorises, which the library's own does not: 2^n times a polynomial of the rest.
float exp_of(float x) {
  constexpr float kLog2E = 1.44269504f, kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  x = std::min(std::max(x, -87.0f), 88.0f) * kLog2E;
  const float n = (x + kRound) - kRound;
  const float r = x - n;
  const float power =
      1 + r * (0.69314718f + r * (0.24022651f + r * (0.05550411f + r * (0.00961812f + r * 0.00133336f))));
  const std::int32_t bits = (static_cast<std::int32_t>(n) + 127) << 23;
  float scale = 0;
  std::memcpy(&scale, &bits, 4);
  return power * scale;
}

float sigmoid(float x) { return 1 / (1 + exp_of(-x)); }

// c [rows][columns] += a [rows][depth] b [depth][columns]
void multiply(const float* a, int a_row, const float* b, float* c, int rows, int depth, int columns) {
  for (int i = 0; i < rows; ++i) {
    for (int d = 0; d < depth; ++d) {
      const float x = a[i * a_row + d];
      for (int j = 0; j < columns; ++j) c[i * columns + j] += x * b[d * columns + j];
    }
  }
}

// The buffers of a thread.
class Head {
 public:
  explicit Head(const PlainLayer& layer)
      : l_(layer),
        K_(layer.key_dim),
        V_(layer.value_dim),
        q_(make(K_)),
        k_(make(K_)),
        k_across_(make(K_)),
        v_(make(V_)),
        kk_(make(kChunk)),
        qk_(make(kChunk)),
        t_(make(kChunk)),
        r_(make(V_)),
        u_(make(V_)),
        o_(make(V_)),
        p_(make(V_)) {}

  void run(int key_head) {
    for (int g = 0; g < l_.group; ++g) {
      float* const state = state_of(key_head, g);
      std::fill(state, state + K_ * V_, 0.0f);
    }
    for (int first = 0; first < l_.tokens; first += kChunk) {
      const int n = std::min(kChunk, l_.tokens - first);
      const int values = l_.key_heads * l_.group;
      convolve(q_.data(), key_head * K_, K_, first, n);
      convolve(k_.data(), (l_.key_heads + key_head) * K_, K_, first, n);
      unit(q_.data(), n);
      unit(k_.data(), n);
      for (int i = 0; i < n; ++i) {
        for (int c = 0; c < K_; ++c) k_across_[at(c, i, kChunk)] = k_[at(i, c, K_)];
      }
      clear(kk_, n * kChunk);
      clear(qk_, n * kChunk);
      multiply(k_.data(), K_, k_across_.data(), kk_.data(), n, K_, kChunk);
      multiply(q_.data(), K_, k_across_.data(), qk_.data(), n, K_, kChunk);
      for (int g = 0; g < l_.group; ++g) {
        const int head = key_head * l_.group + g;
        convolve(v_.data(), 2 * l_.key_heads * K_ + head * V_, V_, first, n);
        rule(head, values, state_of(key_head, g), first, n);
        norm(head, values, first, n);
      }
    }
  }

 private:
  using Rows = std::vector<float>;
  static Rows make(int columns) {
    return Rows(static_cast<std::size_t>(kChunk) * static_cast<std::size_t>(std::max(columns, 256)));
  }
  static void clear(Rows& rows, int count) { std::fill(rows.begin(), rows.begin() + count, 0.0f); }
  static std::size_t at(int row, int column, int columns) { return static_cast<std::size_t>(row * columns + column); }

  int row_size() const { return 2 * l_.key_heads * K_ + 2 * l_.key_heads * l_.group * V_; }
  float* state_of(int key_head, int g) const {
    return l_.state + static_cast<std::ptrdiff_t>(key_head * l_.group + g) * K_ * V_;
  }

  void convolve(float* to, int channel, int count, int first, int n) const {
    const int channels = row_size() - l_.key_heads * l_.group * V_;
    for (int i = 0; i < n; ++i) {
      float* const y = to + static_cast<std::ptrdiff_t>(i) * count;
      std::fill(y, y + count, 0.0f);
      for (int tap = 0; tap < kTaps; ++tap) {
        const int token = first + i - (kTaps - 1) + tap;
        if (token < 0) continue;
        const std::uint16_t* const x = l_.qkvz + static_cast<std::ptrdiff_t>(token) * row_size() + channel;
        const float* const weight = l_.conv_weight + tap * channels + channel;
        for (int c = 0; c < count; ++c) y[c] += weight[c] * from_bf16(x[c]);
      }
      for (int c = 0; c < count; ++c) y[c] *= sigmoid(y[c]);
    }
  }

  void unit(float* rows, int n) const {
    for (int i = 0; i < n; ++i) {
      float* const x = rows + static_cast<std::ptrdiff_t>(i) * K_;
      float squares = 0;
      for (int c = 0; c < K_; ++c) squares += x[c] * x[c];
      const float factor = 1 / std::sqrt(squares + l_.qk_eps);
      for (int c = 0; c < K_; ++c) x[c] *= factor;
    }
  }

  void rule(int head, int heads, float* state, int first, int n) {
    float sum[kChunk], beta[kChunk];
    float total = 0;
    const float rate = std::exp(l_.a_log[head]);
    for (int i = 0; i < n; ++i) {
      const std::ptrdiff_t gate = static_cast<std::ptrdiff_t>(first + i) * heads + head;
      const float x = l_.a[gate] + l_.dt_bias[head];
      total -= rate * (x > 20 ? x : std::log1p(std::exp(x)));
      sum[i] = total;
      beta[i] = sigmoid(l_.b[gate]);
    }
    // T = (I + A)^-1, row by row.
    for (int i = 0; i < n; ++i) {
      float* const row = &t_[at(i, 0, kChunk)];
      std::fill(row, row + kChunk, 0.0f);
      row[i] = 1;
      for (int j = 0; j < i; ++j) {
        const float x = beta[i] * exp_of(sum[i] - sum[j]) * kk_[at(i, j, kChunk)];
        for (int c = 0; c <= j; ++c) row[c] -= x * t_[at(j, c, kChunk)];
      }
    }
    clear(p_, n * V_);
    multiply(k_.data(), K_, state, p_.data(), n, K_, V_);
    for (int i = 0; i < n; ++i) {
      for (int c = 0; c < V_; ++c) {
        r_[at(i, c, V_)] = beta[i] * (v_[at(i, c, V_)] - exp_of(sum[i]) * p_[at(i, c, V_)]);
      }
    }
    clear(u_, n * V_);
    for (int i = 0; i < n; ++i) multiply(&t_[at(i, 0, kChunk)], kChunk, r_.data(), &u_[at(i, 0, V_)], 1, i + 1, V_);
    clear(o_, n * V_);
    multiply(q_.data(), K_, state, o_.data(), n, K_, V_);
    for (int i = 0; i < n; ++i) {
      float b[kChunk];
      const float start = exp_of(sum[i]);
      for (int j = 0; j <= i; ++j) b[j] = exp_of(sum[i] - sum[j]) * qk_[at(i, j, kChunk)];
      for (int c = 0; c < V_; ++c) o_[at(i, c, V_)] *= start;
      multiply(b, kChunk, u_.data(), &o_[at(i, 0, V_)], 1, i + 1, V_);
      for (int c = 0; c < V_; ++c) o_[at(i, c, V_)] *= l_.q_scale;
    }
    const float last = exp_of(sum[n - 1]);
    for (int c = 0; c < K_ * V_; ++c) state[c] *= last;
    for (int i = 0; i < n; ++i) {
      const float end = exp_of(sum[n - 1] - sum[i]);
      for (int c = 0; c < V_; ++c) u_[at(i, c, V_)] *= end;
    }
    multiply(k_across_.data(), kChunk, u_.data(), state, K_, n, V_);
  }

  void norm(int head, int heads, int first, int n) const {
    for (int i = 0; i < n; ++i) {
      const float* const o = &o_[at(i, 0, V_)];
      const std::ptrdiff_t token = first + i;
      const std::uint16_t* const z = l_.qkvz + token * row_size() + 2 * l_.key_heads * K_ + (heads + head) * V_;
      std::uint16_t* const out = l_.out + (token * heads + head) * V_;
      float squares = 0;
      for (int c = 0; c < V_; ++c) squares += o[c] * o[c];
      const float factor = 1 / std::sqrt(squares / static_cast<float>(V_) + l_.norm_eps);
      for (int c = 0; c < V_; ++c) {
        const float gate = from_bf16(z[c]);
        out[c] = to_bf16(o[c] * factor * l_.norm_weight[c] * gate * sigmoid(gate));
      }
    }
  }

  const PlainLayer& l_;
  int K_, V_;
  Rows q_, k_, k_across_, v_, kk_, qk_, t_, r_, u_, o_, p_;
};

}  // namespace

void plain_prefill(const PlainLayer& layer, int first, int last) {
  Head head(layer);
  for (int key_head = first; key_head < last; ++key_head) head.run(key_head);
}

}  // namespace gdn::bench
