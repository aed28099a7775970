// Why a device test can't run here. CTest counts a test whose last words begin with [SKIP] as skipped, not as passed.
#pragma once

#include <cstdio>
#include <string>

#include "device/device.h"

namespace gdn::test {

// True, and says so, when no CUDA GPU is there.
inline bool no_cuda() {
  if (runtime::cuda_device_count() > 0) return false;
  std::puts("[SKIP] no CUDA GPU on this machine, or no NVIDIA driver");
  return true;
}

inline bool no_hip() {
  if (runtime::hip_device_count() > 0) return false;
  std::puts("[SKIP] no AMD GPU on this machine, or no HIP runtime");
  return true;
}

}  // namespace gdn::test
