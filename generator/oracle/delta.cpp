#include "oracle/delta.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace gdn::oracle {
namespace {

// to[j] = sum_i x[i] S[i][j]
void transposed_times(int key_dim, int value_dim, const double* state, const double* x, double* to) {
  std::fill(to, to + value_dim, 0.0);
  for (int i = 0; i < key_dim; ++i) {
    const double* row = state + static_cast<std::ptrdiff_t>(i) * value_dim;
    for (int j = 0; j < value_dim; ++j) to[j] += x[i] * row[j];
  }
}

void decay(int key_dim, int value_dim, const double* g, double* state) {
  for (int i = 0; i < key_dim; ++i) {
    const double factor = std::exp(g[i]);
    double* row = state + static_cast<std::ptrdiff_t>(i) * value_dim;
    for (int j = 0; j < value_dim; ++j) row[j] *= factor;
  }
}

}  // namespace

void delta_step(int key_dim, int value_dim, const double* q, const double* k, const double* v, const double* g,
                double beta, double* state, double* out, StepOrder order, double* written) {
  std::vector<double> predicted(static_cast<std::size_t>(value_dim));
  std::vector<double> update(static_cast<std::size_t>(value_dim));
  const bool predict_first = order == StepOrder::kPredictUndecayed || order == StepOrder::kDecayAfter;

  if (predict_first) transposed_times(key_dim, value_dim, state, k, predicted.data());
  if (order != StepOrder::kDecayAfter) decay(key_dim, value_dim, g, state);
  if (!predict_first) transposed_times(key_dim, value_dim, state, k, predicted.data());
  if (order == StepOrder::kReadBefore) transposed_times(key_dim, value_dim, state, q, out);

  const double on_prediction = order == StepOrder::kBetaOnValueOnly ? 1 : beta;
  for (int j = 0; j < value_dim; ++j) {
    update[static_cast<std::size_t>(j)] = beta * v[j] - on_prediction * predicted[static_cast<std::size_t>(j)];
  }
  if (written) std::copy(update.begin(), update.end(), written);
  for (int i = 0; i < key_dim; ++i) {
    double* row = state + static_cast<std::ptrdiff_t>(i) * value_dim;
    for (int j = 0; j < value_dim; ++j) row[j] += k[i] * update[static_cast<std::size_t>(j)];
  }

  if (order == StepOrder::kDecayAfter) decay(key_dim, value_dim, g, state);
  if (order != StepOrder::kReadBefore) transposed_times(key_dim, value_dim, state, q, out);
}

std::vector<double> delta_recurrent(const Sequence& s, std::vector<double>& state, StepOrder order) {
  std::vector<double> out(static_cast<std::size_t>(s.tokens) * s.value_dim);
  for (int t = 0; t < s.tokens; ++t) {
    const std::ptrdiff_t key = static_cast<std::ptrdiff_t>(t) * s.key_dim;
    const std::ptrdiff_t value = static_cast<std::ptrdiff_t>(t) * s.value_dim;
    delta_step(s.key_dim, s.value_dim, s.q.data() + key, s.k.data() + key, s.v.data() + value, s.g.data() + key,
               s.beta[static_cast<std::size_t>(t)], state.data(), out.data() + value, order);
  }
  return out;
}

std::vector<double> delta_chunked(const Sequence& s, std::vector<double>& state, int chunk) {
  using Matrix = std::vector<std::vector<double>>;
  const int K = s.key_dim, V = s.value_dim;
  std::vector<double> out;
  out.reserve(static_cast<std::size_t>(s.tokens) * V);
  for (int start = 0; start < s.tokens; start += chunk) {
    const int n = std::min(chunk, s.tokens - start);
    const auto q = [&](int i, int c) { return s.q[static_cast<std::size_t>((start + i) * K + c)]; };
    const auto k = [&](int i, int c) { return s.k[static_cast<std::size_t>((start + i) * K + c)]; };
    const auto v = [&](int i, int c) { return s.v[static_cast<std::size_t>((start + i) * V + c)]; };
    const auto beta = [&](int i) { return s.beta[static_cast<std::size_t>(start + i)]; };
    const auto S = [&](int c, int d) -> double& { return state[static_cast<std::size_t>(c * V + d)]; };

    Matrix G(n, std::vector<double>(K));
    for (int i = 0; i < n; ++i) {
      for (int c = 0; c < K; ++c) {
        G[i][c] = (i > 0 ? G[i - 1][c] : 0.0) + s.g[static_cast<std::size_t>((start + i) * K + c)];
      }
    }
    // sum_c x_i k_j exp(G_i - G_j); only asked for j <= i, where the exponent is not positive
    const auto dot = [&](const auto& x, int i, int j) {
      double sum = 0;
      for (int c = 0; c < K; ++c) sum += x(i, c) * k(j, c) * std::exp(G[i][c] - G[j][c]);
      return sum;
    };

    // X = (I + A)^-1 (beta v - beta k exp(G) S), by forward substitution
    Matrix X(n, std::vector<double>(V));
    for (int i = 0; i < n; ++i) {
      for (int d = 0; d < V; ++d) {
        double carried = 0;
        for (int c = 0; c < K; ++c) carried += k(i, c) * std::exp(G[i][c]) * S(c, d);
        X[i][d] = beta(i) * (v(i, d) - carried);
      }
      for (int j = 0; j < i; ++j) {
        const double a = beta(i) * dot(k, i, j);
        for (int d = 0; d < V; ++d) X[i][d] -= a * X[j][d];
      }
    }
    for (int i = 0; i < n; ++i) {
      std::vector<double> row(V);
      for (int d = 0; d < V; ++d) {
        for (int c = 0; c < K; ++c) row[d] += q(i, c) * std::exp(G[i][c]) * S(c, d);
      }
      for (int j = 0; j <= i; ++j) {
        const double p = dot(q, i, j);
        for (int d = 0; d < V; ++d) row[d] += p * X[j][d];
      }
      out.insert(out.end(), row.begin(), row.end());
    }
    for (int c = 0; c < K; ++c) {
      for (int d = 0; d < V; ++d) {
        double sum = S(c, d) * std::exp(G[n - 1][c]);
        for (int j = 0; j < n; ++j) sum += k(j, c) * std::exp(G[n - 1][c] - G[j][c]) * X[j][d];
        S(c, d) = sum;
      }
    }
  }
  return out;
}

}  // namespace gdn::oracle
