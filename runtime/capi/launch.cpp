// Kernels and launches of gdn.h.
#include <fmt/format.h>

#include "capi/handles.h"
#include "check.h"
#include "core/plan.h"
#include "sequences.h"

namespace gdn::capi {
namespace {

using runtime::Code;
using runtime::Error;
using runtime::Kernel;

const char* role_text(core::Role role) {
  switch (role) {
    case core::Role::kInput:
      return "input";
    case core::Role::kParameter:
      return "parameter";
    case core::Role::kPool:
      return "pool";
    case core::Role::kSlots:
      return "slots";
    case core::Role::kOutput:
      return "output";
    case core::Role::kScale:
      return "scale";
    case core::Role::kRecord:
      return "record";
    case core::Role::kWorkspace:
      return "workspace";
    case core::Role::kCounts:
      return "counts";
    case core::Role::kOffsets:
      return "offsets";
    case core::Role::kFlags:
      return "flags";
    case core::Role::kSeed:
      return "seed";
    case core::Role::kSnapshots:
      return "snapshots";
  }
  return "?";
}

// An address and a device in one number. Addresses have at most 57 bits on every system that the targets run on.
std::uint64_t proof(const void* address, const Kernel& kernel) {
  const auto where = static_cast<std::uint64_t>(kernel.device_kind() == runtime::DeviceKind::kHip ? 1 : 0) << 6 |
                     (static_cast<std::uint64_t>(kernel.device_ordinal()) & 63u);
  return reinterpret_cast<std::uintptr_t>(address) ^ where << 57;
}

// Everything that is compared before a launch, and nothing allocated where it agrees. Slot indices are not looked at.
void compare(const Kernel& kernel, int rows, int slots, const gdn_view* const* handles, const runtime::Views& views) {
  kernel.check_views(rows, slots, views);
  if (kernel.on_host()) return;
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (views[i].data == nullptr) continue;
    const std::uint64_t mark = proof(views[i].data, kernel);
    if (handles[i]->proven.load(std::memory_order_relaxed) == mark) continue;
    kernel.check_memory(kernel.plan().operands[i], views[i].data);
    handles[i]->proven.store(mark, std::memory_order_relaxed);
  }
}

// What gdn_launch_options says, in the runtime's words.
struct Following {
  runtime::Edge edge = runtime::Edge::kPlain;
  unsigned promises = 0;
};

Following following_of(const gdn_launch_options* options) {
  if (options == nullptr) return {};
  if (options->struct_size < sizeof(gdn_launch_options)) {
    throw Error(Code::kOtherVersion, fmt::format("gdn_launch_options of {} bytes: set struct_size to sizeof, {} here",
                                                 options->struct_size, sizeof(gdn_launch_options)));
  }
  if (options->edge != GDN_EDGE_PLAIN && options->edge != GDN_EDGE_PROGRAMMATIC) {
    throw Error(Code::kBadArgument, fmt::format("{} is no gdn_edge", static_cast<int>(options->edge)));
  }
  constexpr unsigned kKnown = GDN_PROMISE_POOLS_READY;
  static_assert(GDN_PROMISE_POOLS_READY == kPoolsAreReady, "the promises are those of the argument block");
  if ((options->promises & ~kKnown) != 0) {
    throw Error(Code::kBadArgument, fmt::format("promises {:#x}: this library knows {:#x}", options->promises, kKnown));
  }
  if (options->edge == GDN_EDGE_PLAIN) return {};  // all that is ahead is through: there is nothing to promise
  return {runtime::Edge::kProgrammatic, options->promises};
}

void launch(const Kernel& kernel, int rows, int slots, const gdn_view* const* handles, std::size_t count, void* stream,
            const Following& following) {
  const ViewArray array(handles, count);
  const runtime::Views views = array;
  if (rows == 0) {
    kernel.launch(rows, slots, views, stream);
    return;
  }
  compare(kernel, rows, slots, handles, views);
  Args args = runtime::make_args(kernel.plan(), rows, slots, views);
  args.promises = following.promises;
  if (kernel.on_host()) runtime::check_indices(kernel.plan(), args, runtime::HostReader());
  kernel.launch_prepared(args, stream, following.edge);
}

void launch(const gdn_prepared& prepared, int rows, void* stream, const Following& following) {
  const core::KernelPlan& plan = prepared.kernel->plan();
  if (rows < 0 || rows > prepared.args.rows) {
    throw Error(Code::kBadArgument, fmt::format("{}: {} rows of a launch that was prepared for 1 to {}", plan.symbol,
                                                rows, prepared.args.rows));
  }
  if (rows == 0) return;
  Args args = prepared.args;
  if (plan.facts.offsets_operand < 0) args.sequences = rows;
  args.rows = rows;
  args.promises = following.promises;
  prepared.kernel->launch_prepared(args, stream, following.edge);
}

}  // namespace
}  // namespace gdn::capi

