#include <fmt/format.h>

#include "review/match.h"
#include "spec/keys.h"
#include "spec/spec_text.h"

namespace gdn::review {
namespace {

constexpr std::string_view kUnknown = "FILL_IN";

std::string_view dtype_of(const StoredTensor* tensor) {
  if (tensor == nullptr) return kUnknown;
  if (tensor->dtype == "BF16") return "bf16";
  if (tensor->dtype == "F32") return "fp32";
  if (tensor->dtype == "F16") return "fp16";
  return kUnknown;
}

std::string number(const std::optional<std::int64_t>& value) {
  return value ? fmt::format("{}", *value) : std::string(kUnknown);
}

class Importer {
 public:
  Importer(const Checkpoint& checkpoint, const spec::Spec* engine)
      : config_(checkpoint.config),
        layer_(checkpoint.layers.empty() ? nullptr : &checkpoint.layers.front()),
        engine_(engine) {}

  std::string run(const std::string& name) {
    out_ = fmt::format("# {}: made from config.json{}; {} marks what its files do not say.\n", name,
                       layer_ ? " and the headers of " + layer_->prefix + "*" : "", kUnknown);
    out_ += fmt::format("gdn_gen: 1\nname: {}\nmodel: {}\nrule: {}\n\n", name, name, config_.kda ? "kda" : "gdn");
    out_ += fmt::format("heads:\n  key: {}\n  value: {}\n", number(config_.key_heads), number(config_.value_heads));
    out_ += fmt::format("  pairing: {}    # a checkpoint for transformers is grouped, a converted one need not be\n",
                        layer_ ? "grouped" : kUnknown);
    out_ += fmt::format("dims:\n  key: {}\n  value: {}\n\n", number(config_.key_dim), number(config_.value_dim));
    out_ += fmt::format("conv:\n  width: {}\n  activation: {}    # no file says it; silu in every released model\n",
                        number(config_.conv_width), kUnknown);
    const bool bias = layer_ && layer_->find({"conv1d.bias", "q_conv1d.bias"}) != nullptr;
    out_ += fmt::format("  bias: {}\n  taps: {}\n  window: {}\n  anchor: {}\n\n",
                        layer_ ? (bias ? "true" : "false") : kUnknown, engine("conv.taps"), engine("conv.window"),
                        engine("conv.anchor"));
    out_ += fmt::format(
        "qk_norm: {{kind: {0}, eps: {0}, eps_at: {0}}}    # no file says it; l2, 1e-6, sum in every released model\n",
        kUnknown);
    out_ += fmt::format(
        "qk_scale: {{q: {0}, k: {0}}}    # no file says it; key_dim^-0.5 and 1 in every released model\n\n", kUnknown);
    decay();
    out_ += fmt::format("beta: {{input: {}, factor: {}}}\n\n", engine("beta.input"),
                        config_.negative_eigenvalues ? (*config_.negative_eigenvalues ? "2" : "1") : kUnknown);
    out_ += fmt::format("out_norm:\n  kind: rms\n  span: value_dim\n  eps: {}    # {}\n",
                        config_.norm_eps ? fmt::format("{}", *config_.norm_eps) : std::string(kUnknown),
                        config_.norm_eps ? config_.norm_eps_source : "not in the config");
    out_ += fmt::format("  weight: {}    # {}\n  gate: {}    # {}\n  order: {}    # no file says it\n",
                        config_.norm_weight.empty() ? kUnknown : std::string_view(config_.norm_weight),
                        config_.norm_weight_source, config_.gate.empty() ? kUnknown : std::string_view(config_.gate),
                        config_.gate_source, kUnknown);
    out_ += "output_quant: none\nspeculative: none\n\n";
    engine_section("slots");
    engine_section("prefill");
    engine_section("rounding");
    layers();
    inputs();
    parameters();
    pools();
    rest();
    return std::move(out_);
  }

 private:
  std::string engine(std::string_view path) const {
    if (engine_ == nullptr) return std::string(kUnknown);
    for (const spec::Key& key : spec::keys()) {
      if (key.path == path) return key.show(*engine_);
    }
    return std::string(kUnknown);
  }

  void engine_section(std::string_view section) {
    out_ += fmt::format("{}:\n", section);
    for (const spec::Key& key : spec::keys()) {
      if (key.path.substr(0, section.size() + 1) != std::string(section) + ".") continue;
      if (engine_ != nullptr && key.applies && key.applies(*engine_) != spec::Applies::kYes) continue;
      out_ += fmt::format("  {}: {}\n", key.path.substr(section.size() + 1), engine(key.path));
    }
    out_ += "\n";
  }

