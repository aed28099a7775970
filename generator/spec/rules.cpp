#include "spec/rules.h"

#include <stdexcept>

namespace gdn::spec {

const std::vector<RuleText>& rules() {
  static const std::vector<RuleText> kRules = {
      {RuleId::kFileRead, "file.read", "the spec is a regular file that can be read"},
      {RuleId::kFileSize, "file.size", "a spec is at most 1 MiB"},
      {RuleId::kFileText, "file.text", "a spec is UTF-8 text without control characters or a byte order mark"},
      {RuleId::kYamlSyntax, "yaml.syntax", "a spec is YAML"},
      {RuleId::kYamlRoot, "yaml.root", "the top of a spec is a map of keys"},
      {RuleId::kYamlDocuments, "yaml.documents", "a file holds one document"},
      {RuleId::kYamlDepth, "yaml.depth", "maps and lists are nested at most 16 deep"},
      {RuleId::kYamlKey, "yaml.key", "a key is a plain word"},
      {RuleId::kYamlDuplicate, "yaml.duplicate", "a key stands once in its map"},
      {RuleId::kYamlAnchor, "yaml.anchor", "anchors are not used: every value is written where it holds"},
      {RuleId::kYamlAlias, "yaml.alias", "aliases are not used: every value is written where it holds"},
      {RuleId::kYamlMerge, "yaml.merge", "the merge key << is not used: every key is written where it holds"},
      {RuleId::kYamlTag, "yaml.tag", "tags are not used: the key decides the type"},
      {RuleId::kYamlEmpty, "yaml.empty", "a key has a value"},
      {RuleId::kYamlOctal, "yaml.octal", "a number has no leading zero, which YAML reads as octal"},
      {RuleId::kYamlHex, "yaml.hex", "a number is decimal"},
      {RuleId::kYamlBoolean, "yaml.boolean", "a truth value is true or false"},
      {RuleId::kYamlQuoted, "yaml.quoted", "a number or a truth value has no quotes: a quoted scalar is text"},
      {RuleId::kKeyUnknown, "key.unknown", "only keys of the language are written"},
      {RuleId::kKeyMissing, "key.missing", "a key that changes numbers has no default: it is written"},
      {RuleId::kKeyNeedless, "key.needless", "a key that has no effect beside the others is not written"},
      {RuleId::kUnverified, "unverified", "unverified lists keys and tensors of the spec, and each is warned about"},
      {RuleId::kOverlayHead, "overlay.head", "an overlay starts with gdn_gen, its own name and the engine's"},
      {RuleId::kOverlayModel, "overlay.model", "an overlay sets what an engine may choose, never what the model is"},
      {RuleId::kValueType, "value.type", "a value has the type of its key"},
      {RuleId::kValueWord, "value.word", "a value is one of the words of its key"},
      {RuleId::kValueTwice, "value.twice", "a list of words has each once"},
      {RuleId::kVersion, "gdn_gen.version", "gdn_gen is a version of the language that this gdn-gen reads"},
      {RuleId::kLater, "later", "the language has a place for it, but this version can't generate it"},
      {RuleId::kShorthand, "dims.shorthand",
       "interleaved and flat need a tensor whose name spells its parts, SD and DS a conv state"},
      {RuleId::kDimUnknown, "dims.unknown", "a dimension has one of the names of the language"},
      {RuleId::kDimEntry, "dims.entry", "a list of dimensions holds names and packed dimensions"},
      {RuleId::kNameIdentifier, "name.identifier", "name is part of symbols and of file names"},
      {RuleId::kNameFile, "name.file", "name is the file's own name without .yaml"},
      {RuleId::kHeadsRange, "heads.range", "heads are 1 to 1024"},
      {RuleId::kHeadsGroup, "heads.group", "every key head has the same number of value heads"},
      {RuleId::kDimsMultiple, "dims.multiple", "head dimensions are multiples of 16 from 16 to 256"},
      {RuleId::kConvWidth, "conv.width", "the convolution has 2 to 8 taps"},
      {RuleId::kConvWindow, "conv.window", "the window holds at least width - 1 and at most 64 inputs"},
      {RuleId::kConvBias, "conv.bias", "conv_bias is given exactly when conv.bias is true"},
      {RuleId::kEpsRange, "eps.range", "an eps is above 0 and below 1"},
      {RuleId::kScaleRange, "qk_scale.range", "a scale is finite and above 0"},
      {RuleId::kDecayBounded, "decay.bounded", "the bounded decay belongs to rule: kda"},
      {RuleId::kDecayThreshold, "decay.threshold", "the threshold of softplus is from 1 to 80, or none"},
      {RuleId::kDecayALog, "decay.a_log",
       "a_log is given exactly where decay.a_log is not absent, which belongs to rule: kda"},
      {RuleId::kDecayEntries, "decay.a_log_entries", "a padded a_log has more entries than there are value heads"},
      {RuleId::kBetaFactor, "beta.factor", "beta is sigmoid(b) or 2 * sigmoid(b)"},
      {RuleId::kRoundingDtype, "rounding.dtype", "a value is rounded to bf16 or fp16, or kept fp32"},
      {RuleId::kPrefillChunk, "prefill.chunk", "a chunk of prefill has 16, 32 or 64 tokens"},
      {RuleId::kLayersRange, "layers.range", "a model has 1 to 1024 layers"},
      {RuleId::kLayersBase, "layers.base", "layers are counted from 0 or from 1"},
      {RuleId::kLayersList, "layers.list", "the list names layers of the model, ascending, each once"},
      {RuleId::kQuantMax, "output_quant.max", "a quantised number is at most 448, 240 or 224, as its type can hold"},
      {RuleId::kQuantGroup, "output_quant.group", "the groups of a row have the same number of channels"},
      {RuleId::kQuantFloor, "output_quant.floor", "a floor is above 0 and below 1"},
      {RuleId::kQuantOutput, "output_quant.output",
       "out is an 8-bit type, and out_scale is given, exactly where the output is quantised"},
      {RuleId::kQuantRow, "output_quant.row", "the channels of a head lie side by side in a quantised output"},
      {RuleId::kSpecTokens, "speculative.tokens", "a launch takes 1 to 8 tokens of a sequence"},
      {RuleId::kSpecWindow, "speculative.window",
       "the window of speculative decoding is anchored first and has room for the tokens of a launch"},
      {RuleId::kSpecTensors, "speculative.tensors", "the pools of speculative decoding are those of its scheme"},
      {RuleId::kProjectionsRank, "projections.rank", "the rank of a gate's two matrices is from 1 to 65536"},
      {RuleId::kTensorName, "tensors.name", "a tensor's name is an identifier that no other operand has"},
      {RuleId::kTensorMissing, "tensors.missing", "every tensor that the layer needs is described"},
      {RuleId::kTensorSplit, "tensors.split", "a conv tensor is one for q, k and v or three of them"},
      {RuleId::kTensorDtype, "tensors.dtype", "a tensor has a dtype that its role allows"},
      {RuleId::kInputName, "inputs.name", "an input without a packed dimension is named after its part"},
      {RuleId::kInputParts, "inputs.parts", "each of q, k, v, z, b, a lies in the inputs exactly once"},
      {RuleId::kPackedOne, "packed.one",
       "a list has at most one packed dimension, and only inputs and conv tensors have one"},
      {RuleId::kPackedParts, "packed.parts", "a packed dimension lists parts that its tensor can hold, each once"},
      {RuleId::kDimsLeading, "dims.leading", "token or slot is the first dimension, where there is one"},
      {RuleId::kDimsLaunch, "dims.launch", "only the stride of token or slot can be given at launch"},
      {RuleId::kDimsDuplicate, "dims.duplicate", "a dimension stands once in a list"},
      {RuleId::kDimsForeign, "dims.foreign", "a part has only its own dimensions"},
      {RuleId::kDimsMissing, "dims.missing", "a part has all its own dimensions"},
      {RuleId::kHandoverDtype, "handover.dtype", "what is handed over loses nothing that decode would keep"},
  };
  return kRules;
}

std::string_view id(RuleId rule) {
  const RuleText& text = rules().at(static_cast<std::size_t>(rule));
  if (text.rule != rule) throw std::logic_error("rules() is not in the order of RuleId");
  return text.id;
}

}  // namespace gdn::spec