using gdn::capi::created;
using gdn::capi::guarded;
using gdn::capi::need;
using gdn::runtime::Code;
using gdn::runtime::Error;
using gdn::runtime::Views;

extern "C" {

gdn_status gdn_kernel_open(gdn_set* set, const char* operation, const char* place, gdn_kernel** kernel) {
  return created(kernel, "kernel", [&] {
    need(set, "set");
    need(operation, "operation");
    need(place, "place");
    auto handle = std::make_unique<gdn_kernel>();
    handle->set = set->set;
    handle->kernel = set->set->load(operation, gdn::runtime::parse_place(place));
    return handle;
  });
}

void gdn_kernel_close(gdn_kernel* kernel) { delete kernel; }

const char* gdn_kernel_symbol(const gdn_kernel* kernel) {
  return kernel == nullptr ? "" : kernel->kernel->plan().symbol.c_str();
}

const char* gdn_kernel_target(const gdn_kernel* kernel) {
  return kernel == nullptr ? "" : kernel->kernel->plan().target.c_str();
}

uint64_t gdn_kernel_identity(const gdn_kernel* kernel) {
  return kernel == nullptr ? 0 : kernel->kernel->plan().identity.id;
}

size_t gdn_kernel_operands(const gdn_kernel* kernel) {
  return kernel == nullptr ? 0 : kernel->kernel->plan().operands.size();
}

gdn_status gdn_kernel_operand(const gdn_kernel* kernel, size_t index, gdn_operand* operand) {
  return guarded([&] {
    need(kernel, "kernel");
    need(operand, "operand");
    if (operand->struct_size < sizeof(gdn_operand)) {
      throw Error(Code::kOtherVersion, fmt::format("gdn_operand of {} bytes: set struct_size to sizeof, {} here",
                                                   operand->struct_size, sizeof(gdn_operand)));
    }
    const auto& operands = kernel->kernel->plan().operands;
    if (index >= operands.size()) {
      throw Error(Code::kBadArgument, fmt::format("operand {} of a kernel of {}", index, operands.size()));
    }
    const gdn::core::Operand& from = operands[index];
    operand->name = from.name.c_str();
    operand->role = gdn::capi::role_text(from.role);
    operand->dtype = static_cast<gdn_dtype>(from.dtype);
    operand->written = from.access != gdn::core::Access::kRead ? 1 : 0;
    operand->leading = static_cast<int32_t>(from.leading);
    operand->any_stride = from.launch_stride ? 1 : 0;
    operand->optional = from.optional ? 1 : 0;
    operand->inner = from.inner;
    operand->align = from.align;
    operand->layout = from.layout.text.c_str();
  });
}

gdn_status gdn_launch(const gdn_kernel* kernel, int32_t rows, int32_t slots, const gdn_view* const* views, size_t count,
                      void* stream) {
  return gdn_launch_with(kernel, rows, slots, views, count, stream, nullptr);
}

gdn_status gdn_launch_with(const gdn_kernel* kernel, int32_t rows, int32_t slots, const gdn_view* const* views,
                           size_t count, void* stream, const gdn_launch_options* options) {
  return guarded([&] {
    need(kernel, "kernel");
    gdn::capi::launch(*kernel->kernel, rows, slots, views, count, stream, gdn::capi::following_of(options));
  });
}

gdn_status gdn_prepare(const gdn_kernel* kernel, int32_t rows, int32_t slots, const gdn_view* const* views,
                       size_t count, gdn_prepared** prepared) {
  return created(prepared, "prepared", [&] {
    need(kernel, "kernel");
    if (rows == 0) throw Error(Code::kBadArgument, "a launch is prepared for at least 1 row");
    const gdn::capi::ViewArray array(views, count);
    const Views list = array;
    gdn::capi::compare(*kernel->kernel, rows, slots, views, list);
    auto handle = std::make_unique<gdn_prepared>();
    handle->kernel = kernel->kernel;
    handle->args = gdn::runtime::make_args(kernel->kernel->plan(), rows, slots, list);
    return handle;
  });
}

void gdn_prepared_close(gdn_prepared* prepared) { delete prepared; }

gdn_status gdn_prepared_launch(const gdn_prepared* prepared, int32_t rows, void* stream) {
  return gdn_prepared_launch_with(prepared, rows, stream, nullptr);
}

gdn_status gdn_prepared_launch_with(const gdn_prepared* prepared, int32_t rows, void* stream,
                                    const gdn_launch_options* options) {
  return guarded([&] {
    need(prepared, "prepared");
    gdn::capi::launch(*prepared, rows, stream, gdn::capi::following_of(options));
  });
}

}  // extern "C"
