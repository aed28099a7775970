// Spec -> Layout: sizes, strides and canonical texts. Pure integer arithmetic.
#pragma once

#include "layout/layout.h"
#include "spec/spec.h"

namespace gdn::layout {

// The spec must have passed the validator; throws std::logic_error for one that could not have.
Layout resolve(const spec::Spec& spec);

}  // namespace gdn::layout
