#include "oracle/quantise.h"

#include <algorithm>
#include <cmath>

#include "oracle/convert.h"

namespace gdn::oracle {

double scale_before(const spec::OutputQuant& quant, double amax) {
  const double max = *quant.max;
  double scale = amax / max;
  switch (*quant.floor_at) {
    case core::FloorAt::kAmax:
      scale = std::max(amax, *quant.floor) / max;
      break;
    case core::FloorAt::kScale:
      scale = std::max(amax / max, *quant.floor);
      break;
    case core::FloorAt::kReplace:
      if (amax <= *quant.floor) scale = *quant.floor;
      break;
    case core::FloorAt::kNone:
      break;
  }
  scale = round_to(core::DType::kFp32, scale);
  return scale < 0x1p-126 ? 0 : scale;
}

double quantisation_scale(const spec::OutputQuant& quant, double amax) {
  const double scale = scale_before(quant, amax);
  if (scale == 0 || !*quant.power_of_two) return scale;
  int exponent = 0;
  const double fraction = std::frexp(scale, &exponent);  // in [0.5, 1)
  return std::ldexp(1.0, fraction == 0.5 ? exponent - 1 : exponent);
}

double state_scale(core::DType dtype, double amax) {
  const double scale = round_to(core::DType::kFp32, amax / (dtype == core::DType::kE4m3fn ? 448 : 240));
  return scale < 0x1p-126 ? 0 : scale;
}

double quantised(const spec::OutputQuant& quant, double y, double scale) {
  if (scale == 0) return 0;
  return std::clamp(y / scale, -*quant.max, *quant.max);
}

}  // namespace gdn::oracle
