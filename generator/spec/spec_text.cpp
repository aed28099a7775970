#include "spec/spec_text.h"

#include <fmt/format.h>

#include <array>

namespace gdn::spec {
namespace {

std::string_view word(core::Activation value) {
  return std::array<std::string_view, 3>{"none", "silu", "sigmoid"}[static_cast<std::size_t>(value)];
}
std::string_view word(core::Domain value) {
  return std::array<std::string_view, 5>{"logit", "ln", "log2", "exp", "sigmoid"}[static_cast<std::size_t>(value)];
}
std::string_view word(core::EpsAt value) {
  return std::array<std::string_view, 3>{"sum", "mean", "max"}[static_cast<std::size_t>(value)];
}
std::string_view word(core::NormWeight value) {
  return std::array<std::string_view, 3>{"w", "1+w", "2*(1+w)"}[static_cast<std::size_t>(value)];
}
std::string_view word(core::Padding value) {
  return std::array<std::string_view, 3>{"none", "negative", "zero_or_negative"}[static_cast<std::size_t>(value)];
}

void section(std::string& text, std::string_view name, const std::vector<Tensor>& tensors) {
  text += fmt::format("{}:\n", name);
  for (const Tensor& tensor : tensors) {
    text += fmt::format("  {}: {{dtype: {}, dims: {}}}\n", *tensor.name, core::to_string(*tensor.dtype),
                        dims_text(tensor.dims));
  }
}

}  // namespace

std::string dims_text(const std::vector<Dim>& dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i != 0) text += ", ";
    if (!dims[i].packed()) {
      text += *dims[i].name + (dims[i].at_launch ? "@launch" : "");
      continue;
    }
    text += "{";
    for (std::size_t part = 0; part < dims[i].parts.size(); ++part) {
      text += fmt::format("{}{}: {}", part ? ", " : "", *dims[i].parts[part].name, dims_text(dims[i].parts[part].dims));
    }
    text += "}";
  }
  return text + "]";
}

std::string to_text(const Spec& spec) {
  std::string text = fmt::format("gdn_gen: {}\nname: {}\nmodel: {}\n", *spec.version, *spec.name, *spec.model);
  text += fmt::format("rule: {}\n", *spec.rule == core::Rule::kGdn ? "gdn" : "kda");
  text += fmt::format("heads: {{key: {}, value: {}, pairing: {}}}\n", *spec.heads.key, *spec.heads.value,
                      *spec.heads.pairing == core::Pairing::kGrouped ? "grouped" : "tiled");
  text += fmt::format("dims: {{key: {}, value: {}}}\n", *spec.dims.key, *spec.dims.value);
  text += fmt::format("conv: {{width: {}, activation: {}, bias: {}, taps: {}, window: {}, anchor: {}}}\n",
                      *spec.conv.width, word(*spec.conv.activation), *spec.conv.bias,
                      *spec.conv.taps_oldest_first ? "oldest_first" : "newest_first", *spec.conv.window,
                      *spec.conv.anchor == core::Anchor::kFirst ? "first" : "last");
  text += fmt::format("qk_norm: {{kind: {}, eps: {}, eps_at: {}}}\n", *spec.qk_norm.enabled ? "l2" : "none",
                      *spec.qk_norm.eps, word(*spec.qk_norm.eps_at));
  text += fmt::format("qk_scale: {{q: {}, k: {}}}\n", *spec.qk_scale.q, *spec.qk_scale.k);
  text +=
      fmt::format("decay: {{input: {}, form: {}, threshold: {}, a_log: {}, handover: {}}}\n", word(*spec.decay.input),
                  *spec.decay.form == core::DecayForm::kSoftplus ? "softplus" : "bounded", *spec.decay.threshold,
                  *spec.decay.a_log == core::AStored::kLog ? "log" : "negative_exp", word(*spec.decay.handover));
  text += fmt::format("beta: {{input: {}, factor: {}}}\n", word(*spec.beta.input), *spec.beta.factor);
  text += fmt::format("out_norm: {{kind: rms, span: value_dim, eps: {}, weight: {}, gate: {}, order: {}}}\n",
                      *spec.out_norm.eps, word(*spec.out_norm.weight), word(*spec.out_norm.gate),
                      *spec.out_norm.norm_before_gate ? "norm_then_gate" : "gate_then_norm");
  text += fmt::format("slots: {{dtype: {}, padding: {}, padded_output: {}}}\n", core::to_string(*spec.slots.dtype),
                      word(*spec.slots.padding),
                      *spec.slots.padded_output == core::PaddedOutput::kZero ? "zero" : "untouched");
  text +=
      fmt::format("rounding: {{conv: {}, qk: {}, beta: {}, o: {}, norm: {}}}\n", core::to_string(*spec.rounding.conv),
                  core::to_string(*spec.rounding.qk), core::to_string(*spec.rounding.beta),
                  core::to_string(*spec.rounding.o), core::to_string(*spec.rounding.norm));
  section(text, "inputs", spec.inputs);
  section(text, "parameters", spec.parameters);
  section(text, "pools", spec.pools);
  section(text, "handover", spec.handover);
  section(text, "outputs", spec.outputs);
  return text;
}

}  // namespace gdn::spec
