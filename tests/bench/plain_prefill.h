// A whole layer over one sequence as somebody would write it in plain C++: the chunked form of the delta rule in fp32,
// loops that a compiler vectorises, a thread a share of the key heads. What the CPU's generated kernels are held
// against.
#pragma once

#include <cstdint>

namespace gdn::bench {

// One sequence of GDN that starts from zeros, conv width 4 without bias, taps oldest first, SiLU, q and k of unit
// length, softplus decay, beta the sigmoid, norm then gate. bf16 rows as q | k | v | z of all heads; everything else in
// fp32.
struct PlainLayer {
  int key_heads = 0, group = 0, key_dim = 0, value_dim = 0;
  int tokens = 0;
  const std::uint16_t* qkvz = nullptr;  // [token][2 * key_heads * key_dim + 2 * value_heads * value_dim]
  const float* b = nullptr;             // [token][value_heads]
  const float* a = nullptr;             // [token][value_heads]
  const float* conv_weight = nullptr;   // [4][channels of q, k and v]
  const float* a_log = nullptr;         // [value_heads]
  const float* dt_bias = nullptr;       // [value_heads]
  const float* norm_weight = nullptr;   // [value_dim]
  float q_scale = 1, qk_eps = 0, norm_eps = 0;
  float* state = nullptr;        // [value_head][key_dim][value_dim], written
  std::uint16_t* out = nullptr;  // [token][value_heads * value_dim], written
};

// Key heads [first, last).
void plain_prefill(const PlainLayer& layer, int first, int last);

}  // namespace gdn::bench
