#include "oracle_specs.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace gdn::test {
namespace {

const char kChannel[] = "{q: key_head key_dim; k: key_head key_dim; v: value_head value_dim}";

spec::Dim plain(const std::string& word) {
  spec::Dim dim;
  const std::size_t at = word.find('@');
  dim.name.value = word.substr(0, at);
  dim.at_launch = at != std::string::npos;
  return dim;
}

}  // namespace

std::vector<spec::Dim> dims(const std::string& text) {
  std::vector<spec::Dim> list;
  const std::size_t open = text.find('{'), close = text.find('}');
  const auto words = [](const std::string& part, std::vector<spec::Dim>& to) {
    std::istringstream stream(part);
    for (std::string word; stream >> word;) to.push_back(plain(word));
  };
  words(text.substr(0, open), list);
  if (open == std::string::npos) return list;
  spec::Dim packed;
  std::istringstream parts(text.substr(open + 1, close - open - 1));
  for (std::string part; std::getline(parts, part, ';');) {
    spec::Part one;
    const std::size_t colon = part.find(':');
    std::istringstream(part.substr(0, colon)) >> one.name.value;
    words(part.substr(colon + 1), one.dims);
    packed.parts.push_back(one);
  }
  list.push_back(packed);
  words(text.substr(close + 1), list);
  return list;
}

spec::Tensor tensor(const std::string& name, core::DType dtype, const std::string& dims_text) {
  spec::Tensor made;
  made.name.value = name;
  made.dtype.value = dtype;
  std::string text = dims_text;
  const std::size_t channel = text.find("channel");
  if (channel != std::string::npos) text.replace(channel, 7, kChannel);
  made.dims = dims(text);
  return made;
}

spec::Tensor& find(std::vector<spec::Tensor>& tensors, const std::string& name) {
  const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return *t.name == name; });
  if (it == tensors.end()) throw std::out_of_range(name);
  return *it;
}

spec::Spec make_spec(const Choice& choice) {
  using core::DType;
  const DType act = choice.activations;
  const bool wide = act == DType::kFp32;
  spec::Spec s;
  s.version.value = 1;
  s.name.value = "made_in_memory";
  s.rule.value = core::Rule::kGdn;
  s.heads.key.value = choice.geometry.key_heads;
  s.heads.value.value = choice.geometry.value_heads;
  s.heads.pairing.value = choice.pairing;
  s.dims.key.value = choice.geometry.key_dim;
  s.dims.value.value = choice.geometry.value_dim;
  s.conv.width.value = 4;
  s.conv.activation.value = core::Activation::kSilu;
  s.conv.bias.value = false;
  s.conv.taps_oldest_first.value = true;
  s.conv.window.value = 3;
  s.conv.anchor.value = core::Anchor::kFirst;
  s.qk_norm.enabled.value = true;
  s.qk_norm.eps.value = 1e-6;
  s.qk_norm.eps_at.value = core::EpsAt::kSum;
  s.qk_scale.q.value = 1 / std::sqrt(static_cast<double>(choice.geometry.key_dim));
  s.qk_scale.k.value = 1;
  s.decay.input.value = core::Domain::kLogit;
  s.decay.form.value = core::DecayForm::kSoftplus;
  s.decay.threshold.value = 20;
  s.decay.bound.value = 0;
  s.decay.a_log.value = core::AStored::kLog;
  s.decay.handover.value = core::Domain::kLn;
  s.beta.input.value = core::Domain::kLogit;
  s.beta.factor.value = 1;
  s.out_norm.enabled.value = true;
  s.out_norm.eps.value = 1e-6;
  s.out_norm.weight.value = core::NormWeight::kW;
  s.out_norm.gate.value = core::Activation::kSilu;
  s.out_norm.norm_before_gate.value = true;
  s.slots.dtype.value = DType::kInt32;
  s.slots.padding.value = core::Padding::kNegative;
  s.slots.padded_output.value = core::PaddedOutput::kZero;
  s.slots.excess_output.value = core::PaddedOutput::kUntouched;
  s.rounding.conv.value = act;
  s.rounding.qk.value = DType::kFp32;
  s.rounding.beta.value = DType::kFp32;
  s.rounding.o.value = act;
  s.rounding.norm.value = DType::kFp32;

  switch (choice.family) {
    case Family::kInterleaved:
      s.inputs = {
          tensor("qkvz", act, "token@launch key_head {q: key_dim; k: key_dim; v: group value_dim; z: group value_dim}"),
          tensor("ba", act, "token@launch key_head {b: group; a: group}")};
      break;
    case Family::kFlat:
      s.inputs = {tensor("qkvz", act,
                         "token@launch {q: key_head key_dim; k: key_head key_dim; v: value_head value_dim; z: "
                         "value_head value_dim}"),
                  tensor("ba", act, "token@launch {b: value_head; a: value_head}")};
      break;
    case Family::kFlatSplit:
      s.inputs = {tensor("qkv", act, "token@launch channel"), tensor("z", act, "token@launch value_head value_dim"),
                  tensor("b", act, "token@launch value_head"), tensor("a", act, "token@launch value_head")};
      break;
    case Family::kSeparate:
      s.inputs = {
          tensor("q", act, "token@launch key_head key_dim"),     tensor("k", act, "token@launch key_head key_dim"),
          tensor("v", act, "token@launch value_head value_dim"), tensor("z", act, "token@launch value_head value_dim"),
          tensor("b", act, "token@launch value_head"),           tensor("a", act, "token@launch value_head")};
      break;
  }
  s.parameters = {tensor("conv_weight", act, "channel tap"), tensor("a_log", DType::kFp32, "value_head"),
                  tensor("dt_bias", act, "value_head"), tensor("norm_weight", act, "value_dim")};
  s.pools = {tensor("conv_state", act, choice.conv_sd ? "slot@launch tap channel" : "slot@launch channel tap"),
             tensor("state", choice.state,
                    choice.state_vk ? "slot@launch value_head value_dim key_dim"
                                    : "slot@launch value_head key_dim value_dim")};
  const DType gate = DType::kFp32;
  s.handover = {tensor("q", act, "token@launch key_head key_dim"),
                tensor("k", act, "token@launch key_head key_dim"),
                tensor("v", act, "token@launch value_head value_dim"),
                tensor("z", act, "token@launch value_head value_dim"),
                tensor("b", act, "token@launch value_head"),
                tensor("a", act, "token@launch value_head"),
                tensor("g", gate, "token@launch value_head"),
                tensor("beta", gate, "token@launch value_head"),
                tensor("o", wide ? DType::kFp32 : act, "token@launch value_head value_dim")};
  s.outputs = {tensor("out", act, "token@launch value_head value_dim")};
  return s;
}

}  // namespace gdn::test
