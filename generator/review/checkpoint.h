// What a checkpoint's own files say about a layer: config.json and the headers of safetensors files. Of their data
// match reads a padded A_log, and nothing else.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace gdn::review {

// A file that can't be judged: what() names it and what is wrong with it.
class BadCheckpoint : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct StoredTensor {
  std::string dtype;  // "BF16", as the header says it
  std::vector<std::int64_t> shape;
  std::string file;  // where its data lie: `bytes` of them from `begin` on
  std::int64_t begin = 0, bytes = 0;

  std::int64_t elements() const;
  bool is_float() const;  // bf16, fp16, fp32 or fp64: not quantised
};

// One linear-attention layer: tensors by the end of their names ("in_proj_qkvz.weight", "A_log").
struct StoredLayer {
  int index = 0;
  std::string prefix;  // "model.layers.0.linear_attn."
  std::map<std::string, StoredTensor> tensors;

  // The first of the names that is there, or null.
  const StoredTensor* find(const std::vector<std::string>& names) const;
};

// What config.json says, under whatever key its model family says it.
struct Config {
  std::string model_type;
  bool kda = false;  // a decay per key channel
  std::optional<std::int64_t> key_heads, value_heads, key_dim, value_dim, conv_width;
  std::string key_heads_source, value_heads_source, key_dim_source, value_dim_source, conv_width_source;  // the keys
  // Of kda layers: softplus or bounded, the bound, and the config key that says so.
  std::string decay_form, decay_source;
  std::optional<double> bound;
  std::string bound_key;
  // Of kda layers: whether the forget gate and the output gate have a single matrix, and the key that says so.
  std::optional<bool> single_a, single_z;
  std::string single_a_source, single_z_source;
  std::optional<double> norm_eps;
  std::string norm_eps_source;  // the key, or why it is not one
  std::string gate;             // silu, sigmoid, or empty where nothing says
  std::string gate_source;
  std::string norm_weight;  // w, 2*(1+w), or empty
  std::string norm_weight_source;
  std::optional<bool> negative_eigenvalues;
  bool legacy_qkvz = false;  // GigaChat: rows are not interleaved
  std::optional<std::int64_t> layer_count;
  std::vector<std::int64_t> linear_layers;  // as listed, ascending; empty where the config does not say
  int layer_base = 0;                       // what that list calls the first layer: 1 in the Kimi family
  std::string linear_layers_source;
};

// The names that a kda layer's forget gate has in checkpoints: of its only matrix, or of the first of two.
const std::vector<std::string>& first_matrices_of_a();

struct Checkpoint {
  Config config;
  std::vector<StoredLayer> layers;  // those that have an A_log, or the input projections of a linear layer; by index
};

// Throws BadCheckpoint. A config has at most 4 MiB.
Config read_config(const std::string& file);
Checkpoint read_checkpoint(const std::string& config, const std::vector<std::string>& safetensors);

}  // namespace gdn::review
