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
  return guarded([&] {
    need(kernel, "kernel");
    const gdn::capi::ViewArray array(views, count);
    const Views list = array;
    const gdn::runtime::Kernel& code = *kernel->kernel;
    gdn::capi::compare(code, rows, slots, views, list);
    const gdn::Args args = gdn::runtime::make_args(code.plan(), rows, slots, list);
    if (code.on_host()) gdn::runtime::check_indices(code.plan(), args, gdn::runtime::HostReader());
    code.launch_prepared(args, stream);
  });
}

gdn_status gdn_prepare(const gdn_kernel* kernel, int32_t rows, int32_t slots, const gdn_view* const* views,
                       size_t count, gdn_prepared** prepared) {
  return created(prepared, "prepared", [&] {
    need(kernel, "kernel");
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
  return guarded([&] {
    need(prepared, "prepared");
    if (rows < 1 || rows > prepared->args.rows) {
      throw Error(Code::kBadArgument, fmt::format("{}: {} rows of a launch that was prepared for 1 to {}",
                                                  prepared->kernel->plan().symbol, rows, prepared->args.rows));
    }
    gdn::Args args = prepared->args;
    if (prepared->kernel->plan().facts.offsets_operand < 0) args.sequences = rows;
    args.rows = rows;
    prepared->kernel->launch_prepared(args, stream);
  });
}

}  // extern "C"
