// The gated delta rule of one value head, in double: step by step, and in chunks.
//
// S is K x V, row-major ([key channel][value channel]). The decay is given per key channel as g = ln of it, K numbers:
// all the same for GDN, each its own for KDA. q and k are already normalised and scaled.
#pragma once

#include <vector>

namespace gdn::oracle {

// kRule is the rule:  S <- diag(exp(g)) S;  u = beta (v - S^T k);  S <- S + k u^T;  o = S^T q.
// The others are mistakes that implementations made; the tests prove that a comparison notices them.
enum class StepOrder {
  kRule,
  kPredictUndecayed,  // S^T k read before the decay
  kDecayAfter,        // the decay comes after the update, before the read
  kBetaOnValueOnly,   // u = beta v - S^T k
  kReadBefore,        // o read before the update
};

// One token. `state` is updated; `out` gets V numbers, and `written`, where it is asked for, the V numbers u.
void delta_step(int key_dim, int value_dim, const double* q, const double* k, const double* v, const double* g,
                double beta, double* state, double* out, StepOrder order = StepOrder::kRule, double* written = nullptr);

// A sequence of tokens: q, k, g are [token][K], v and the result are [token][V], beta is [token].
struct Sequence {
  int key_dim = 0, value_dim = 0, tokens = 0;
  std::vector<double> q, k, v, g, beta;
};

// Token by token from `state`, which becomes the final one.
std::vector<double> delta_recurrent(const Sequence& sequence, std::vector<double>& state,
                                    StepOrder order = StepOrder::kRule);

// The same result in chunks of `chunk` tokens (the last may be shorter), with G the running sum of g in a chunk:
//   A_ij = beta_i sum_c k_i k_j exp(G_i - G_j) for j < i;   (I + A) X = beta (v - (k exp(G)) S)
//   O_i = (q_i exp(G_i)) S + sum_{j<=i} (sum_c q_i k_j exp(G_i - G_j)) X_j
//   S <- diag(exp(G_last)) S + sum_j (k_j exp(G_last - G_j)) X_j^T
std::vector<double> delta_chunked(const Sequence& sequence, std::vector<double>& state, int chunk);

}  // namespace gdn::oracle
