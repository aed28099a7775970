#include "spec/validator.h"

#include <fmt/format.h>

#include <limits>
#include <string>
#include <string_view>

#include "spec/rules.h"
#include "spec/validator_dims.h"
#include "spec/validator_norm.h"
#include "spec/validator_quant.h"
#include "spec/validator_speculative.h"
#include "spec/validator_tensors.h"

namespace gdn::spec {
namespace {

template <class T>
bool known(const Located<T>& leaf) {
  return leaf.place.line > 0;
}

bool is_identifier(std::string_view text) {
  if (text.empty() || text.size() > 63 || text[0] < 'a' || text[0] > 'z' || text.back() == '_') return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '_' && text[i - 1] == '_') return false;  // C++ reserves it
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

// A spec's name becomes a C++ namespace.
bool is_cpp_keyword(std::string_view text) {
  static constexpr std::string_view kKeywords[] = {
      "alignas",   "alignof",  "and",      "asm",       "auto",      "bitand",   "bitor",    "bool",      "break",
      "case",      "catch",    "char",     "class",     "compl",     "concept",  "const",    "consteval", "constexpr",
      "constinit", "continue", "decltype", "default",   "delete",    "do",       "double",   "else",      "enum",
      "explicit",  "export",   "extern",   "false",     "float",     "for",      "friend",   "goto",      "if",
      "inline",    "int",      "long",     "mutable",   "namespace", "new",      "noexcept", "not",       "nullptr",
      "operator",  "or",       "private",  "protected", "public",    "register", "requires", "return",    "short",
      "signed",    "sizeof",   "static",   "struct",    "switch",    "template", "this",     "throw",     "true",
      "try",       "typedef",  "typeid",   "typename",  "union",     "unsigned", "using",    "virtual",   "void",
      "volatile",  "while",    "xor"};
  for (const std::string_view keyword : kKeywords) {
    if (text == keyword) return true;
  }
  return false;
}

bool is_symbol_name(std::string_view text) { return is_identifier(text) && !is_cpp_keyword(text); }

void check_version(const Spec& spec, Diagnostics& diagnostics) {
  if (!known(spec.version) || *spec.version == 1) return;
  diagnostics.error(spec.version.place, id(RuleId::kVersion),
                    fmt::format("gdn_gen = {}: this gdn-gen reads version 1 of the language", *spec.version));
}

void check_name_identifier(const Spec& spec, Diagnostics& diagnostics) {
  if (!known(spec.name)) return;
  if (is_symbol_name(*spec.name)) return;
  diagnostics.error(spec.name.place, id(RuleId::kNameIdentifier),
                    fmt::format("name = {} can't be part of a symbol: use lower-case letters, digits and single "
                                "underscores, starting with a letter, at most 63, no C++ keyword",
                                quote(*spec.name)));
}

void check_name_file(const Spec& spec, Diagnostics& diagnostics) {
  if (!known(spec.name) || spec.file.empty() || spec.file[0] == '<' || spec.file == "-") return;
  const std::string base = spec.file.substr(spec.file.find_last_of('/') + 1);
  if (base == *spec.name + ".yaml" || !is_symbol_name(*spec.name)) return;
  diagnostics.error(spec.name.place, id(RuleId::kNameFile),
                    fmt::format("name = {0} but the file is {1}: change the name, or the file's to {0}.yaml",
                                *spec.name, quote(base)));
}

void check_heads_range(const Spec& spec, Diagnostics& diagnostics) {
  const auto check = [&](const Located<int>& heads, std::string_view path) {
    if (!known(heads) || (*heads >= 1 && *heads <= 1024)) return;
    diagnostics.error(heads.place, id(RuleId::kHeadsRange),
                      fmt::format("{} = {} must be from 1 to 1024", path, *heads));
  };
  check(spec.heads.key, "heads.key");
  check(spec.heads.value, "heads.value");
}

void check_heads_group(const Spec& spec, Diagnostics& diagnostics) {
  const Heads& heads = spec.heads;
  if (!known(heads.key) || !known(heads.value) || *heads.key < 1 || *heads.value < 1) return;
  if (*heads.value % *heads.key == 0) return;
  diagnostics
      .error(heads.value.place, id(RuleId::kHeadsGroup),
             fmt::format("heads.value = {} is not a multiple of heads.key = {}", *heads.value, *heads.key))
      .note(heads.key.place, "heads.key is set here");
}

void check_dims_multiple(const Spec& spec, Diagnostics& diagnostics) {
  const auto check = [&](const Located<int>& dim, std::string_view path) {
    if (!known(dim) || (*dim >= 16 && *dim <= 256 && *dim % 16 == 0)) return;
    diagnostics.error(dim.place, id(RuleId::kDimsMultiple),
                      fmt::format("{} = {} must be a multiple of 16 from 16 to 256", path, *dim));
  };
  check(spec.dims.key, "dims.key");
  check(spec.dims.value, "dims.value");
}

void check_conv_width(const Spec& spec, Diagnostics& diagnostics) {
  if (!known(spec.conv.width) || (*spec.conv.width >= 2 && *spec.conv.width <= 8)) return;
  diagnostics.error(spec.conv.width.place, id(RuleId::kConvWidth),
                    fmt::format("conv.width = {} must be from 2 to 8 taps", *spec.conv.width));
}

void check_conv_window(const Spec& spec, Diagnostics& diagnostics) {
  const Conv& conv = spec.conv;
  if (!known(conv.window)) return;
  if (*conv.window > 64) {
    diagnostics.error(conv.window.place, id(RuleId::kConvWindow),
                      fmt::format("conv.window = {} must be at most 64", *conv.window));
    return;
  }
  if (!known(conv.width) || *conv.width < 2 || *conv.window >= *conv.width - 1) return;
  diagnostics
      .error(conv.window.place, id(RuleId::kConvWindow),
             fmt::format("conv.window = {} can't hold the {} earlier inputs that conv.width = {} needs", *conv.window,
                         *conv.width - 1, *conv.width))
      .note(conv.width.place, "conv.width is set here");
}

void check_eps_range(const Spec& spec, Diagnostics& diagnostics) {
  const auto check = [&](const Located<double>& eps, std::string_view path) {
    // A kernel keeps it as a float: it must not become a denormal there.
    if (!known(eps) || (*eps >= static_cast<double>(std::numeric_limits<float>::min()) && *eps < 1)) return;
    diagnostics.error(eps.place, id(RuleId::kEpsRange),
                      fmt::format("{} = {} must be above 0 and below 1, such as 1e-6", path, *eps));
  };
  check(spec.qk_norm.eps, "qk_norm.eps");
  check(spec.out_norm.eps, "out_norm.eps");
}

void check_scale_range(const Spec& spec, Diagnostics& diagnostics) {
  const auto check = [&](const Located<double>& scale, std::string_view path) {
    if (!known(scale) || (*scale >= 1e-6 && *scale <= 1e6)) return;
    diagnostics.error(scale.place, id(RuleId::kScaleRange),
                      fmt::format("{} = {} must be from 1e-6 to 1e6, or key_dim^-0.5", path, *scale));
  };
  check(spec.qk_scale.q, "qk_scale.q");
  check(spec.qk_scale.k, "qk_scale.k");
}

void check_decay_bounded(const Spec& spec, Diagnostics& diagnostics) {
  const Decay& decay = spec.decay;
  if (!known(decay.form) || *decay.form != core::DecayForm::kBounded) return;
  if (known(spec.rule) && *spec.rule == core::Rule::kGdn) {
    diagnostics
        .error(decay.form.place, id(RuleId::kDecayBounded),
               "decay.form = bounded belongs to rule: kda; a gdn layer has softplus")
        .note(spec.rule.place, "rule is set here");
  }
  if (known(decay.bound) && *decay.bound >= 0) {
    diagnostics.error(decay.bound.place, id(RuleId::kDecayBounded),
                      fmt::format("decay.bound = {} must be below 0, such as -5: the decay is exp(g)", *decay.bound));
  }
}

void check_decay_entries(const Spec& spec, Diagnostics& diagnostics) {
  const Located<int>& entries = spec.decay.a_log_entries;
  if (!known(entries) || !known(spec.heads.value) || !*spec.decay.a_log_padded) return;
  if (*entries > *spec.heads.value && *entries <= 4096) return;
  diagnostics
      .error(
          entries.place, id(RuleId::kDecayEntries),
          fmt::format("decay.a_log_entries = {} must be above heads.value = {} and at most 4096; write decay.a_log = "
                      "log where no zeros follow",
                      *entries, *spec.heads.value))
      .note(spec.heads.value.place, "heads.value is set here");
}

void check_projections_rank(const Spec& spec, Diagnostics& diagnostics) {
  const auto check = [&](const Located<int>& rank, std::string_view path) {
    if (!known(rank) || (*rank >= 1 && *rank <= 65536)) return;
    diagnostics.error(rank.place, id(RuleId::kProjectionsRank),
                      fmt::format("{} = {} must be from 1 to 65536", path, *rank));
  };
  check(spec.projections.a_rank, "projections.a_rank");
  check(spec.projections.z_rank, "projections.z_rank");
}

void check_decay_threshold(const Spec& spec, Diagnostics& diagnostics) {
  const Located<double>& threshold = spec.decay.threshold;
  if (!known(threshold)) return;
  if (*threshold == 0 || (*threshold >= 1 && *threshold <= 80)) return;
  diagnostics.error(threshold.place, id(RuleId::kDecayThreshold),
                    fmt::format("decay.threshold = {} must be from 1 to 80 (20 is usual), or none: softplus(x) = x "
                                "above it, which is wrong below 1, and exp(x) overflows a float above 88",
                                *threshold));
}

void check_beta_factor(const Spec& spec, Diagnostics& diagnostics) {
  const Located<double>& factor = spec.beta.factor;
  if (!known(factor) || *factor == 1 || *factor == 2) return;
  diagnostics.error(factor.place, id(RuleId::kBetaFactor),
                    fmt::format("beta.factor = {} must be 1, or 2 where negative eigenvalues are allowed", *factor));
}

void check_rounding_dtype(const Spec& spec, Diagnostics& diagnostics) {
  using core::DType;
  const auto check = [&](const Located<DType>& dtype, std::string_view path) {
    if (!known(dtype) || *dtype == DType::kFp32 || *dtype == DType::kBf16 || *dtype == DType::kFp16) return;
    diagnostics.error(
        dtype.place, id(RuleId::kRoundingDtype),
        fmt::format("{} = {} must be bf16, fp16, or fp32 for no rounding", path, core::to_string(*dtype)));
  };
  check(spec.rounding.conv, "rounding.conv");
  check(spec.rounding.qk, "rounding.qk");
  check(spec.rounding.beta, "rounding.beta");
  check(spec.rounding.o, "rounding.o");
  check(spec.rounding.norm, "rounding.norm");
  check(spec.prefill.qk, "prefill.qk");
  check(spec.output_quant.from, "output_quant.from");
}

void check_prefill_chunk(const Spec& spec, Diagnostics& diagnostics) {
  const Located<int>& chunk = spec.prefill.chunk;
  if (!known(chunk) || *chunk == 16 || *chunk == 32 || *chunk == 64) return;
  diagnostics.error(chunk.place, id(RuleId::kPrefillChunk),
                    fmt::format("prefill.chunk = {} must be 16, 32 or 64", *chunk));
}

void check_layers_range(const Spec& spec, Diagnostics& diagnostics) {
  const std::optional<int>& count = spec.layers.count.value;
  if (!count || (*count >= 1 && *count <= 1024)) return;
  diagnostics.error(spec.layers.count.place, id(RuleId::kLayersRange),
                    fmt::format("layers.count = {} must be from 1 to 1024, or unread", *count));
}

void check_layers_base(const Spec& spec, Diagnostics& diagnostics) {
  const Located<int>& base = spec.layers.base;
  if (!known(base) || *base == 0 || *base == 1) return;
  diagnostics.error(base.place, id(RuleId::kLayersBase),
                    fmt::format("layers.base = {} must be 0 or 1: what the list calls the first layer", *base));
}

void check_layers_list(const Spec& spec, Diagnostics& diagnostics) {
  const Layers& layers = spec.layers;
  if (!known(layers.list) || layers.list->empty()) return;
  const std::vector<int>& list = *layers.list;
  const auto refuse = [&](std::string message) -> Diagnostic& {
    return diagnostics.error(layers.list.place, id(RuleId::kLayersList), std::move(message));
  };
  for (std::size_t i = 1; i < list.size(); ++i) {
    if (list[i] > list[i - 1]) continue;
    refuse(fmt::format("layers.list has {} after {}: write each layer once, ascending", list[i], list[i - 1]));
    return;
  }
  if (!known(layers.base) || *layers.base < 0 || *layers.base > 1) return;
  if (list.front() < *layers.base) {
    refuse(fmt::format("layers.list has {}, but counts from {}", list.front(), *layers.base))
        .note(layers.base.place, "layers.base is set here");
  }
  const int count = layers.count->value_or(0);
  if (count < 1 || list.back() < count + *layers.base) return;
  refuse(fmt::format("layers.list has {}, but the last of {} layers counted from {} is {}", list.back(), count,
                     *layers.base, count + *layers.base - 1))
      .note(layers.count.place, "layers.count is set here");
}

struct Check {
  RuleId rule;
  void (*run)(const Spec&, Diagnostics&);
};

constexpr Check kChecks[] = {
    {RuleId::kVersion, check_version},
    {RuleId::kNameIdentifier, check_name_identifier},
    {RuleId::kNameFile, check_name_file},
    {RuleId::kHeadsRange, check_heads_range},
    {RuleId::kHeadsGroup, check_heads_group},
    {RuleId::kDimsMultiple, check_dims_multiple},
    {RuleId::kConvWidth, check_conv_width},
    {RuleId::kConvWindow, check_conv_window},
    {RuleId::kConvBias, check_conv_bias},
    {RuleId::kEpsRange, check_eps_range},
    {RuleId::kScaleRange, check_scale_range},
    {RuleId::kDecayBounded, check_decay_bounded},
    {RuleId::kDecayThreshold, check_decay_threshold},
    {RuleId::kDecayALog, check_decay_a_log},
    {RuleId::kDecayEntries, check_decay_entries},
    {RuleId::kBetaFactor, check_beta_factor},
    {RuleId::kRoundingDtype, check_rounding_dtype},
    {RuleId::kPrefillChunk, check_prefill_chunk},
    {RuleId::kLayersRange, check_layers_range},
    {RuleId::kLayersBase, check_layers_base},
    {RuleId::kLayersList, check_layers_list},
    {RuleId::kStateRounding, check_state_rounding},
    {RuleId::kNormTensors, check_norm_tensors},
    {RuleId::kNormOutput, check_norm_output},
    {RuleId::kQuantMax, check_quant_max},
    {RuleId::kQuantGroup, check_quant_group},
    {RuleId::kQuantFloor, check_quant_floor},
    {RuleId::kQuantOutput, check_quant_output},
    {RuleId::kQuantRow, check_quant_row},
    {RuleId::kSpecTokens, check_spec_tokens},
    {RuleId::kSpecWindow, check_spec_window},
    {RuleId::kSpecTensors, check_spec_tensors},
    {RuleId::kProjectionsRank, check_projections_rank},
    {RuleId::kTensorName, check_tensor_name},
    {RuleId::kTensorMissing, check_tensor_missing},
    {RuleId::kTensorSplit, check_tensor_split},
    {RuleId::kTensorDtype, check_tensor_dtype},
    {RuleId::kTensorReplicated, check_tensor_replicated},
    {RuleId::kInputName, check_input_name},
    {RuleId::kInputParts, check_input_parts},
    {RuleId::kPackedOne, check_packed_one},
    {RuleId::kPackedParts, check_packed_parts},
    {RuleId::kDimsLeading, check_dims_leading},
    {RuleId::kDimsLaunch, check_dims_launch},
    {RuleId::kDimsDuplicate, check_dims_duplicate},
    {RuleId::kDimsForeign, check_dims_foreign},
    {RuleId::kDimsMissing, check_dims_missing},
    {RuleId::kHandoverDtype, check_handover_dtype},
    {RuleId::kStateScale, check_state_scale},
};

}  // namespace

void validate(const Spec& spec, Diagnostics& diagnostics) {
  for (const Check& check : kChecks) check.run(spec, diagnostics);
}

}  // namespace gdn::spec
