// What CUDA's driver API and HIP have in common, as one table of functions.
//
// The two libraries agree in the order and meaning of the arguments of everything below; the few that differ (contexts,
// error texts, device properties) are virtual. Addresses of device memory are `void*` here: CUDA's CUdeviceptr is an
// integer of the same size, passed the same way on every 64-bit system that CUDA runs on.
#pragma once

#include <cstddef>

#include "device/device.h"
#include "view.h"

namespace gdn::runtime {

struct GpuFunctions {
  int (*mem_alloc)(void**, std::size_t) = nullptr;
  int (*mem_free)(void*) = nullptr;
  int (*copy_in)(void*, const void*, std::size_t) = nullptr;
  int (*copy_out)(void*, const void*, std::size_t) = nullptr;
  int (*copy_async)(void*, const void*, std::size_t, Stream) = nullptr;
  int (*fill_async)(void*, unsigned char, std::size_t, Stream) = nullptr;
  int (*synchronize)() = nullptr;
  int (*stream_create)(Stream*, unsigned) = nullptr;
  int (*stream_destroy)(Stream) = nullptr;
  int (*stream_synchronize)(Stream) = nullptr;
  int (*event_create)(void**, unsigned) = nullptr;
  int (*event_destroy)(void*) = nullptr;
  int (*event_record)(void*, Stream) = nullptr;
  int (*event_synchronize)(void*) = nullptr;
  int (*event_elapsed)(float*, void*, void*) = nullptr;
  int (*module_load)(void**, const void*) = nullptr;
  int (*module_unload)(void*) = nullptr;
  int (*module_function)(void**, void*, const char*) = nullptr;
  int (*function_attribute)(void*, int, int) = nullptr;
  int (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, void**,
                void**) = nullptr;
  int (*launch_config)(const void* config, void*, void**, void**) = nullptr;  // cuLaunchKernelEx; null for HIP
  int (*capture_begin)(Stream, int) = nullptr;
  int (*capture_end)(Stream, void**) = nullptr;
  int (*graph_instantiate)(void**, void*, unsigned long long) = nullptr;
  int (*graph_launch)(void*, Stream) = nullptr;
  int (*graph_destroy)(void*) = nullptr;
  int (*graph_executable_destroy)(void*) = nullptr;
};

struct Memory {
  DeviceKind device = DeviceKind::kCpu;
  int ordinal = 0;
};

class GpuApi {
 public:
  virtual ~GpuApi() = default;

  const DeviceInfo& info() const { return info_; }
  const GpuFunctions& call() const { return functions_; }

  // Throws kDeviceError for anything but success.
  void expect(int result, const char* what) const {
    if (result != 0) fail(result, what);
  }
  [[noreturn]] void fail(int result, const char* what) const;

  // Makes the device current for this thread. What it returns goes to leave(), which puts back what was current.
  virtual void* enter() const = 0;
  virtual void leave(void* previous) const = 0;
  virtual std::string error_text(int result) const = 0;

  // Whose memory an address is in. Memory that the driver was never told of counts as the CPU's; memory of the host
  // that devices can reach (pinned, managed) counts as this device's.
  virtual Memory memory_of(const void* address) const = 0;

 protected:
  GpuFunctions functions_;
  DeviceInfo info_;
};

// The device is current in its scope.
class CurrentDevice {
 public:
  explicit CurrentDevice(const GpuApi& api) : api_(api), previous_(api.enter()) {}
  ~CurrentDevice() { api_.leave(previous_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  const GpuApi& api_;
  void* previous_;
};

}  // namespace gdn::runtime
