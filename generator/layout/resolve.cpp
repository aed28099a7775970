#include "layout/resolve.h"

#include <fmt/format.h>

#include <stdexcept>

namespace gdn::layout {
namespace {

// Channels that share a scale; 0 where the output is not quantised.
int quant_group(const spec::Spec& spec) {
  if (!*spec.output_quant.given) return 0;
  switch (*spec.output_quant.group) {
    case spec::OutputQuant::kHead:
      return *spec.dims.value;
    case spec::OutputQuant::kToken:
      return *spec.heads.value * *spec.dims.value;
    default:
      return *spec.output_quant.group;
  }
}

// Sizes of the named dimensions in one tensor. `tap` is the conv's width in weights and the window's length in pools.
class Sizes {
 public:
  Sizes(const spec::Spec& spec, std::int64_t taps) : spec_(spec), taps_(taps) {}

  std::int64_t of(const std::string& name) const {
    if (name == "key_head") return *spec_.heads.key;
    if (name == "value_head") return *spec_.heads.value;
    if (name == "group") return *spec_.heads.value / *spec_.heads.key;
    if (name == "key_dim") return *spec_.dims.key;
    if (name == "value_dim") return *spec_.dims.value;
    if (name == "tap") return taps_;
    if (name == "scale_group") return std::int64_t{*spec_.heads.value} * *spec_.dims.value / quant_group(spec_);
    if (name == "step") return *spec_.speculative.tokens;
    throw std::logic_error(fmt::format("dimension {} has no size", name));
  }

  std::int64_t of(const spec::Dim& dim) const {
    if (!dim.packed()) return of(*dim.name);
    std::int64_t sum = 0;
    for (const spec::Part& part : dim.parts) sum += of(part.dims);
    return sum;
  }

  std::int64_t of(const std::vector<spec::Dim>& dims) const {
    std::int64_t product = 1;
    for (const spec::Dim& dim : dims) product *= of(dim);
    return product;
  }

 private:
  const spec::Spec& spec_;
  std::int64_t taps_;
};

bool is_leading(const std::string& name) { return name == "token" || name == "slot" || name == "sequence"; }

// "[token@launch, key_head:16, {q:[key_dim:128], k:[key_dim:128]}, tap:3]"
std::string list_text(const std::vector<spec::Dim>& dims, const Sizes& sizes) {
  std::string text = "[";
  for (const spec::Dim& dim : dims) {
    if (text.size() > 1) text += ", ";
    if (dim.packed()) {
      text += "{";
      for (std::size_t i = 0; i < dim.parts.size(); ++i) {
        text += fmt::format("{}{}:{}", i ? ", " : "", *dim.parts[i].name, list_text(dim.parts[i].dims, sizes));
      }
      text += "}";
    } else if (is_leading(*dim.name)) {
      text += *dim.name + (dim.at_launch ? "@launch" : "");
    } else {
      text += fmt::format("{}{}:{}", *dim.name, dim.at_launch ? "@launch" : "", sizes.of(*dim.name));
    }
  }
  return text + "]";
}

// Appends the axes of plain `dims` whose innermost neighbour lies `stride` elements away.
void append_axes(const std::vector<spec::Dim>& dims, std::int64_t stride, const Sizes& sizes, std::vector<Axis>& axes) {
  std::int64_t extent = stride * sizes.of(dims);
  for (const spec::Dim& dim : dims) {
    const std::int64_t size = sizes.of(dim);
    extent /= size;
    axes.push_back({*dim.name, size, extent});
  }
}

TensorLayout resolve_tensor(const spec::Tensor& tensor, const Sizes& sizes, core::Role role, std::string name,
                            const std::string& lone_part) {
  TensorLayout result;
  result.name = std::move(name);
  result.role = role;
  result.dtype = *tensor.dtype;
  result.list = list_text(tensor.dims, sizes);

  std::vector<spec::Dim> dims = tensor.dims;
  if (!dims.empty() && is_leading(*dims.front().name)) {
    result.leading = *dims.front().name == "token"  ? core::Leading::kToken
                     : *dims.front().name == "slot" ? core::Leading::kSlot
                                                    : core::Leading::kSequence;
    result.launch_stride = dims.front().at_launch;
    result.replicated = *tensor.replicated;
    dims.erase(dims.begin());
  }
  if (!dims.empty() && *dims.front().name == "scale_group" && result.leading == core::Leading::kNone) {
    // Group by group: the tokens lie side by side behind it, and how many there are only the launch knows.
    result.leading = core::Leading::kScaleGroup;
    result.launch_stride = true;
    result.inner = sizes.of(dims.front());
    result.parts.push_back({lone_part, 0, {{"scale_group", result.inner, 0}}});
    return result;
  }
  result.inner = sizes.of(dims);

  std::size_t packed = dims.size();
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i].packed()) packed = i;
  }
  if (packed == dims.size()) {
    PartLayout part;
    part.name = lone_part;
    append_axes(dims, 1, sizes, part.axes);
    result.parts.push_back(std::move(part));
    return result;
  }
  const std::vector<spec::Dim> before(dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(packed));
  const std::vector<spec::Dim> after(dims.begin() + static_cast<std::ptrdiff_t>(packed) + 1, dims.end());
  const std::int64_t unit = sizes.of(after);
  std::int64_t offset = 0;
  for (const spec::Part& source : dims[packed].parts) {
    PartLayout part;
    part.name = *source.name;
    part.offset = offset;
    append_axes(before, unit * sizes.of(dims[packed]), sizes, part.axes);
    append_axes(source.dims, unit, sizes, part.axes);
    append_axes(after, 1, sizes, part.axes);
    offset += unit * sizes.of(source.dims);
    result.parts.push_back(std::move(part));
  }
  return result;
}

