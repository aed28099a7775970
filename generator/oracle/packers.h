// Packers written by hand, one per projection family and one per order of a state, as plain loops over the model's own
// words. They know nothing of dimension lists: the interpreter must agree with them.
//
// Families: interleaved is Qwen3-Next (in_proj_qkvz and in_proj_ba, rows grouped by key head), flat is Qwen3.5 after an
// engine has fused its projections ([q|k|v|z] and [b|a], or [q|k|v] alone), separate is OLMo-Hybrid (a tensor a part).
#pragma once

#include <vector>

namespace gdn::oracle {

struct Shape {
  int key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  bool tiled = false;  // value head h reads key head h % key_heads instead of h / group

  int group() const { return value_heads / key_heads; }
  int value_head(int key_head, int g) const { return tiled ? g * key_heads + key_head : key_head * group() + g; }
};

// A token's parts: q, k [key_head][key_dim]; v, z [value_head][value_dim]; b, a [value_head].
struct Token {
  std::vector<double> q, k, v, z, b, a;
};

// per key head: q | k | the group's v | the group's z
std::vector<double> pack_qkvz_interleaved(const Shape& shape, const Token& token);
// per key head: the group's b | the group's a
std::vector<double> pack_ba_interleaved(const Shape& shape, const Token& token);
// all q | all k | all v | all z
std::vector<double> pack_qkvz_flat(const Shape& shape, const Token& token);
// all q | all k | all v
std::vector<double> pack_qkv_flat(const Shape& shape, const Token& token);
// all b | all a
std::vector<double> pack_ba_flat(const Shape& shape, const Token& token);

// A conv window: q, k and v as in Token, each channel with `taps` rows: [head][channel][tap].
struct Window {
  int taps = 0;
  std::vector<double> q, k, v;
};

// [tap][channel], the channels all q | all k | all v.
std::vector<double> pack_window_sd(const Shape& shape, const Window& window);
// [channel][tap], the same channels. Also the order of a conv weight.
std::vector<double> pack_window_ds(const Shape& shape, const Window& window);

// The recurrent state, given as [value_head][key channel][value channel].
// [value_head][value channel][key channel]
std::vector<double> pack_state_vk(const Shape& shape, const std::vector<double>& state);
// [value_head][key channel][value channel]
std::vector<double> pack_state_kv(const Shape& shape, const std::vector<double>& state);

}  // namespace gdn::oracle
