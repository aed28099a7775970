#include "review/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "review/safetensors.h"
#include "spec/diagnostics.h"

namespace gdn::review {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxConfig = 4ll << 20;
constexpr int kMaxJsonDepth = 64;
constexpr std::int64_t kMaxLayers = 1024;

// JSON with bounded depth; a key that stands twice in one object is an error.
json parse_json(const std::string& file, const std::string& text) {
  std::vector<std::set<std::string>> seen;  // the keys of each object that is open
  const json::parser_callback_t watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxJsonDepth) throw BadCheckpoint(fmt::format("{}: nested more than {} deep", file, kMaxJsonDepth));
    if (event == json::parse_event_t::object_start) seen.emplace_back();
    if (event == json::parse_event_t::object_end) seen.pop_back();
    if (event == json::parse_event_t::key && !seen.back().insert(value.get<std::string>()).second) {
      throw BadCheckpoint(fmt::format("{}: {} stands twice", file, spec::quote(value.get<std::string>())));
    }
    return true;
  };
  try {
    json parsed = json::parse(text, watch);
    if (!parsed.is_object()) throw BadCheckpoint(fmt::format("{}: the top is not a JSON object", file));
    return parsed;
  } catch (const json::exception& error) {
    throw BadCheckpoint(fmt::format("{}: not JSON: {}", file, error.what()));
  }
}

std::optional<std::int64_t> integer(const json& config, const char* key) {
  if (!config.contains(key) || !config[key].is_number_integer()) return std::nullopt;
  return config[key].get<std::int64_t>();
}

std::optional<double> real(const json& config, const char* key) {
  if (!config.contains(key) || !config[key].is_number()) return std::nullopt;
  return config[key].get<double>();
}

std::string word(const json& config, const char* key) {
  return config.contains(key) && config[key].is_string() ? config[key].get<std::string>() : "";
}

void read_norm(const json& text, Config& config) {
  const auto eps = [&](const char* key) {
    if (const auto value = real(text, key)) {
      config.norm_eps = value;
      config.norm_eps_source = key;
    }
  };
  config.norm_weight = "w";
  config.norm_weight_source = "the class of model_type " + config.model_type;
  if (config.model_type == "olmo_hybrid") {
    config.norm_eps = 1e-5;
    config.norm_eps_source = "hard-coded in the class of olmo_hybrid, whatever rms_norm_eps is";
  } else {
    eps("rms_norm_eps");
    eps("linear_attn_o_norm_eps");  // GigaChat: the layer's own
  }
  // The kda layers of the Kimi, GLM and Ling families; those that have gdn's keys have its gate too.
  config.gate = config.kda && config.key_heads_source != "linear_num_key_heads" ? "sigmoid" : "silu";
  config.gate_source = "the class of model_type " + config.model_type;
  if (const std::string gate = word(text, "output_gate_type"); !gate.empty()) {
    config.gate = gate == "swish" ? "silu" : gate;
    config.gate_source = "output_gate_type";
  }
  if (const std::string kind = word(text, "linear_gating_type"); !kind.empty()) {
    config.gate_source = config.norm_weight_source = "linear_gating_type";
    config.gate = kind == "gated_rmsnorm" ? "silu" : "sigmoid";
    const double scale = real(text, "linear_sigmoid_gate_scale").value_or(2.0);
    const bool centred = kind.find("zero_centered") != std::string::npos;
    config.norm_weight = !centred ? "w" : scale == 2.0 ? "2*(1+w)" : scale == 1.0 ? "1+w" : "";
    if (kind == "sigmoid_gate") config.norm_weight.clear();  // no norm at all
  }
}

void sources(Config& config, const char* key_heads, const char* value_heads, const char* key_dim, const char* value_dim,
             const char* conv_width) {
  config.key_heads_source = key_heads;
  config.value_heads_source = value_heads;
  config.key_dim_source = key_dim;
  config.value_dim_source = value_dim;
  config.conv_width_source = conv_width;
}

// The form of a kda layer's decay: bounded where one of the keys of its bound has a number, unless the gate is said not
// to be safe.
void read_decay(const json& from, const std::string& section, Config& config) {
  config.decay_form = "softplus";
  config.decay_source = section.empty() ? "no key of a bound" : section + "*: no key of a bound";
  for (const char* key : {"gate_lower_bound", "kda_lower_bound", "lower_bound"}) {
    const auto bound = real(from, key);
    if (!bound || config.bound) continue;
    config.bound = bound;
    config.bound_key = key;
    config.decay_form = "bounded";
    config.decay_source = section + key;
  }
  for (const char* key : {"kda_safe_gate", "safe_gate"}) {
    if (!from.contains(key) || !from[key].is_boolean() || from[key].get<bool>()) continue;
    config.bound.reset();
    config.bound_key.clear();
    config.decay_form = "softplus";
    config.decay_source = section + key;
  }
}

