#include "kernel.h"

#include "check.h"
#include "error.h"

namespace gdn::runtime {

void Kernel::launch(int rows, int slots, const std::vector<View>& views, Stream stream) const {
  check(plan_, rows, slots, views);
  if (on_host() && plan_.facts.slots_operand >= 0) {
    check_slots(plan_, rows, slots, views[static_cast<std::size_t>(plan_.facts.slots_operand)].data);
  }
  launch_prepared(make_args(plan_, rows, slots, views), stream);
}

void Kernel::launch_prepared(const Args& args, Stream stream) const { start(args, stream); }

}  // namespace gdn::runtime
