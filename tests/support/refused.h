// Operations that a spec's layout can't have on a target, for tests that walk over all of them.
#pragma once

#include <string>
#include <string_view>

#include "layout/layout.h"
#include "plan/plan.h"
#include "plan/target.h"

namespace gdn::test {

// The reason; empty where there is a plan.
inline std::string refusal(const layout::Layout& layout, std::string_view operation, const plan::Target& target) {
  try {
    plan::make(layout, operation, target);
  } catch (const plan::Unplannable& error) {
    return error.what();
  }
  return "";
}

}  // namespace gdn::test
