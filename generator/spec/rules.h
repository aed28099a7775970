// Every rule that a spec can break: one id, one sentence. Messages carry the id in brackets; each id has a golden text
// under tests/error, and a test fails where one is missing.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace gdn::spec {

enum class RuleId : std::uint8_t {
  // the file
  kFileRead,
  kFileSize,
  kFileText,
  // YAML, and what this project does not accept of it
  kYamlSyntax,
  kYamlRoot,
  kYamlDocuments,
  kYamlDepth,
  kYamlKey,
  kYamlDuplicate,
  kYamlAnchor,
  kYamlAlias,
  kYamlMerge,
  kYamlTag,
  kYamlEmpty,
  kYamlOctal,
  kYamlHex,
  kYamlBoolean,
  kYamlQuoted,
  // keys and their values
  kKeyUnknown,
  kKeyMissing,
  kKeyNeedless,
  kUnverified,
  kOverlayHead,
  kOverlayFor,
  kOverlayModel,
  kValueType,
  kValueWord,
  kValueTwice,
  kVersion,
  kLater,
  kShorthand,
  kDimUnknown,
  kDimEntry,
  // what the values say
  kNameIdentifier,
  kNameFile,
  kHeadsRange,
  kHeadsGroup,
  kHeadsRanks,
  kDimsMultiple,
  kConvWidth,
  kConvWindow,
  kConvBias,
  kEpsRange,
  kScaleRange,
  kDecayBounded,
  kDecayThreshold,
  kDecayALog,
  kDecayEntries,
  kBetaFactor,
  kRoundingDtype,
  kPrefillChunk,
  kLayersRange,
  kLayersBase,
  kLayersList,
  kStateRounding,
  kNormTensors,
  kNormOutput,
  kQuantMax,
  kQuantGroup,
  kQuantFloor,
  kQuantOutput,
  kQuantRow,
  kSpecTokens,
  kSpecWindow,
  kSpecTensors,
  kProjectionsRank,
  // what the tensors say
  kTensorName,
  kTensorMissing,
  kTensorSplit,
  kTensorDtype,
  kTensorReplicated,
  kInputName,
  kInputParts,
  kPackedOne,
  kPackedParts,
  kDimsLeading,
  kDimsLaunch,
  kDimsDuplicate,
  kDimsForeign,
  kDimsMissing,
  kHandoverDtype,
  kStateScale,
  kCount,
};

struct RuleText {
  RuleId rule;
  std::string_view id;    // "heads.group": stable, part of every message and of golden texts
  std::string_view says;  // the rule itself, one sentence
};

// All rules, in the order of RuleId.
const std::vector<RuleText>& rules();

// The id of one rule.
std::string_view id(RuleId rule);

}  // namespace gdn::spec