  // Of a kda layer the config says the form, by whether it has a key of the bound.
  void decay() {
    out_ += fmt::format("decay:\n  input: {}\n", engine("decay.input"));
    if (config_.kda) {
      const bool bounded = config_.decay_form == "bounded";
      out_ += fmt::format("  form: {}    # {}\n", config_.decay_form, config_.decay_source);
      if (bounded) {
        out_ += fmt::format("  bound: {}\n  bound_key: {}\n", config_.bound.value_or(0), config_.bound_key);
      } else {
        out_ += fmt::format("  threshold: {}\n", engine("decay.threshold"));
      }
    } else {
      out_ += fmt::format("  form: {}    # softplus for gdn\n  threshold: {}\n", kUnknown, engine("decay.threshold"));
    }
    const StoredTensor* a_log = layer_ ? layer_->find({"A_log"}) : nullptr;
    if (a_log && padded(*a_log)) {
      out_ += fmt::format("  a_log: log_padded    # of {} entries, those behind the heads' must be zeros\n",
                          a_log->elements());
      out_ += fmt::format("  a_log_entries: {}\n", a_log->elements());
    } else if (layer_ && !a_log && config_.kda) {
      out_ += "  a_log: absent    # no A_log in the checkpoint\n";
    } else {
      out_ += fmt::format("  a_log: {}\n", a_log ? std::string_view("log") : kUnknown);
    }
    out_ += fmt::format("  handover: {}\n", engine("decay.handover"));
  }

  bool padded(const StoredTensor& a_log) const {
    return a_log.shape.size() == 1 && config_.value_heads && a_log.elements() > *config_.value_heads;
  }

  // The names of a gate's matrices tell how many there are, and without them the config may.
  void projection(const char* part, const std::vector<std::string>& firsts, const std::vector<std::string>& seconds,
                  const std::optional<bool>& single, const std::string& source) {
    const StoredTensor* first = layer_ ? layer_->find(firsts) : nullptr;
    const StoredTensor* second = layer_ ? layer_->find(seconds) : nullptr;
    if (second != nullptr) {
      out_ += fmt::format(
          "  {0}: low_rank\n  {0}_rank: {1}\n", part,
          first != nullptr && !first->shape.empty() ? fmt::format("{}", first->shape[0]) : std::string(kUnknown));
    } else if (first == nullptr && single) {
      out_ += fmt::format("  {}: {}    # {}\n", part, *single ? "single" : "low_rank", source);
      if (!*single) out_ += fmt::format("  {}_rank: {}    # not in the config\n", part, kUnknown);
    } else {
      out_ += fmt::format("  {}: {}\n", part, first != nullptr ? std::string_view("single") : kUnknown);
    }
  }

  // As the config lists them; what counts from where, only a family tells.
  void layers() {
    const bool listed = !config_.linear_layers.empty();
    out_ += fmt::format("layers:\n  count: {}\n  base: {}\n", number(config_.layer_count),
                        listed ? fmt::format("{}", config_.layer_base) : std::string(kUnknown));
    out_ += listed ? fmt::format("  list: [{}]    # {}\n", fmt::join(config_.linear_layers, ", "),
                                 config_.linear_layers_source)
                   : fmt::format("  list: {}    # not in the config\n", kUnknown);
    out_ +=
        fmt::format("projections:\n  unquantised: {}    # no file says it; [b, a] in every released model\n", kUnknown);
    if (config_.kda) {
      projection("a", first_matrices_of_a(), {"f_b_proj.weight", "f_up_proj.weight", "f_proj.1.weight"},
                 config_.single_a, config_.single_a_source);
      projection("z", {"g_a_proj.weight", "g_proj.weight", "g_proj.0.weight", "in_proj_z.weight"},
                 {"g_b_proj.weight", "g_proj.1.weight"}, config_.single_z, config_.single_z_source);
    }
    out_ += "\n";
  }

  void tensor(std::string_view name, std::string_view dtype, std::string_view dims, std::string_view why = "") {
    out_ += fmt::format("  {}: {{dtype: {}, dims: {}}}{}\n", name, dtype, dims,
                        why.empty() ? "" : fmt::format("    # {}", why));
  }

