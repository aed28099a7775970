#include "spec/validator_norm.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/dtype.h"
#include "spec/rules.h"
#include "spec/tensor_keys.h"

namespace gdn::spec {

bool lacks_norm(const Spec& spec) { return spec.out_norm.enabled.place.line > 0 && !*spec.out_norm.enabled; }

bool serves_norm_only(std::string_view section, const Tensor& tensor) {
  if (section == "parameters") return *tensor.name == "norm_weight" || *tensor.name == "norm_bias";
  if (section == "handover") return *tensor.name == "z";
  if (section != "inputs") return false;
  const auto packed = std::find_if(tensor.dims.begin(), tensor.dims.end(), [](const Dim& dim) { return dim.packed(); });
  if (packed == tensor.dims.end()) return *tensor.name == "z";
  return std::all_of(packed->parts.begin(), packed->parts.end(), [](const Part& part) { return *part.name == "z"; });
}

void check_norm_tensors(const Spec& spec, Diagnostics& diagnostics) {
  if (!lacks_norm(spec)) return;
  for (const SectionKey& section : tensor_sections()) {
    for (const Tensor& tensor : spec.*section.tensors) {
      if (!serves_norm_only(section.name, tensor)) continue;
      diagnostics
          .error(tensor.name.place, id(RuleId::kNormTensors),
                 fmt::format("{}.{} would never be read: out_norm is none; remove it", section.name, *tensor.name))
          .note(spec.out_norm.enabled.place, "out_norm is set here");
    }
  }
}

void check_norm_output(const Spec& spec, Diagnostics& diagnostics) {
  if (!lacks_norm(spec)) return;
  const Located<bool>& quantised = spec.output_quant.given;
  if (quantised.place.line > 0 && *quantised) {
    diagnostics
        .error(quantised.place, id(RuleId::kNormOutput),
               "output_quant: what is quantised is the output of the norm, and out_norm is none: write output_quant: "
               "none, or the keys of out_norm")
        .note(spec.out_norm.enabled.place, "out_norm is set here");
    return;
  }
  const Tensor* out = find_tensor(spec.outputs, "out");
  const Located<core::DType>& rounding = spec.rounding.o;
  if (out == nullptr || out->dtype.place.line == 0 || rounding.place.line == 0 || *out->dtype == *rounding) return;
  diagnostics
      .error(out->dtype.place, id(RuleId::kNormOutput),
             fmt::format("outputs.out.dtype = {0}: without a norm out is o, which rounding.o rounds to {1}: write {1} "
                         "here, or {0} there",
                         core::to_string(*out->dtype), core::to_string(*rounding)))
      .note(rounding.place, "rounding.o is set here")
      .note(spec.out_norm.enabled.place, "out_norm is set here");
}

}  // namespace gdn::spec
