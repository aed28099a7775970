// Layout + Target -> KernelPlan.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/plan.h"
#include "layout/layout.h"
#include "plan/target.h"
#include "plan/tuning.h"

namespace gdn::plan {

// A target that cannot hold an operation: what() names the limit and the value that exceeds it.
class Unplannable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Two elements of a part, located by the layout's address map: the emitted file asserts that the kernel's map agrees.
struct AddressCheck {
  std::string part;  // name of the map in the emitted facts: "InputV"
  int head = 0;
  std::int64_t first = 0, last = 0;  // elements below the row: the part's first and last element at this head
  std::int64_t outer = 1, taps = 1;  // how many steps of the outer and tap strides lie between the two
};

struct Planned {
  core::KernelPlan kernel;
  std::vector<AddressCheck> checks;  // heads 0, 1 and last of every present map
};

// Throws Unplannable, or std::invalid_argument for an unknown operation. `rows`: of the forms for launches of few rows
// and of many, that of a launch of so many alone, which then serves any other number too (beside the one for any number
// where its own blocks meet in memory that the caller may leave out); 0: all. `edges`: of the forms for plain and for
// programmatic edges those of such edges alone, which then serve the other kind too.
Planned make(const layout::Layout& layout, std::string_view operation, const Target& target,
             const TuningTable& tuning = TuningTable::built_in(), int rows = 0, core::Edges edges = core::Edges::kBoth);

// The operations of a spec that a target has kernels for.
std::vector<std::string_view> operations_on(const layout::Layout& layout, const Target& target);

// gdn_<spec>_<operation>_<target>
std::string symbol(std::string_view spec, std::string_view operation, std::string_view target);

}  // namespace gdn::plan
