#include "review/match.h"

#include <fmt/format.h>

#include <algorithm>

#include "review/safetensors.h"

namespace gdn::review {
namespace {

using Shape = std::vector<std::int64_t>;

std::string text_of(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::string_view word(core::Activation a) {
  return a == core::Activation::kSilu ? "silu" : a == core::Activation::kSigmoid ? "sigmoid" : "none";
}
std::string_view word(core::NormWeight w) {
  return w == core::NormWeight::kW ? "w" : w == core::NormWeight::kOnePlusW ? "1+w" : "2*(1+w)";
}

class Matcher {
 public:
  Matcher(const Side& side, const Checkpoint& checkpoint) : spec_(side.spec), checkpoint_(checkpoint) {}

  std::vector<Disagreement> run() {
    config();
    for (const StoredLayer& layer : checkpoint_.layers) tensors(layer);
    layers();
    return std::move(found_);
  }

 private:
  void say(std::string key, std::string source, std::string what) {
    // Every layer disagrees alike: the first says it.
    for (const Disagreement& known : found_) {
      if (known.key == key && known.what == what) return;
    }
    found_.push_back({std::move(key), std::move(source), std::move(what)});
  }

  void number(const char* key, std::int64_t mine, const std::optional<std::int64_t>& theirs,
              const std::string& source) {
    if (theirs && *theirs != mine) say(key, source, fmt::format("the spec says {}, the config {}", mine, *theirs));
  }

  void config() {
    const Config& c = checkpoint_.config;
    if (c.kda != (*spec_.rule == core::Rule::kKda)) {
      say("rule", "config.json",
          fmt::format("the spec says {}, the config is one of {} layers",
                      *spec_.rule == core::Rule::kKda ? "kda" : "gdn", c.kda ? "kda" : "gdn"));
    }
    number("heads.key", *spec_.heads.key, c.key_heads, c.key_heads_source);
    number("heads.value", *spec_.heads.value, c.value_heads, c.value_heads_source);
    number("dims.key", *spec_.dims.key, c.key_dim, c.key_dim_source);
    number("dims.value", *spec_.dims.value, c.value_dim, c.value_dim_source);
    number("conv.width", *spec_.conv.width, c.conv_width, c.conv_width_source);
    decay();
    matrices("a", c.single_a, c.single_a_source, spec_.projections.a);
    matrices("z", c.single_z, c.single_z_source, spec_.projections.z);
    if (*spec_.out_norm.enabled) norm();
    const double factor = c.negative_eigenvalues.value_or(false) ? 2 : 1;
    if (factor != *spec_.beta.factor) {
      say("beta.factor", "linear_allow_neg_eigval",
          fmt::format("the spec says {}, the model {}", *spec_.beta.factor, factor));
    }
  }

  // Where the engine norms o itself, none of this is in the spec.
  void norm() {
    const Config& c = checkpoint_.config;
    if (c.norm_eps && *c.norm_eps != *spec_.out_norm.eps) {
      say("out_norm.eps", c.norm_eps_source,
          fmt::format("the spec says {}, the model {}", *spec_.out_norm.eps, *c.norm_eps));
    }
    if (!c.gate.empty() && c.gate != word(*spec_.out_norm.gate)) {
      say("out_norm.gate", c.gate_source,
          fmt::format("the spec says {}, the model {}", word(*spec_.out_norm.gate), c.gate));
    }
    if (c.norm_weight != word(*spec_.out_norm.weight)) {
      say("out_norm.weight", c.norm_weight_source,
          c.norm_weight.empty()
              ? std::string("no spec can say what this config asks for")
              : fmt::format("the spec says {}, the model {}", word(*spec_.out_norm.weight), c.norm_weight));
    }
  }

  // The form of the decay and its bound. A reader that looks for the bound under another key finds none.
  void decay() {
    const Config& c = checkpoint_.config;
    if (!c.kda || *spec_.rule != core::Rule::kKda || c.decay_form.empty()) return;
    const bool bounded = *spec_.decay.form == core::DecayForm::kBounded;
    const std::string mine = bounded ? "bounded" : "softplus";
    if (mine != c.decay_form) {
      say("decay.form", c.decay_source, fmt::format("the spec says {}, the model {}", mine, c.decay_form));
      return;
    }
    if (!bounded) return;
    if (c.bound && *c.bound != *spec_.decay.bound) {
      say("decay.bound", c.decay_source, fmt::format("the spec says {}, the config {}", *spec_.decay.bound, *c.bound));
    }
    const std::string_view key = *spec_.decay.bound_key == spec::BoundKey::kLowerBound       ? "lower_bound"
                                 : *spec_.decay.bound_key == spec::BoundKey::kGateLowerBound ? "gate_lower_bound"
                                                                                             : "kda_lower_bound";
    if (key != c.bound_key) {
      say("decay.bound_key", c.decay_source, fmt::format("the spec says {}, the config has {}", key, c.bound_key));
    }
  }

  // What the config says about the matrices of a kda gate.
  void matrices(const char* part, const std::optional<bool>& single, const std::string& source,
                const spec::Located<spec::Projection>& mine) {
    if (!single || !checkpoint_.config.kda || *spec_.rule != core::Rule::kKda) return;
    if (*single == (*mine == spec::Projection::kSingle)) return;
    say(fmt::format("projections.{}", part), source,
        *single ? "the spec says low_rank, the config a single matrix"
                : "the spec says single, the config a low-rank gate");
  }

  // The matrices of a kda gate: one, or two with a small number of channels between them.
  void gate(const StoredLayer& layer, const char* part, const std::vector<std::string>& firsts,
            const std::vector<std::string>& seconds, spec::Projection mine, int rank, const char* rank_key,
            std::int64_t rows) {
    const auto named = [&](const std::vector<std::string>& names) {
      for (const std::string& name : names) {
        if (layer.find({name}) != nullptr) return name;
      }
      return std::string();
    };
    const std::string first = named(firsts), second = named(seconds);
    if (first.empty() && second.empty()) return;
    const std::string key = fmt::format("projections.{}", part);
    const bool low_rank = !second.empty();
    if (low_rank != (mine == spec::Projection::kLowRank)) {
      say(key, layer.prefix + (low_rank ? second : first),
          low_rank ? "the spec says single, the checkpoint has two matrices"
                   : "the spec says low_rank, the checkpoint has no second matrix");
      return;
    }
    if (!low_rank) {
      shape(layer, first.c_str(), key.c_str(), {{rows, -1}});
      return;
    }
    if (!first.empty()) shape(layer, first.c_str(), rank_key, {{rank, -1}});
    shape(layer, second.c_str(), fmt::format("{}, {}", key, rank_key).c_str(), {{rows, rank}});
  }

  void kda(const StoredLayer& layer, std::int64_t keys, std::int64_t values) {
    const spec::Projections& mine = spec_.projections;
    gate(layer, "a", first_matrices_of_a(), {"f_b_proj.weight", "f_up_proj.weight", "f_proj.1.weight"}, *mine.a,
         *mine.a_rank, "projections.a_rank", keys);
    gate(layer, "z", {"g_a_proj.weight", "g_proj.weight", "g_proj.0.weight", "in_proj_z.weight"},
         {"g_b_proj.weight", "g_proj.1.weight"}, *mine.z, *mine.z_rank, "projections.z_rank", values);
  }

  // Whether a tensor of the checkpoint has one of the shapes; says so when it has none.
  void shape(const StoredLayer& layer, const char* name, const char* key, const std::vector<Shape>& legal) {
    const StoredTensor* tensor = layer.find({name});
    if (tensor == nullptr) return;
    for (const Shape& one : legal) {
      if (tensor->shape.size() == one.size() &&
          std::equal(one.begin(), one.end(), tensor->shape.begin(),
                     [](std::int64_t a, std::int64_t b) { return a < 0 || a == b; })) {
        return;
      }
    }
    std::string wanted;
    for (const Shape& one : legal) wanted += (wanted.empty() ? "" : " or ") + text_of(one);
    std::size_t at;
    while ((at = wanted.find("-1")) != std::string::npos) wanted.replace(at, 2, "hidden");
    say(key, layer.prefix + name, fmt::format("the spec makes it {}, it is {}", wanted, text_of(tensor->shape)));
  }

  void tensors(const StoredLayer& layer) {
    const std::int64_t hk = *spec_.heads.key, hv = *spec_.heads.value, k = *spec_.dims.key, v = *spec_.dims.value;
    const std::int64_t w = *spec_.conv.width, keys = hk * k, values = hv * v, hidden = -1;
    const auto conv = [&](std::int64_t channels) { return std::vector<Shape>{{channels, 1, w}, {channels, w}}; };
    shape(layer, "in_proj_qkvz.weight", "heads, dims", {{2 * keys + 2 * values, hidden}});
    shape(layer, "in_proj_ba.weight", "heads", {{2 * hv, hidden}});
    shape(layer, "in_proj_qkv.weight", "heads, dims", {{2 * keys + values, hidden}});
    shape(layer, "in_proj_z.weight", "heads, dims", {{values, hidden}});
    for (const char* name : {"in_proj_b.weight", "in_proj_a.weight", "b_proj.weight", "a_proj.weight"}) {
      shape(layer, name, "heads.value", {{hv, hidden}});
    }
    for (const char* name : {"q_proj.weight", "k_proj.weight"})
      shape(layer, name, "heads.key, dims.key", {{keys, hidden}});
    shape(layer, "v_proj.weight", "heads.value, dims.value", {{values, hidden}});
    if (*spec_.rule == core::Rule::kKda) {
      kda(layer, hv * k, values);
    } else {
      shape(layer, "g_proj.weight", "heads.value, dims.value", {{values, hidden}});
    }
    shape(layer, "conv1d.weight", "conv.width, heads, dims", conv(2 * keys + values));
    for (const char* name : {"q_conv1d.weight", "k_conv1d.weight"})
      shape(layer, name, "conv.width, heads.key, dims.key", conv(keys));
    shape(layer, "v_conv1d.weight", "conv.width, heads.value, dims.value", conv(values));
    for (const char* name : {"norm.weight", "o_norm.weight"}) shape(layer, name, "dims.value", {{v}});
    decays(layer, hv, k);
    quantised(layer);
    difference(layer, keys);
    order(layer);
    if (layer.find({"conv1d.bias", "q_conv1d.bias"}) != nullptr && !*spec_.conv.bias) {
      say("conv.bias", layer.prefix + "conv1d.bias", "the spec says false, the checkpoint has a bias");
    }
    if (layer.find(first_matrices_of_a()) != nullptr && *spec_.rule != core::Rule::kKda) {
      say("rule", layer.prefix + "f_...proj.weight",
          "the spec says gdn, the checkpoint has a decay per key channel (kda)");
    }
  }

  void decays(const StoredLayer& layer, std::int64_t hv, std::int64_t k) {
    const bool absent = *spec_.decay.a_log == core::AStored::kAbsent;
    if (layer.find({"A_log"}) == nullptr && layer.find({"dt_bias"}) != nullptr && !absent) {
      say("decay.a_log", layer.prefix + "A_log", "the checkpoint has none: the spec must say absent, and no a_log");
    }
    if (const StoredTensor* a = layer.find({"A_log"})) {
      if (absent) {
        say("decay.a_log", layer.prefix + "A_log", "the spec says absent, the checkpoint has it");
      } else if (*spec_.decay.a_log_padded) {
        padding(layer, *a, hv);
      } else if (a->elements() > hv && a->shape.size() == 1) {
        say("heads.value", layer.prefix + "A_log",
            fmt::format(
                "it has {} elements for {} heads: padding at its end (a_log: log_padded, a_log_entries: {}), or "
                "another number of heads; a slice of {} by rank would take wrong heads",
                a->elements(), hv, a->elements(), a->elements()));
      } else if (a->elements() != hv) {
        say("heads.value", layer.prefix + "A_log",
            fmt::format("the spec makes it {} elements, it has {}", hv, a->elements()));
      }
    }
    if (const StoredTensor* bias = layer.find({"dt_bias"})) {
      const std::int64_t wanted = *spec_.rule == core::Rule::kKda ? hv * k : hv;
      if (bias->elements() != wanted) {
        say("heads.value", layer.prefix + "dt_bias",
            fmt::format("the spec makes it {} elements, it has {}", wanted, bias->elements()));
      }
    }
  }

  // Entries behind those of the heads must be zeros: anything else is a head that nobody reads.
  void padding(const StoredLayer& layer, const StoredTensor& a_log, std::int64_t heads) {
    const std::string source = layer.prefix + "A_log";
    if (a_log.elements() != *spec_.decay.a_log_entries || a_log.shape.size() != 1) {
      say("decay.a_log_entries", source,
          fmt::format("the spec says {}, it is {}", *spec_.decay.a_log_entries, text_of(a_log.shape)));
      return;
    }
    const std::string bytes = read_data(a_log);
    const std::size_t size = bytes.size() / static_cast<std::size_t>(a_log.elements());
    for (std::size_t i = static_cast<std::size_t>(heads); i < static_cast<std::size_t>(a_log.elements()); ++i) {
      if (bytes.find_first_not_of('\0', i * size) >= (i + 1) * size) continue;
      say("decay.a_log_entries", source,
          fmt::format("entry {} is not zero: the {} entries behind those of {} heads are no padding", i,
                      a_log.elements() - heads, heads));
      return;
    }
  }

  // qkv and z together say how many channels q and k have, whatever the hidden size: a number of rows alone says
  // nothing.
  void difference(const StoredLayer& layer, std::int64_t keys) {
    const StoredTensor* qkv = layer.find({"in_proj_qkv.weight"});
    const StoredTensor* z = layer.find({"in_proj_z.weight"});
    if (qkv == nullptr || z == nullptr || qkv->shape.empty() || z->shape.empty()) return;
    const std::int64_t rows = qkv->shape[0] - z->shape[0];
    if (rows != 2 * keys) {
      say("heads.key, dims.key", layer.prefix + "in_proj_qkv.weight",
          fmt::format("its rows less those of in_proj_z are {}, the spec's q and k have {}", rows, 2 * keys));
    }
  }

  // The name of the projection is the only safe sign of the order of its rows.
  void order(const StoredLayer& layer) {
    const char* stored = layer.find({"in_proj_qkvz.weight"}) != nullptr
                             ? (checkpoint_.config.legacy_qkvz ? "flat" : "interleaved")
                         : layer.find({"in_proj_qkv.weight"}) != nullptr ? "flat"
                                                                         : nullptr;
    if (stored == nullptr || *spec_.heads.key < 2) return;
    for (const spec::Tensor& input : spec_.inputs) {
      bool packed = false, below_head = false;
      for (const spec::Dim& dim : input.dims) {
        if (dim.packed()) packed = true;
        if (!packed && !dim.packed() && *dim.name == "key_head") below_head = true;
      }
      if (!packed) continue;
      const char* mine = below_head ? "interleaved" : "flat";
      if (std::string_view(mine) != stored) {
        say("inputs." + *input.name,
            layer.prefix +
                (layer.find({"in_proj_qkvz.weight"}) != nullptr ? "in_proj_qkvz.weight" : "in_proj_qkv.weight"),
            fmt::format("the spec's rows are {}, the checkpoint's are {}: same shape, other order", mine, stored));
      }
    }
  }

  // Whether every layer that has linear-attention tensors is on a list that calls the first layer `base`.
  template <class List>
  bool holds_stored_layers(const List& list, int base) const {
    return std::all_of(checkpoint_.layers.begin(), checkpoint_.layers.end(), [&](const StoredLayer& layer) {
      return std::binary_search(list.begin(), list.end(), layer.index + base);
    });
  }

  // Which layers are of this kind: by the spec, by the config's list, by the names of the tensors, which count from 0.
  void layers() {
    const Config& c = checkpoint_.config;
    const std::optional<int>& count = spec_.layers.count.value;
    if (c.layer_count && count && *c.layer_count != *count) {
      say("layers.count", "num_hidden_layers", fmt::format("the spec says {}, the config {}", *count, *c.layer_count));
    }
    const std::vector<int> mine = spec::layers_from_zero(spec_);
    if (!mine.empty() && !holds_stored_layers(mine, 0)) {
      say("layers.list", "names of the tensors",
          fmt::format("layers that have linear-attention tensors are not on the spec's list, which counts from {}{}",
                      *spec_.layers.base,
                      holds_stored_layers(mine, 1) ? "; all of them would be if it counted from 1" : ""));
    }
    if (c.linear_layers.empty()) return;
    // Tensors tell how the config counts; without them its family does.
    int base = c.layer_base;
    const bool from_zero = holds_stored_layers(c.linear_layers, 0), from_one = holds_stored_layers(c.linear_layers, 1);
    if (from_zero != from_one) base = from_one ? 1 : 0;
    std::vector<int> theirs;
    for (const std::int64_t layer : c.linear_layers) theirs.push_back(static_cast<int>(layer) - base);
    if (!from_zero && !from_one) {
      say("layers.list", c.linear_layers_source,
          "layers that have linear-attention tensors are not on the config's list, counted from 0 or from 1");
    }
    if (theirs == mine) return;
    std::vector<int> shifted = mine;
    for (int& layer : shifted) --layer;
    const auto text = [](const std::vector<int>& list) {
      return list.empty() ? std::string("unread") : fmt::format("[{}]", fmt::join(list, ", "));
    };
    say("layers.list", c.linear_layers_source,
        !mine.empty() && shifted == theirs
            ? "the config's list counts from 1, the spec has it as one that counts from 0"
            : fmt::format("counted from 0, the spec says {}, the config {}", text(mine), text(theirs)));
  }

  // What a quantiser must leave alone. 4 and 8 bits an element, and words that hold several of them.
  void quantised(const StoredLayer& layer) {
    struct Projection {
      const char* parts;
      std::vector<std::string> names;
    };
    static const std::vector<Projection> kProjections = {
        {"qkvz", {"in_proj_qkvz"}},
        {"qkv", {"in_proj_qkv"}},
        {"z", {"in_proj_z", "g_proj", "g_a_proj", "g_b_proj"}},
        {"ba", {"in_proj_ba"}},
        {"b", {"in_proj_b", "b_proj"}},
        {"a", {"in_proj_a", "a_proj", "f_a_proj", "f_b_proj", "f_proj", "f_down_proj", "f_up_proj"}},
        {"q", {"q_proj"}},
        {"k", {"k_proj"}},
        {"v", {"v_proj"}}};
    const std::vector<std::string>& kept = *spec_.projections.unquantised;
    for (const Projection& projection : kProjections) {
      for (const std::string& name : projection.names) {
        const StoredTensor* tensor = layer.find({name + ".weight", name + ".qweight", name + ".weight_packed"});
        if (tensor == nullptr || tensor->is_float()) continue;
        for (const std::string& part : kept) {
          if (std::string_view(projection.parts).find(part) == std::string_view::npos) continue;
          say("projections.unquantised", layer.prefix + name,
              fmt::format("the spec keeps {} in 16 bits or more, the checkpoint stores {}", part, tensor->dtype));
        }
      }
    }
    for (const char* name :
         {"conv1d.weight", "q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight", "A_log", "dt_bias"}) {
      const StoredTensor* tensor = layer.find({name});
      if (tensor == nullptr || tensor->is_float()) continue;
      say("parameters", layer.prefix + name, fmt::format("it is stored as {}: no kernel reads that", tensor->dtype));
    }
  }

  const spec::Spec& spec_;
  const Checkpoint& checkpoint_;
  std::vector<Disagreement> found_;
};

}  // namespace

std::vector<Disagreement> match(const Side& side, const Checkpoint& checkpoint) {
  return Matcher(side, checkpoint).run();
}

}  // namespace gdn::review
