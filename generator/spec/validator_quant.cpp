#include "spec/validator_quant.h"

#include <fmt/format.h>

#include <limits>

#include "core/dtype.h"
#include "spec/rules.h"

namespace gdn::spec {
namespace {

using core::DType;

template <class T>
bool known(const Located<T>& leaf) {
  return leaf.place.line > 0;
}

bool quantised(const Spec& spec) { return known(spec.output_quant.given) && *spec.output_quant.given; }

bool is_eight_bit(DType dtype) { return dtype == DType::kE4m3fn || dtype == DType::kE4m3fnuz; }

}  // namespace

void check_state_rounding(const Spec& spec, Diagnostics& diagnostics) {
  const Located<bool>& rounding = spec.rounding.state_stochastic;
  const Tensor* state = find_tensor(spec.pools, "state");
  if (!state || !known(state->dtype)) return;
  const bool narrow = *state->dtype == DType::kBf16 || *state->dtype == DType::kFp16;
  if (narrow && !known(rounding)) {
    diagnostics.error(state->dtype.place, id(RuleId::kStateRounding),
                      fmt::format("pools.state is {} and rounding.state is missing: write nearest, or stochastic",
                                  core::to_string(*state->dtype)));
  }
  // An overlay may have made the state wider than the spec that it lies on had it.
  if (!narrow && known(rounding) && (rounding.place.source != 0 || spec.overlays.empty())) {
    diagnostics
        .error(
            rounding.place, id(RuleId::kStateRounding),
            fmt::format("rounding.state has an effect only where pools.state is bf16 or fp16, and it is {}: remove it",
                        core::to_string(*state->dtype)))
        .note(state->dtype.place, "pools.state is set here");
  }
}

void check_state_scale(const Spec& spec, Diagnostics& diagnostics) {
  const Tensor* state = find_tensor(spec.pools, "state");
  const Tensor* scale = find_tensor(spec.pools, "state_scale");
  if (!state || !known(state->dtype)) return;
  if (is_eight_bit(*state->dtype) && !scale) {
    diagnostics.error(state->dtype.place, id(RuleId::kStateScale),
                      fmt::format("pools.state is {} and pools.state_scale is missing: write {{dtype: fp32, dims: "
                                  "[slot@launch, value_head, value_dim]}}",
                                  core::to_string(*state->dtype)));
  }
  if (!is_eight_bit(*state->dtype) && scale) {
    diagnostics
        .error(scale->name.place, id(RuleId::kStateScale),
               fmt::format("pools.state_scale would never be read: pools.state is {}", core::to_string(*state->dtype)))
        .note(state->dtype.place, "pools.state is set here");
  }
}

void check_quant_max(const Spec& spec, Diagnostics& diagnostics) {
  const Located<double>& max = spec.output_quant.max;
  if (!known(max)) return;
  if (*max != 448 && *max != 240 && *max != 224) {
    diagnostics.error(max.place, id(RuleId::kQuantMax),
                      fmt::format("output_quant.max = {} must be 448, 240 or 224", *max));
    return;
  }
  const Tensor* out = find_tensor(spec.outputs, "out");
  if (!out || !known(out->dtype) || *out->dtype != DType::kE4m3fnuz || *max <= 240) return;
  diagnostics
      .error(max.place, id(RuleId::kQuantMax),
             fmt::format("output_quant.max = {}: the largest number of e4m3fnuz is 240: write 240 or 224", *max))
      .note(out->dtype.place, "outputs.out is e4m3fnuz");
}

void check_quant_group(const Spec& spec, Diagnostics& diagnostics) {
  const Located<int>& group = spec.output_quant.group;
  if (!known(group) || *group == OutputQuant::kHead || *group == OutputQuant::kToken) return;
  if (*group < 1) {
    diagnostics.error(group.place, id(RuleId::kQuantGroup),
                      fmt::format("output_quant.group = {} must be at least 1 channel, head or token", *group));
    return;
  }
  if (!known(spec.heads.value) || !known(spec.dims.value) || *spec.heads.value < 1 || *spec.dims.value < 1) return;
  const std::int64_t row = std::int64_t{*spec.heads.value} * *spec.dims.value;
  if (row % *group == 0) return;
  diagnostics
      .error(group.place, id(RuleId::kQuantGroup),
             fmt::format("output_quant.group = {} does not divide a row of heads.value * dims.value = {} channels",
                         *group, row))
      .note(spec.heads.value.place, fmt::format("heads.value = {} is set here", *spec.heads.value))
      .note(spec.dims.value.place, fmt::format("dims.value = {} is set here", *spec.dims.value));
}

void check_quant_floor(const Spec& spec, Diagnostics& diagnostics) {
  const Located<double>& floor = spec.output_quant.floor;
  // A kernel keeps it as a float.
  if (!known(floor) || (*floor >= static_cast<double>(std::numeric_limits<float>::min()) && *floor < 1)) return;
  diagnostics.error(floor.place, id(RuleId::kQuantFloor),
                    fmt::format("output_quant.floor = {} must be above 0 and below 1, such as 1e-10", *floor));
}

void check_quant_output(const Spec& spec, Diagnostics& diagnostics) {
  const Located<bool>& given = spec.output_quant.given;
  if (!known(given) || spec.sections.outputs.line == 0) return;
  const Tensor* out = find_tensor(spec.outputs, "out");
  const Tensor* scale = find_tensor(spec.outputs, "out_scale");
  if (out && known(out->dtype) && is_eight_bit(*out->dtype) != *given) {
    diagnostics
        .error(out->dtype.place, id(RuleId::kQuantOutput),
               *given ? fmt::format("outputs.out.dtype = {}: a quantised output is e4m3fn or e4m3fnuz",
                                    core::to_string(*out->dtype))
                      : fmt::format("outputs.out.dtype = {} needs the keys of output_quant: they say how it is scaled",
                                    core::to_string(*out->dtype)))
        .note(given.place, "output_quant is set here");
  }
  if (*given && !scale) {
    diagnostics
        .error(spec.sections.outputs, id(RuleId::kQuantOutput),
               "outputs.out_scale is missing: write its dtype and dims, such as {dtype: fp32, dims: [token@launch, "
               "scale_group]}")
        .note(given.place, "output_quant is set here");
  }
  if (!*given && scale) {
    diagnostics
        .error(scale->name.place, id(RuleId::kQuantOutput),
               "outputs.out_scale would never be written: output_quant is none")
        .note(given.place, "output_quant is set here");
  }
}

void check_quant_row(const Spec& spec, Diagnostics& diagnostics) {
  const Tensor* out = find_tensor(spec.outputs, "out");
  if (!quantised(spec) || !out || out->dims.empty() || *out->dims.back().name == "value_dim") return;
  diagnostics.error(out->dims.back().name.place, id(RuleId::kQuantRow),
                    "outputs.out: the last dimension must be value_dim: a group is channels that lie side by side");
}

}  // namespace gdn::spec