// How many matrices a kda layer's gates have: two keys of two families say it, of both gates or of the output's alone.
void read_gates(const json& from, const std::string& section, Config& config) {
  const auto flag = [&](const char* key) -> std::optional<bool> {
    if (!from.contains(key) || !from[key].is_boolean()) return std::nullopt;
    return from[key].get<bool>();
  };
  if (const auto full = flag("use_full_rank_gate")) {
    config.single_z = full;
    config.single_z_source = section + "use_full_rank_gate";
  }
  if (const auto single = flag("no_kda_lora")) {
    config.single_a = config.single_z = single;
    config.single_a_source = config.single_z_source = section + "no_kda_lora";
  }
}

// A list of layers; one that is no layer's number makes the list no list.
std::vector<std::int64_t> layer_list(const json& values) {
  std::vector<std::int64_t> list;
  for (const json& value : values) {
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() > kMaxLayers)
      return {};
    list.push_back(value.get<std::int64_t>());
  }
  std::sort(list.begin(), list.end());
  return list;
}

// Lists say which layers are linear, or which are not; two families give a rule in place of a list.
void read_layers(const json& text, Config& config) {
  config.layer_count = integer(text, "num_hidden_layers");
  if (config.layer_count && (*config.layer_count < 1 || *config.layer_count > kMaxLayers)) config.layer_count.reset();
  const auto array = [](const json& from, const char* key) {
    return from.contains(key) && from[key].is_array() ? &from[key] : nullptr;
  };
  const auto all_but = [&](const auto& is_full, std::string source) {
    for (std::int64_t i = 0; i < *config.layer_count; ++i) {
      if (!is_full(i)) config.linear_layers.push_back(i);
    }
    config.linear_layers_source = std::move(source);
  };
  if (const json* kinds = array(text, "layer_types"); kinds != nullptr && kinds->size() <= kMaxLayers) {
    std::int64_t index = 0;
    for (const json& kind : *kinds) {
      if (kind.is_string() && kind.get<std::string>().find("linear") != std::string::npos)
        config.linear_layers.push_back(index);
      ++index;
    }
    config.linear_layers_source = "layer_types";
    if (!config.layer_count) config.layer_count = index;
  } else if (const json* linear = text.contains("linear_attn_config") ? &text["linear_attn_config"] : nullptr;
             linear != nullptr && linear->is_object() && array(*linear, "kda_layers") != nullptr) {
    config.linear_layers = layer_list(*array(*linear, "kda_layers"));
    config.linear_layers_source = "linear_attn_config.kda_layers";
    config.layer_base = config.model_type == "kimi_linear" || config.model_type == "kimi_k3" ? 1 : 0;
  } else if (const json* full = array(text, "full_attention_layers"); full != nullptr && config.layer_count) {
    const std::vector<std::int64_t> list = layer_list(*full);
    all_but([&](std::int64_t i) { return std::binary_search(list.begin(), list.end(), i); },
            "all but full_attention_layers");
  } else {
    for (const char* key : {"full_attention_interval", "layer_group_size"}) {
      const auto every = integer(text, key);
      if (!every || *every < 1 || !config.layer_count || !config.linear_layers.empty()) continue;
      all_but([&](std::int64_t i) { return (i + 1) % *every == 0; }, fmt::format("{} = {}", key, *every));
    }
  }
}

// "model.layers.3.linear_attn." and "A_log" of a tensor's name; false where it is in no layer.
bool split_name(const std::string& name, int& layer, std::string& prefix, std::string& rest) {
  const std::size_t at = name.find("layers.");
  if (at == std::string::npos) return false;
  std::size_t end = at + 7;
  std::int64_t number = 0;
  while (end < name.size() && name[end] >= '0' && name[end] <= '9' && number < 100000) {
    number = number * 10 + (name[end++] - '0');
  }
  const std::size_t dot = end < name.size() && name[end] == '.' ? name.find('.', end + 1) : std::string::npos;
  if (end == at + 7 || dot == std::string::npos) return false;
  layer = static_cast<int>(number);
  prefix = name.substr(0, dot + 1);
  rest = name.substr(dot + 1);
  return true;
}

}  // namespace

std::int64_t StoredTensor::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

bool StoredTensor::is_float() const { return dtype == "BF16" || dtype == "F16" || dtype == "F32" || dtype == "F64"; }

const StoredTensor* StoredLayer::find(const std::vector<std::string>& names) const {
  for (const std::string& name : names) {
    const auto found = tensors.find(name);
    if (found != tensors.end()) return &found->second;
  }
  return nullptr;
}

const std::vector<std::string>& first_matrices_of_a() {
  static const std::vector<std::string> kNames = {"f_a_proj.weight", "f_proj.weight", "f_down_proj.weight",
                                                  "f_proj.0.weight"};
  return kNames;
}