std::string_view word(core::Domain domain) {
  switch (domain) {
    case core::Domain::kLogit:
      return "logit";
    case core::Domain::kLn:
      return "ln";
    case core::Domain::kLog2:
      return "log2";
    case core::Domain::kExp:
      return "exp";
    case core::Domain::kSigmoid:
      return "sigmoid";
  }
  return "?";
}

std::string_view word(core::NormWeight weight) {
  switch (weight) {
    case core::NormWeight::kW:
      return "w";
    case core::NormWeight::kOnePlusW:
      return "1+w";
    case core::NormWeight::kTwiceOnePlusW:
      return "2*(1+w)";
  }
  return "?";
}

// What the values of each part of a tensor mean, where two meanings would have the same shape.
std::string domain_of(const spec::Spec& spec, const TensorLayout& tensor) {
  std::string text;
  const auto say = [&](std::string_view part, std::string_view meaning) {
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", part, meaning);
  };
  for (const PartLayout& part : tensor.parts) {
    if (part.name == "b") say("b", word(*spec.beta.input));
    if (part.name == "a") say("a", word(*spec.decay.input));
    if (part.name == "g") say("g", word(*spec.decay.handover));
    if (part.name == "record_decay") say("decay", word(core::Domain::kExp));
    if (part.name == "a_log") {
      say("a_log", *spec.decay.a_log == core::AStored::kNegativeExp ? "-exp" : "log");
      if (*spec.decay.a_log_padded) text += fmt::format(" entries={}", *spec.decay.a_log_entries);
    }
    if (part.name == "norm_weight") say("weight", word(*spec.out_norm.weight));
  }
  if (tensor.name.rfind("conv_weight", 0) == 0) {
    say("taps", *spec.conv.taps_oldest_first ? "oldest_first" : "newest_first");
  }
  if (tensor.name.rfind("conv_state", 0) == 0) {
    say("window", *spec.conv.anchor == core::Anchor::kFirst ? "anchor_first" : "anchor_last");
  }
  return text;
}

