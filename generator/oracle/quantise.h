// How a group of an output's channels becomes codes and a scale.
#pragma once

#include "spec/spec.h"

namespace gdn::oracle {

// The scale of a group whose largest magnitude is `amax`, as a float holds it:
//   none: amax / max, and 0 where that is below the smallest normal float     amax: larger(amax, floor) / max
//   scale: larger(amax / max, floor)                 replace: amax / max where amax is above the floor, else the floor
// and, for ue8m0, the smallest power of two that is at least as large.
double quantisation_scale(const spec::OutputQuant& quant, double amax);

// The same before it is rounded up to a power of two.
double scale_before(const spec::OutputQuant& quant, double amax);

// The scale of a value channel of an 8-bit state: amax over its key channels / the largest code, as a float holds it,
// and 0 where that is below the smallest normal float.
double state_scale(core::DType dtype, double amax);

// The number that is rounded to a code: y / scale, but no larger than max; 0 where the scale is 0.
double quantised(const spec::OutputQuant& quant, double y, double scale);

}  // namespace gdn::oracle
