// Mixed batches of gdn.h.
#include "dispatch/mixed.h"

#include <fmt/format.h>

#include <vector>

#include "capi/handles.h"

namespace gdn::capi {
namespace {

using runtime::Code;
using runtime::Error;

std::vector<runtime::NamedView> named(const gdn_named_view* views, std::size_t count) {
  if (count > 0) need(views, "views");
  std::vector<runtime::NamedView> list;
  for (std::size_t i = 0; i < count; ++i) {
    need(views[i].operand, "operand");
    if (views[i].view != nullptr) list.push_back({views[i].operand, &views[i].view->view});
  }
  return list;
}

}  // namespace
}  // namespace gdn::capi

extern "C" gdn_status gdn_launch_mixed(const gdn_kernel* const* kernels, size_t kernel_count, const gdn_run* runs,
                                       size_t run_count, int32_t slots, const gdn_named_view* shared,
                                       size_t shared_count, void* stream) {
  using namespace gdn::capi;
  return guarded([&] {
    if (kernel_count > 0) need(kernels, "kernels");
    if (run_count > 0) need(runs, "runs");
    for (std::size_t i = 0; i < kernel_count; ++i) need(kernels[i], "kernel");
    std::vector<gdn::runtime::MixedRun> batch;
    for (std::size_t i = 0; i < run_count; ++i) {
      if (runs[i].struct_size < sizeof(gdn_run)) {
        throw Error(Code::kOtherVersion, fmt::format("gdn_run of {} bytes: set struct_size to sizeof, {} here",
                                                     runs[i].struct_size, sizeof(gdn_run)));
      }
      if (runs[i].kind < GDN_ROWS_DECODE || runs[i].kind > GDN_ROWS_PREFILL) {
        throw Error(Code::kBadArgument, fmt::format("{} is no gdn_row_kind", static_cast<int>(runs[i].kind)));
      }
      batch.push_back(
          {{static_cast<gdn::runtime::RowKind>(runs[i].kind), runs[i].rows}, named(runs[i].own, runs[i].own_count)});
    }
    gdn::runtime::launch_mixed(
        batch, slots, named(shared, shared_count),
        [&](std::string_view operation) -> const gdn::runtime::Kernel* {
          for (std::size_t i = 0; i < kernel_count; ++i) {
            if (kernels[i]->kernel->plan().operation == operation) return kernels[i]->kernel.get();
          }
          return nullptr;
        },
        stream);
  });
}
