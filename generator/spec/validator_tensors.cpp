#include "spec/validator_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "spec/pieces.h"
#include "spec/rules.h"
#include "spec/scalars.h"
#include "spec/tensor_keys.h"
#include "spec/validator_norm.h"

namespace gdn::spec {
namespace {

using core::DType;

bool is_identifier(std::string_view text) {
  if (text.empty() || text.size() > 40 || text[0] < 'a' || text[0] > 'z') return false;
  for (const char c : text) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

bool is_part(std::string_view name) { return part_holds(name) != nullptr; }

// Whether all values of `from` are values of `to`.
bool keeps(DType to, DType from) { return to == from || to == DType::kFp32; }

// A conv tensor and its three halves: conv_weight, conv_weight_q, ...
const Tensor* find_split(const std::vector<Tensor>& tensors, std::string_view base, std::string_view part) {
  return find_tensor(tensors, fmt::format("{}_{}", base, part));
}

const Tensor* find_any(const std::vector<Tensor>& tensors, std::string_view base) {
  const Tensor* tensor = find_tensor(tensors, base);
  for (const std::string_view part : {"q", "k", "v"}) {
    if (!tensor) tensor = find_split(tensors, base, part);
  }
  return tensor;
}

// The input that holds a part, and the place of the part in it.
std::vector<std::pair<const Tensor*, Place>> holders(const Spec& spec, std::string_view part) {
  std::vector<std::pair<const Tensor*, Place>> result;
  for (const Tensor& tensor : spec.inputs) {
    if (!packed_dim(tensor) && *tensor.name == part) result.emplace_back(&tensor, tensor.name.place);
    for (const Dim& dim : tensor.dims) {
      for (const Part& inside : dim.parts) {
        if (*inside.name == part) result.emplace_back(&tensor, inside.name.place);
      }
    }
  }
  return result;
}

}  // namespace

void check_tensor_name(const Spec& spec, Diagnostics& diagnostics) {
  for (const Tensor& tensor : spec.inputs) {
    if (!is_identifier(*tensor.name)) {
      diagnostics.error(tensor.name.place, id(RuleId::kTensorName),
                        fmt::format("inputs: {} is not an identifier: use at most 40 lower-case letters, digits and "
                                    "underscores, starting with a letter",
                                    quote(*tensor.name)));
      continue;
    }
    std::string_view taken = *tensor.name == "slots"        ? "the slot indices"
                             : *tensor.name == "cu_seqlens" ? "the sequences' offsets"
                             : *tensor.name == "accepted"   ? "the numbers of accepted tokens"
                                                            : "";
    for (const TensorKey& key : tensor_keys()) {
      if (key.name == *tensor.name && key.section != "handover") taken = key.section;
    }
    if (taken.empty()) continue;
    diagnostics.error(
        tensor.name.place, id(RuleId::kTensorName),
        fmt::format("inputs.{} has the name of another operand ({}): choose another", *tensor.name, taken));
  }
}

void check_tensor_missing(const Spec& spec, Diagnostics& diagnostics) {
  const auto require = [&](const std::vector<Tensor>& tensors, Place section, std::string_view section_name,
                           std::string_view name, bool splits) {
    if (section.line == 0 || (splits ? find_any(tensors, name) : find_tensor(tensors, name))) return;
    const std::string alternative = splits ? fmt::format(" (or {0}_q, {0}_k, {0}_v)", name) : "";
    diagnostics.error(section, id(RuleId::kTensorMissing),
                      fmt::format("{}.{}{} is missing: write its dtype and dims", section_name, name, alternative));
  };
  const SectionPlaces& at = spec.sections;
  require(spec.parameters, at.parameters, "parameters", "conv_weight", true);
  require(spec.parameters, at.parameters, "parameters", "dt_bias", false);
  const bool normed = !lacks_norm(spec);
  if (normed) require(spec.parameters, at.parameters, "parameters", "norm_weight", false);
  require(spec.pools, at.pools, "pools", "conv_state", true);
  require(spec.pools, at.pools, "pools", "state", false);
  for (const std::string_view name : {"q", "k", "v", "z", "b", "a", "g", "beta", "o"}) {
    if (name == "z" && !normed) continue;
    require(spec.handover, at.handover, "handover", name, false);
  }
  require(spec.outputs, at.outputs, "outputs", "out", false);
}

void check_tensor_split(const Spec& spec, Diagnostics& diagnostics) {
  const auto check = [&](const std::vector<Tensor>& tensors, std::string_view section, std::string_view base) {
    const Tensor* whole = find_tensor(tensors, base);
    const Tensor* some = nullptr;
    std::vector<std::string> missing;
    for (const std::string_view part : {"q", "k", "v"}) {
      const Tensor* split = find_split(tensors, base, part);
      if (!split) missing.push_back(fmt::format("{}_{}", base, part));
      if (!some) some = split;
    }
    if (!some) return;
    if (whole) {
      diagnostics
          .error(some->name.place, id(RuleId::kTensorSplit),
                 fmt::format("{}.{} stands beside {}: write one tensor for q, k and v, or three", section, *some->name,
                             base))
          .note(whole->name.place, fmt::format("{} is here", base));
    } else if (!missing.empty()) {
      const std::vector<std::string_view> names(missing.begin(), missing.end());
      diagnostics.error(some->name.place, id(RuleId::kTensorSplit),
                        fmt::format("{}.{} is one of three: {} missing", section, *some->name,
                                    names.size() == 1 ? fmt::format("{} is", names[0])
                                                      : fmt::format("{} and {} are", names[0], names[1])));
    }
  };
  check(spec.parameters, "parameters", "conv_weight");
  check(spec.parameters, "parameters", "conv_bias");
  check(spec.pools, "pools", "conv_state");
}

void check_tensor_replicated(const Spec& spec, Diagnostics& diagnostics) {
  for_each_tensor(spec, [&](const SectionKey& section, const TensorKey&, const Tensor& tensor) {
    if (!*tensor.replicated || tensor.dims_place.line == 0) return;
    const bool strided = !tensor.dims.empty() && tensor.dims.front().at_launch;
    const bool one_part =
        std::none_of(tensor.dims.begin(), tensor.dims.end(), [](const Dim& dim) { return dim.packed(); });
    if (section.name == "inputs" && strided && one_part) return;
    diagnostics.error(
        tensor.replicated.place, id(RuleId::kTensorReplicated),
        fmt::format(
            "{}.{} can't be replicated: a rank finds its heads as a run of each whole row, so it must be an input "
            "of one part, such as b, with dims that begin with token@launch",
            section.name, *tensor.name));
  });
}

void check_tensor_dtype(const Spec& spec, Diagnostics& diagnostics) {
  for_each_tensor(spec, [&](const SectionKey& section, const TensorKey& key, const Tensor& tensor) {
    if (tensor.dtype.place.line == 0) return;
    std::vector<std::string_view> legal;
    for (const DType dtype : dtypes(key.dtypes)) {
      if (dtype == *tensor.dtype) return;
      legal.push_back(core::to_string(dtype));
    }
    diagnostics.error(tensor.dtype.place, id(RuleId::kTensorDtype),
                      fmt::format("{}.dtype = {} must be {}", path_of(section, tensor), core::to_string(*tensor.dtype),
                                  listed(legal)));
  });
}

void check_conv_bias(const Spec& spec, Diagnostics& diagnostics) {
  if (spec.conv.bias.place.line == 0 || spec.sections.parameters.line == 0) return;
  const Tensor* bias = find_any(spec.parameters, "conv_bias");
  if (*spec.conv.bias && !bias) {
    diagnostics
        .error(spec.sections.parameters, id(RuleId::kConvBias),
               "parameters.conv_bias (or conv_bias_q, conv_bias_k, conv_bias_v) is missing: conv.bias is true")
        .note(spec.conv.bias.place, "conv.bias is set here");
  }
  if (!*spec.conv.bias && bias) {
    diagnostics
        .error(bias->name.place, id(RuleId::kConvBias),
               fmt::format("parameters.{} would never be read: conv.bias is false", *bias->name))
        .note(spec.conv.bias.place, "conv.bias is set here");
  }
}

void check_decay_a_log(const Spec& spec, Diagnostics& diagnostics) {
  const Located<core::AStored>& stored = spec.decay.a_log;
  if (stored.place.line == 0) return;
  const bool absent = *stored == core::AStored::kAbsent;
  if (absent && spec.rule.place.line > 0 && *spec.rule == core::Rule::kGdn) {
    diagnostics
        .error(stored.place, id(RuleId::kDecayALog),
               "decay.a_log = absent belongs to rule: kda; a gdn layer has an A_log for each value head")
        .note(spec.rule.place, "rule is set here");
  }
  if (spec.sections.parameters.line == 0) return;
  const Tensor* a_log = find_tensor(spec.parameters, "a_log");
  if (!absent && !a_log) {
    diagnostics
        .error(
            spec.sections.parameters, id(RuleId::kDecayALog),
            "parameters.a_log is missing: write its dtype and dims, or decay.a_log = absent where the layer has none")
        .note(stored.place, "decay.a_log is set here");
  }
  if (absent && a_log) {
    diagnostics
        .error(a_log->name.place, id(RuleId::kDecayALog), "parameters.a_log would never be read: decay.a_log is absent")
        .note(stored.place, "decay.a_log is set here");
  }
}

void check_input_name(const Spec& spec, Diagnostics& diagnostics) {
  for (const Tensor& tensor : spec.inputs) {
    if (tensor.dims.empty() || packed_dim(tensor) || is_part(*tensor.name)) continue;
    diagnostics.error(tensor.name.place, id(RuleId::kInputName),
                      fmt::format("inputs: {} has no packed dimension, so its name must say which part it holds: q, k, "
                                  "v, z, b or a; or write its dims with a packed dimension, such as "
                                  "{{z: [value_head, value_dim]}}",
                                  quote(*tensor.name)));
  }
}

void check_input_parts(const Spec& spec, Diagnostics& diagnostics) {
  if (spec.sections.inputs.line == 0) return;
  bool all_readable = true;
  for (const Tensor& tensor : spec.inputs) {
    all_readable = all_readable && !tensor.dims.empty() && (packed_dim(tensor) || is_part(*tensor.name));
  }
  for (const std::string_view part : {"q", "k", "v", "z", "b", "a"}) {
    const auto found = holders(spec, part);
    if (found.empty() && all_readable && !(part == "z" && lacks_norm(spec))) {
      diagnostics.error(spec.sections.inputs, id(RuleId::kInputParts),
                        fmt::format("inputs: no tensor holds {}: each of q, k, v, z, b, a is needed once", part));
    }
    for (std::size_t i = 1; i < found.size(); ++i) {
      diagnostics
          .error(found[i].second, id(RuleId::kInputParts),
                 fmt::format("inputs.{} holds {} a second time: remove one", *found[i].first->name, part))
          .note(found[0].second, fmt::format("inputs.{} holds it here", *found[0].first->name));
    }
  }
}

void check_handover_dtype(const Spec& spec, Diagnostics& diagnostics) {
  const auto known = [](const Located<DType>& dtype) { return dtype.place.line > 0; };
  const auto check = [&](std::string_view name, const Located<DType>& kept, std::string_view source) {
    const Tensor* tensor = find_tensor(spec.handover, name);
    if (!tensor || !known(tensor->dtype) || !known(kept) || keeps(*tensor->dtype, *kept)) return;
    diagnostics
        .error(tensor->dtype.place, id(RuleId::kHandoverDtype),
               fmt::format("handover.{} = {} would round what decode keeps: {} is {}; hand it over as {}{}", name,
                           core::to_string(*tensor->dtype), source, core::to_string(*kept), core::to_string(*kept),
                           *kept == DType::kFp32 ? "" : " or fp32"))
        .note(kept.place, fmt::format("{} is set here", source));
  };
  for (const std::string_view name : {"q", "k", "v"}) check(name, spec.rounding.conv, "rounding.conv");
  for (const std::string_view name : {"z", "b", "a"}) {
    const auto found = holders(spec, name);
    if (found.size() == 1) check(name, found[0].first->dtype, fmt::format("inputs.{}", *found[0].first->name));
  }
  check("beta", spec.rounding.beta, "rounding.beta");
  check("o", spec.rounding.o, "rounding.o");
}

}  // namespace gdn::spec