core::Facts numbers_of(const spec::Spec& spec) {
  core::Facts facts;
  facts.rule = *spec.rule;
  facts.key_heads = *spec.heads.key;
  facts.value_heads = *spec.heads.value;
  facts.group = *spec.heads.value / *spec.heads.key;
  facts.pairing = *spec.heads.pairing;
  facts.key_dim = *spec.dims.key;
  facts.value_dim = *spec.dims.value;
  facts.conv_width = *spec.conv.width;
  facts.conv_activation = *spec.conv.activation;
  facts.conv_bias = *spec.conv.bias;
  facts.taps_oldest_first = *spec.conv.taps_oldest_first;
  facts.window = *spec.conv.window;
  facts.anchor = *spec.conv.anchor;
  facts.qk_norm = *spec.qk_norm.enabled;
  facts.qk_eps = *spec.qk_norm.eps;
  facts.qk_eps_at = *spec.qk_norm.eps_at;
  facts.q_scale = *spec.qk_scale.q;
  facts.k_scale = *spec.qk_scale.k;
  facts.decay_form = *spec.decay.form;
  facts.softplus_threshold = *spec.decay.threshold;
  facts.decay_bound = *spec.decay.bound;
  facts.a_stored = *spec.decay.a_log;
  facts.g_handover = *spec.decay.handover;
  facts.beta_factor = *spec.beta.factor;
  if (*spec.out_norm.enabled) {
    facts.norm_eps = *spec.out_norm.eps;
    facts.norm_weight = *spec.out_norm.weight;
    facts.norm_gate = *spec.out_norm.gate;
    facts.norm_before_gate = *spec.out_norm.norm_before_gate;
    facts.round_norm = *spec.rounding.norm;
  }
  facts.quant_group = quant_group(spec);
  if (facts.quant_group > 0) {
    facts.quant_max = *spec.output_quant.max;
    facts.quant_floor_at = *spec.output_quant.floor_at;
    facts.quant_floor = facts.quant_floor_at == core::FloorAt::kNone ? 0 : *spec.output_quant.floor;
    facts.quant_power_of_two = *spec.output_quant.power_of_two;
    facts.quant_from = *spec.output_quant.from;
    facts.quant_divides = *spec.output_quant.divides;
  }
  facts.stochastic_state = *spec.rounding.state_stochastic;
  facts.round_conv = *spec.rounding.conv;
  facts.round_qk = *spec.rounding.qk;
  facts.round_beta = *spec.rounding.beta;
  facts.round_o = *spec.rounding.o;
  facts.slot_dtype = *spec.slots.dtype;
  facts.padding = *spec.slots.padding;
  facts.padded_output = *spec.slots.padded_output;
  facts.excess_output = *spec.slots.excess_output;
  if (*spec.prefill.enabled) {
    facts.chunk = *spec.prefill.chunk;
    facts.initial_states = *spec.prefill.initial_states;
    facts.final_states = *spec.prefill.final_states;
    facts.snapshots = *spec.prefill.snapshots;
    facts.round_prefill_qk = *spec.prefill.qk;
    if (facts.initial_states == core::InitialStates::kFlagged) facts.flag_dtype = *spec.prefill.flags;
  }
  if (*spec.speculative.given) {
    facts.tokens = *spec.speculative.tokens;
    facts.rollback = *spec.speculative.scheme;
    facts.counts = *spec.speculative.counts;
    facts.accepted_dtype = *spec.speculative.accepted;
  }
  return facts;
}

// conv_weight_q holds part q; every other tensor without a packed dimension holds the part it is named after.
std::string lone_part(const std::string& name) {
  for (const char* prefix : {"conv_weight_", "conv_bias_", "conv_state_"}) {
    if (name.rfind(prefix, 0) == 0) return name.substr(std::string_view(prefix).size());
  }
  return name;
}

}  // namespace

Layout resolve(const spec::Spec& spec) {
  Layout layout;
  layout.spec = *spec.name;
  layout.spec_file = spec.file;
  layout.numbers = numbers_of(spec);
  if (*spec.prefill.enabled) layout.prefill_offsets = *spec.prefill.offsets;
  if (*spec.speculative.given) layout.draft_offsets = *spec.speculative.offsets;
  layout.pairing_visible = layout.numbers.group > 1;

  const Sizes weights(spec, *spec.conv.width);
  const Sizes windows(spec, *spec.conv.window);
  const auto add = [&](const std::vector<spec::Tensor>& tensors, std::vector<TensorLayout>& out, const Sizes& sizes,
                       core::Role role, const std::string& prefix) {
    for (const spec::Tensor& tensor : tensors) {
      out.push_back(resolve_tensor(tensor, sizes, role, prefix + *tensor.name, lone_part(*tensor.name)));
      out.back().domain = domain_of(spec, out.back());
      if (out.back().name == "a_log" && *spec.decay.a_log_padded) out.back().inner = *spec.decay.a_log_entries;
    }
  };
  add(spec.inputs, layout.inputs, weights, core::Role::kInput, "");
  add(spec.parameters, layout.parameters, weights, core::Role::kParameter, "");
  add(spec.pools, layout.pools, windows, core::Role::kPool, "");
  for (TensorLayout& pool : layout.pools) {
    if (pool.find("intermediate_state") != nullptr || pool.name.rfind("record_", 0) == 0) {
      pool.role = core::Role::kRecord;
    }
  }
  add(spec.handover, layout.handover, weights, core::Role::kInput, "handover.");
  add(spec.outputs, layout.outputs, weights, core::Role::kOutput, "");
  for (const TensorLayout& tensor : layout.outputs) {
    if (tensor.leading == core::Leading::kScaleGroup) layout.numbers.scale_group_first = true;
  }
  return layout;
}

}  // namespace gdn::layout