  void inputs() {
    out_ += "inputs:    # activations: their dtype is the engine's\n";
    const std::string_view dtype = activation();
    if (layer_ && layer_->find({"in_proj_qkvz.weight"})) {
      const char* order = config_.legacy_qkvz ? "flat" : "interleaved";
      tensor("qkvz", dtype, order, layer_->prefix + "in_proj_qkvz");
      tensor("ba", dtype, order, layer_->prefix + "in_proj_ba");
    } else if (layer_ && layer_->find({"in_proj_qkv.weight"})) {
      tensor("qkv", dtype, "flat", layer_->prefix + "in_proj_qkv; an engine that fuses z gets flat qkvz rows");
      tensor("z", dtype, "[token@launch, value_head, value_dim]");
      tensor("b", dtype, "[token@launch, value_head]");
      tensor("a", dtype, decays());
    } else if (layer_ && layer_->find({"q_proj.weight"})) {
      for (const char* part : {"q", "k"}) tensor(part, dtype, "[token@launch, key_head, key_dim]");
      for (const char* part : {"v", "z"}) tensor(part, dtype, "[token@launch, value_head, value_dim]");
      tensor("b", dtype, "[token@launch, value_head]");
      tensor("a", dtype, decays());
    } else {
      tensor("qkvz", dtype, kUnknown, "interleaved or flat: give --safetensors, the names of the projections tell");
      tensor("ba", dtype, kUnknown);
    }
  }

  std::string_view decays() const {
    return config_.kda ? "[token@launch, value_head, key_dim]" : "[token@launch, value_head]";
  }

  std::string_view activation() const { return engine_ ? core::to_string(*engine_->outputs.at(0).dtype) : kUnknown; }

  void parameters() {
    out_ += "parameters:    # as stored\n";
    const auto stored = [&](const std::vector<std::string>& names) { return layer_ ? layer_->find(names) : nullptr; };
    if (stored({"q_conv1d.weight"})) {
      tensor("conv_weight_q", dtype_of(stored({"q_conv1d.weight"})), "[key_head, key_dim, tap]");
      tensor("conv_weight_k", dtype_of(stored({"k_conv1d.weight"})), "[key_head, key_dim, tap]");
      tensor("conv_weight_v", dtype_of(stored({"v_conv1d.weight"})), "[value_head, value_dim, tap]");
    } else {
      tensor("conv_weight", dtype_of(stored({"conv1d.weight"})), "[channel, tap]");
    }
    if (stored({"conv1d.bias"})) tensor("conv_bias", dtype_of(stored({"conv1d.bias"})), "[channel]");
    if (!layer_ || !config_.kda || stored({"A_log"})) tensor("a_log", dtype_of(stored({"A_log"})), "[value_head]");
    tensor("dt_bias", dtype_of(stored({"dt_bias"})), config_.kda ? "[value_head, key_dim]" : "[value_head]");
    tensor("norm_weight", dtype_of(stored({"norm.weight", "o_norm.weight"})), "[value_dim]");
  }

  void pools() {
    out_ += "pools:    # the engine's\n";
    std::vector<const char*> names = {"conv_state"};
    if (engine_ && spec::find_tensor(engine_->pools, "conv_state_q")) {
      names = {"conv_state_q", "conv_state_k", "conv_state_v"};
    }
    names.push_back("state");
    for (const char* name : names) {
      const spec::Tensor* pool = engine_ ? spec::find_tensor(engine_->pools, name) : nullptr;
      tensor(name, pool ? core::to_string(*pool->dtype) : kUnknown,
             pool ? spec::dims_text(pool->dims) : std::string(kUnknown));
    }
  }

  void rest() {
    out_ += "handover:\n";
    for (const char* part : {"q", "k"}) tensor(part, activation(), "[token@launch, key_head, key_dim]");
    for (const char* part : {"v", "z"}) tensor(part, activation(), "[token@launch, value_head, value_dim]");
    tensor("b", activation(), "[token@launch, value_head]");
    tensor("a", activation(), decays());
    tensor("g", "fp32", decays());
    tensor("beta", "fp32", "[token@launch, value_head]");
    tensor("o", activation(), "[token@launch, value_head, value_dim]");
    out_ += "outputs:\n";
    tensor("out", activation(), "[token@launch, value_head, value_dim]");
  }

  const Config& config_;
  const StoredLayer* layer_;
  const spec::Spec* engine_;
  std::string out_;
};

}  // namespace

std::string import_spec(const Checkpoint& checkpoint, const std::string& name, const spec::Spec* engine) {
  return Importer(checkpoint, engine).run(name);
}

}  // namespace gdn::review