Config read_config(const std::string& file) {
  std::int64_t size = 0;
  std::ifstream stream = open_stored(file, size);
  if (size > kMaxConfig) {
    throw BadCheckpoint(fmt::format("{}: {} bytes are no config.json, which has at most {}", file, size, kMaxConfig));
  }
  const json whole = parse_json(file, read_stored(stream, file, size));
  // A model with several towers keeps the language model's keys one level deeper.
  const bool nested = whole.contains("text_config") && whole["text_config"].is_object();
  const json& text = nested ? whole["text_config"] : whole;
  Config config;
  config.model_type = word(text, "model_type").empty() ? word(whole, "model_type") : word(text, "model_type");
  if (text.contains("linear_attn_config") && text["linear_attn_config"].is_object()) {
    const json& linear = text["linear_attn_config"];
    config.kda = true;
    config.key_heads = config.value_heads = integer(linear, "num_heads");
    config.key_dim = config.value_dim = integer(linear, "head_dim");  // head_dim of the top is another layer's
    config.conv_width = integer(linear, "short_conv_kernel_size");
    sources(config, "linear_attn_config.num_heads", "linear_attn_config.num_heads", "linear_attn_config.head_dim",
            "linear_attn_config.head_dim", "linear_attn_config.short_conv_kernel_size");
    read_decay(linear, "linear_attn_config.", config);
    read_gates(linear, "linear_attn_config.", config);
  } else if (text.contains("linear_num_key_heads") || text.contains("linear_num_value_heads")) {
    config.key_heads = integer(text, "linear_num_key_heads");
    config.value_heads = integer(text, "linear_num_value_heads");
    config.key_dim = integer(text, "linear_key_head_dim");
    config.value_dim = integer(text, "linear_value_head_dim");
    config.conv_width = integer(text, "linear_conv_kernel_dim");
    sources(config, "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim",
            "linear_conv_kernel_dim");
    if (text.contains("kda_safe_gate") || text.contains("kda_lower_bound")) {
      config.kda = true;
      read_decay(text, "", config);
      read_gates(text, "", config);
    }
  } else if (text.contains("kda_safe_gate") || text.contains("kda_lower_bound")) {
    config.kda = true;
    config.key_heads = config.value_heads = integer(text, "num_attention_heads");
    config.key_dim = config.value_dim = integer(text, "head_dim");
    config.conv_width = integer(text, "short_conv_kernel_size");
    sources(config, "num_attention_heads", "num_attention_heads", "head_dim", "head_dim", "short_conv_kernel_size");
    read_decay(text, "", config);
    read_gates(text, "", config);
  } else {
    throw BadCheckpoint(
        fmt::format("{}: no linear-attention layer in it (model_type {}): neither linear_num_key_heads nor "
                    "linear_attn_config is there",
                    file, config.model_type.empty() ? "not given" : spec::quote(config.model_type)));
  }
  read_norm(text, config);
  read_layers(text, config);
  if (text.contains("linear_allow_neg_eigval") && text["linear_allow_neg_eigval"].is_boolean()) {
    config.negative_eigenvalues = text["linear_allow_neg_eigval"].get<bool>();
  } else if (config.model_type == "olmo_hybrid") {
    config.negative_eigenvalues = true;  // the class's default
  }
  config.legacy_qkvz = text.contains("linear_use_legacy_qkvz_layout") &&
                       text["linear_use_legacy_qkvz_layout"].is_boolean() &&
                       text["linear_use_legacy_qkvz_layout"].get<bool>();
  return config;
}

Checkpoint read_checkpoint(const std::string& config, const std::vector<std::string>& safetensors) {
  Checkpoint checkpoint;
  checkpoint.config = read_config(config);
  std::map<std::string, StoredLayer> layers;
  for (const std::string& file : safetensors) {
    for (auto& [name, tensor] : read_safetensors_header(file)) {
      int index = 0;
      std::string prefix, rest;
      if (!split_name(name, index, prefix, rest)) continue;
      StoredLayer& layer = layers[prefix];
      layer.index = index;
      layer.prefix = prefix;
      if (!layer.tensors.emplace(rest, tensor).second) {
        throw BadCheckpoint(fmt::format("{}: {} stands in another of the files too", file, name));
      }
    }
  }
  for (auto& [prefix, layer] : layers) {
    // Projections of softmax layers have the same names; only a linear layer has decays.
    if (layer.find({"A_log", "in_proj_qkvz.weight", "in_proj_qkv.weight", "dt_bias"})) {
      checkpoint.layers.push_back(std::move(layer));
    }
  }
  // The tensors know the rule: some kda models have nothing but gdn's keys in their config.
  for (const StoredLayer& layer : checkpoint.layers) {
    if (!checkpoint.config.kda && layer.find(first_matrices_of_a()) != nullptr) {
      checkpoint.config.kda = true;
      checkpoint.config.decay_form = "softplus";
      checkpoint.config.decay_source = "no key of a bound";
    }
  }
  std::stable_sort(checkpoint.layers.begin(), checkpoint.layers.end(),
                   [](const StoredLayer& a, const StoredLayer& b) { return a.index < b.index; });
  if (!safetensors.empty() && checkpoint.layers.empty()) {
    throw BadCheckpoint(
        fmt::format("{}: no tensor of a linear-attention layer (A_log, in_proj_qkvz, in_proj_qkv) is in {}",
                    safetensors.front(), safetensors.size() == 1 ? "it" : "these files"));
  }
  return checkpoint;
}

}  // namespace gdn::review
