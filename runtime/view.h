// An operand as the caller sees it: where it is, what is in it, and which layout its owner says it has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "core/identity.h"

namespace gdn::runtime {

// Whose memory an address is in. The numbers are DLPack's (kDLCPU, kDLCUDA, kDLROCM).
enum class DeviceKind : std::uint8_t { kUnstated = 0, kCpu = 1, kCuda = 2, kHip = 10 };

// Does not own the memory. `layout` is the statement of whoever made the tensor (the engine's own description, or the
// pool that it was created with); copying it from the plan that is about to be launched makes the check worthless.
struct View {
  void* data = nullptr;  // null: the operand is left out
  core::DType dtype = core::DType::kFp32;
  std::vector<std::int64_t> sizes;    // elements, slowest first; the leading one is rows or slots where there is one
  std::vector<std::int64_t> strides;  // elements; as many as sizes
  core::Identity layout;
  DeviceKind device = DeviceKind::kUnstated;
  int ordinal = 0;  // of the device; not looked at on the CPU
};

// Views in the order of a plan's operands, wherever they lie: a launch copies none of them. Borrows.
class Views {
 public:
  Views(const std::vector<View>& views) : dense_(views.data()), size_(views.size()) {}  // NOLINT: stands for it
  Views(const View* const* views, std::size_t count) : scattered_(views), size_(count) {}

  std::size_t size() const { return size_; }
  const View& operator[](std::size_t i) const { return scattered_ != nullptr ? *scattered_[i] : dense_[i]; }

 private:
  const View* dense_ = nullptr;
  const View* const* scattered_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace gdn::runtime
