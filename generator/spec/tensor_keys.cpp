#include "spec/tensor_keys.h"

namespace gdn::spec {

using core::DType;

std::vector<core::DType> dtypes(DtypeSet set) {
  switch (set) {
    case DtypeSet::kWideState:
      return {DType::kBf16, DType::kFp16, DType::kFp32, DType::kE4m3fn, DType::kE4m3fnuz};
    case DtypeSet::kActivation:
    case DtypeSet::kState:
      return {DType::kBf16, DType::kFp16, DType::kFp32};
    case DtypeSet::kWeight:
      return {DType::kBf16, DType::kFp32};
    case DtypeSet::kExact:
      return {DType::kFp32};
    case DtypeSet::kOutput:
      return {DType::kBf16, DType::kFp16, DType::kFp32, DType::kE4m3fn, DType::kE4m3fnuz};
  }
  return {};
}

const std::vector<TensorKey>& tensor_keys() {
  using H = Holds;
  using D = DtypeSet;
  static const std::vector<TensorKey> kTensors = {
      {"inputs", "*", Leads::kToken, H::kInputParts, false, D::kActivation, false, "rows of a projection"},

      {"parameters", "conv_weight", Leads::kNone, H::kConvParts, true, D::kWeight, false, "taps of q, k and v"},
      {"parameters", "conv_weight_q", Leads::kNone, H::kKeyChannels, true, D::kWeight, false, "taps of q"},
      {"parameters", "conv_weight_k", Leads::kNone, H::kKeyChannels, true, D::kWeight, false, "taps of k"},
      {"parameters", "conv_weight_v", Leads::kNone, H::kValueChannels, true, D::kWeight, false, "taps of v"},
      {"parameters", "conv_bias", Leads::kNone, H::kConvParts, false, D::kWeight, false, "conv bias of q, k and v"},
      {"parameters", "conv_bias_q", Leads::kNone, H::kKeyChannels, false, D::kWeight, false, "conv bias of q"},
      {"parameters", "conv_bias_k", Leads::kNone, H::kKeyChannels, false, D::kWeight, false, "conv bias of k"},
      {"parameters", "conv_bias_v", Leads::kNone, H::kValueChannels, false, D::kWeight, false, "conv bias of v"},
      {"parameters", "a_log", Leads::kNone, H::kValueHeads, false, D::kWeight, false, "see decay.a_log"},
      {"parameters", "dt_bias", Leads::kNone, H::kDecays, false, D::kWeight, false, "added to a"},
      {"parameters", "norm_weight", Leads::kNone, H::kValueDim, false, D::kWeight, false,
       "see out_norm.weight; not where out_norm is none"},
      {"parameters", "norm_bias", Leads::kNone, H::kValueDim, false, D::kWeight, false,
       "added after norm and weight; only where a layer has one"},
      {"parameters", "conv_weight_packed", Leads::kNone, H::kConvParts, true, D::kWeight, false,
       "the same taps in a kernel's own order and type, made by conv_pack; kernels take it in place of conv_weight"},

      {"pools", "conv_state", Leads::kSlot, H::kConvParts, true, D::kActivation, false,
       "last inputs of the convolution"},
      {"pools", "conv_state_q", Leads::kSlot, H::kKeyChannels, true, D::kActivation, false, "last inputs, of q"},
      {"pools", "conv_state_k", Leads::kSlot, H::kKeyChannels, true, D::kActivation, false, "last inputs, of k"},
      {"pools", "conv_state_v", Leads::kSlot, H::kValueChannels, true, D::kActivation, false, "last inputs, of v"},
      {"pools", "state", Leads::kSlot, H::kState, false, D::kWideState, false,
       "the recurrent state S; an 8-bit number counts times its row's scale"},
      {"pools", "state_scale", Leads::kSlot, H::kStateRows, false, D::kExact, false,
       "scales of an 8-bit state, one a value channel: the largest magnitude over its key channels / the largest code"},
      {"pools", "intermediate_state", Leads::kSequence, H::kState, false, D::kState, false,
       "states after each token of a launch, where speculative.scheme is intermediate; fp32 where the state has 8 bits "
       "or is rounded by chance",
       true, core::Rollback::kIntermediate},
      {"pools", "record_k", Leads::kSlot, H::kKeyChannels, false, D::kExact, false,
       "replay records: k after norm and scale", true, core::Rollback::kReplay},
      {"pools", "record_u", Leads::kSlot, H::kValueChannels, false, D::kExact, false,
       "replay records: beta * (v - S^T k), what is written along k", true, core::Rollback::kReplay},
      {"pools", "record_decay", Leads::kSlot, H::kDecays, false, D::kExact, false,
       "replay records: exp(g), and -1 where the last launch had no such token", true, core::Rollback::kReplay},
      {"pools", "workspace", Leads::kNone, H::kState, false, D::kExact, true, "scratch memory of a launch"},

      {"handover", "q", Leads::kToken, H::kKeyChannels, false, D::kActivation, false, "q"},
      {"handover", "k", Leads::kToken, H::kKeyChannels, false, D::kActivation, false, "k"},
      {"handover", "v", Leads::kToken, H::kValueChannels, false, D::kActivation, false, "v"},
      {"handover", "z", Leads::kToken, H::kValueChannels, false, D::kActivation, false,
       "z, as it came; not where out_norm is none"},
      {"handover", "b", Leads::kToken, H::kValueHeads, false, D::kActivation, false, "b, as it came"},
      {"handover", "a", Leads::kToken, H::kDecays, false, D::kActivation, false, "a, as it came"},
      {"handover", "g", Leads::kToken, H::kDecays, false, D::kExact, false, "the decay, in decay.handover's domain"},
      {"handover", "beta", Leads::kToken, H::kValueHeads, false, D::kActivation, false, "factor * sigmoid(b)"},
      {"handover", "o", Leads::kToken, H::kValueChannels, false, D::kActivation, false, "what the state answers to q"},

      {"outputs", "out", Leads::kToken, H::kValueChannels, false, D::kOutput, false,
       "after norm and gate; o where out_norm is none"},
      {"outputs", "out_scale", Leads::kToken, H::kScaleGroups, false, D::kExact, false,
       "scales of a quantised output: a number times its scale is the value"},
  };
  return kTensors;
}

const TensorKey* tensor_key(std::string_view section, std::string_view name) {
  for (const TensorKey& key : tensor_keys()) {
    if (key.section == section && (key.name == name || key.name == "*")) return &key;
  }
  return nullptr;
}

const Holds* part_holds(std::string_view part) {
  static constexpr Holds kKey = Holds::kKeyChannels;
  static constexpr Holds kValue = Holds::kValueChannels;
  static constexpr Holds kHeads = Holds::kValueHeads;
  static constexpr Holds kDecays = Holds::kDecays;
  if (part == "q" || part == "k") return &kKey;
  if (part == "v" || part == "z") return &kValue;
  if (part == "b") return &kHeads;
  if (part == "a") return &kDecays;
  return nullptr;
}

const std::vector<SectionKey>& tensor_sections() {
  static const std::vector<SectionKey> kSections = {
      {"inputs", &Spec::inputs, &SectionPlaces::inputs,
       "rows of the projections: each of q k v z b a once; z only beside other parts where out_norm is none"},
      {"parameters", &Spec::parameters, &SectionPlaces::parameters, "weights, the same for all tokens"},
      {"pools", &Spec::pools, &SectionPlaces::pools, "state kept between calls, by slot, updated in place"},
      {"handover", &Spec::handover, &SectionPlaces::handover, "what the parts of the decode step hand to each other"},
      {"outputs", &Spec::outputs, &SectionPlaces::outputs, "what the layer gives to the output projection"},
  };
  return kSections;
}

const std::vector<DimName>& dim_names() {
  static const std::vector<DimName> kNames = {
      {"token", "rows of a launch; first in its list"},
      {"slot", "slots of a pool; first in its list"},
      {"sequence", "sequences of a launch; first in its list"},
      {"key_head", "heads.key entries"},
      {"value_head", "heads.value entries"},
      {"group", "value heads per key head: heads.value / heads.key entries"},
      {"key_dim", "dims.key entries"},
      {"value_dim", "dims.value entries"},
      {"tap", "of a conv weight: conv.width entries; of a conv state: conv.window entries"},
      {"scale_group", "groups of output_quant.group channels in a row of the output"},
      {"step", "tokens of a sequence in one launch: speculative.tokens entries"},
  };
  return kNames;
}

}  // namespace gdn::spec
