// What the handles of gdn.h are, and the way in and out of every function.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "capi/kernel_set.h"
#include "core/identity.h"
#include "device/device.h"
#include "error.h"
#include "gdn/gdn.h"
#include "kernel.h"
#include "view.h"

struct gdn_set {
  std::shared_ptr<const gdn::runtime::KernelSet> set;
};

struct gdn_layout {
  gdn::core::Identity identity;
};

namespace gdn::capi {

// Memory of a pool, the owner's or its own.
struct PoolMemory {
  gdn::runtime::View view;
  std::unique_ptr<std::uint8_t[]> host;
  gdn::runtime::Buffer device;
};

}  // namespace gdn::capi

struct gdn_view {
  gdn::runtime::View view;
  std::shared_ptr<const gdn::capi::PoolMemory> pool;  // of a view of a pool
  // The address and device that the driver was asked about last: it is asked once, not at every launch.
  mutable std::atomic<std::uint64_t> proven{0};
};

struct gdn_pool {
  std::shared_ptr<const gdn::capi::PoolMemory> memory;
};

struct gdn_kernel {
  std::shared_ptr<const gdn::runtime::KernelSet> set;
  std::shared_ptr<const gdn::runtime::Kernel> kernel;
};

struct gdn_prepared {
  std::shared_ptr<const gdn::runtime::Kernel> kernel;
  gdn::Args args;
};

namespace gdn::capi {

gdn_status status_of(runtime::Code code);
gdn_status fail(gdn_status status, const char* text) noexcept;

// Runs `body` and turns what it throws into a status and the thread's last error.
template <class Body>
gdn_status guarded(const Body& body) noexcept {
  try {
    body();
    return GDN_OK;
  } catch (const runtime::Error& error) {
    return fail(status_of(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return fail(GDN_OUT_OF_MEMORY, "no memory of the host could be had");
  } catch (const std::exception& error) {
    return fail(GDN_INTERNAL, error.what());
  } catch (...) {
    return fail(GDN_INTERNAL, "an exception of an unknown kind");
  }
}

// Throws kBadArgument naming the argument when it is null.
inline void need(const void* argument, const char* name) {
  if (argument == nullptr) throw runtime::Error(runtime::Code::kBadArgument, std::string(name) + " is null");
}

// Fills `*out` last, and null first.
template <class Handle, class Make>
gdn_status created(Handle** out, const char* name, const Make& make) noexcept {
  if (out != nullptr) *out = nullptr;
  return guarded([&] {
    need(out, name);
    *out = make().release();
  });
}

void log(const std::string& text);

// The library's dtype; throws kBadArgument for a number that is none.
core::DType dtype_of(gdn_dtype dtype);

runtime::SetSettings settings_of(const gdn_set_options* options);
std::unique_ptr<gdn_set> make_set(std::vector<runtime::Entry> entries, const gdn_set_options* options);
runtime::Entry entry_of(const gdn_kernel_source& source);

// The views of an array of handles, on the stack: a launch allocates nothing. A null handle is an operand left out.
class ViewArray {
 public:
  // Throws kBadArgument for more than GDN_MAX_OPERANDS.
  ViewArray(const gdn_view* const* views, std::size_t count);
  operator runtime::Views() const { return {views_, count_}; }  // NOLINT: stands for it

 private:
  const runtime::View* views_[GDN_MAX_OPERANDS];
  std::size_t count_;
};

}  // namespace gdn::capi
