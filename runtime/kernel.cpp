#include "kernel.h"

#include <fmt/format.h>

#include "check.h"
#include "error.h"
#include "sequences.h"

namespace gdn::runtime {

void Kernel::check_views(int rows, int slots, const Views& views) const {
  check(plan_, rows, slots, views);
  check_devices(plan_, views, device_kind(), device_ordinal());
}

void Kernel::check_memory(const core::Operand& operand, const void* address) const {
  std::string whose;
  if (address == nullptr || reaches(address, whose)) return;
  throw Error(Code::kWrongDevice,
              fmt::format("{}: operand {}: address {} is memory of {}, and the kernel runs on {}: a kernel there can't "
                          "read it. Move the tensor, or open the kernel where the tensor is",
                          plan_.symbol, operand.name, address, whose, device_text(device_kind(), device_ordinal())));
}

void Kernel::check_memory(const Views& views) const {
  if (on_host()) return;
  for (std::size_t i = 0; i < views.size(); ++i) check_memory(plan_.operands[i], views[i].data);
}

void Kernel::launch(int rows, int slots, const Views& views, Stream stream, Edge edge, unsigned promises) const {
  check_views(rows, slots, views);
  if (rows == 0) return;
  check_memory(views);
  Args args = make_args(plan_, rows, slots, views);
  args.promises = promises;
  if (on_host()) check_indices(plan_, args, HostReader());
  launch_prepared(args, stream, edge);
}

void Kernel::launch_prepared(const Args& args, Stream stream, Edge edge) const {
  if (!checked_) {
    start(args, stream, edge);
    return;
  }
  check_contents(plan_, args, *reader(stream), Moment::kBefore);
  start(args, stream, edge);
  check_contents(plan_, args, *reader(stream), Moment::kAfter);
}

}  // namespace gdn::runtime
