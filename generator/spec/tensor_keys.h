// Which tensors a spec lists, in which sections, of which dtypes and dimensions.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "spec/spec.h"

namespace gdn::spec {

// Which dtypes a tensor may have.
enum class DtypeSet : std::uint8_t { kActivation, kWeight, kState, kWideState, kExact, kOutput };
std::vector<core::DType> dtypes(DtypeSet set);

// What a tensor holds, and so which dimensions it must have beside the leading one and `tap`.
enum class Holds : std::uint8_t {
  kInputParts,     // one part that it is named after, or a packed dimension of parts q k v z b a
  kConvParts,      // a packed dimension of exactly q, k, v
  kKeyChannels,    // key_head, key_dim
  kValueChannels,  // value heads, value_dim
  kValueHeads,     // value heads: value_head, or key_head and group
  kDecays,         // value heads, and key_dim where the rule is kda: a decay for each key channel
  kValueDim,       // value_dim
  kState,          // value heads, key_dim, value_dim
  kStateRows,      // value heads, value_dim
  kScaleGroups,    // scale_group; token may stand behind it
};

enum class Leads : std::uint8_t { kNone, kToken, kSlot, kSequence };

struct TensorKey {
  std::string_view section;  // "inputs", ...
  std::string_view name;     // "conv_weight"; "*" for an input, which may have any name
  Leads leads = Leads::kNone;
  Holds holds = Holds::kInputParts;
  bool tap = false;
  DtypeSet dtypes = DtypeSet::kActivation;
  bool later = false;  // the language has a place for it, this version refuses it by name
  std::string_view help;
  bool step = false;                              // it has the dimension step
  core::Rollback scheme = core::Rollback::kNone;  // given exactly where speculative.scheme is this
};

const std::vector<TensorKey>& tensor_keys();

// The row of a tensor; null for an unknown name.
const TensorKey* tensor_key(std::string_view section, std::string_view name);

// What one part of a packed dimension holds: q, k: kKeyChannels; v, z: kValueChannels; b: kValueHeads; a: kDecays. Null
// for anything else.
const Holds* part_holds(std::string_view part);

struct SectionKey {
  std::string_view name;
  std::vector<Tensor> Spec::* tensors;
  Place SectionPlaces::* place;
  std::string_view help;
};

// inputs, parameters, pools, handover, outputs.
const std::vector<SectionKey>& tensor_sections();

struct DimName {
  std::string_view name;
  std::string_view help;
};

// token, slot, key_head, ...; `channel` is a shorthand and not among them.
const std::vector<DimName>& dim_names();

}  // namespace gdn::spec
