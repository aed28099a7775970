// A GPU, through its driver's library (libcuda.so.1 or libamdhip64.so) opened by dlopen.
//
// Every call may come from any thread; the caller's own current device or context is left as it was found.
// All failures are Error kDeviceError with the driver's words, unless said otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "compile/compiler.h"

namespace gdn::runtime {

// A CUstream or a hipStream_t. Null: the device's default stream.
using Stream = void*;

struct DeviceInfo {
  std::string api;  // "cuda" or "hip"
  int ordinal = 0;
  std::string name;    // "NVIDIA H200"
  std::string target;  // "sm_90", "gfx942"
  int processors = 0;  // multiprocessors or compute units
  int wave = 32;
  int shared_bytes = 0;  // of shared memory that a block can ask for; CUDA
  int driver_version = 0;
  std::size_t memory_bytes = 0;
  std::size_t l2_bytes = 0;
};

class GpuApi;

// Memory of a device; freed with the object. Holds its device alive.
class Buffer {
 public:
  Buffer() = default;
  Buffer(std::shared_ptr<const GpuApi> api, std::size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  void* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(api_, other.api_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  std::shared_ptr<const GpuApi> api_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// A stream of its own, or an event, a loaded module, a recorded graph: each is destroyed with its object.
class OwnedStream {
 public:
  explicit OwnedStream(std::shared_ptr<const GpuApi> api);
  ~OwnedStream();
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;
  Stream get() const { return stream_; }

 private:
  std::shared_ptr<const GpuApi> api_;
  Stream stream_ = nullptr;
};

class Event {
 public:
  explicit Event(std::shared_ptr<const GpuApi> api);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(Stream stream);
  void wait() const;
  // Between two recorded events; waits for `later`.
  static double milliseconds(const Event& earlier, const Event& later);

 private:
  std::shared_ptr<const GpuApi> api_;
  void* event_ = nullptr;
};

struct LaunchShape {
  unsigned grid[3] = {1, 1, 1};
  unsigned block[3] = {1, 1, 1};
  unsigned shared_bytes = 0;  // dynamic
  // May begin before what is ahead of it in the stream is through: the kernel waits for that itself (CUDA's
  // programmatic dependent launch). HIP has no such thing and ignores it.
  bool programmatic = false;
};

class Module {
 public:
  // Throws kDeviceError when the driver refuses the binary: another target, or no binary at all.
  Module(std::shared_ptr<const GpuApi> api, const std::vector<std::uint8_t>& bytes);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // A kernel of the module, valid as long as the module. Allows `shared_bytes` of dynamic shared memory. Throws
  // kDeviceError when there is none of this name.
  void* function(const std::string& symbol, int shared_bytes = 0) const;

  // `parameters` points at one pointer for each kernel parameter. Does not wait.
  void launch(void* function, const LaunchShape& shape, Stream stream, void** parameters) const;

 private:
  std::shared_ptr<const GpuApi> api_;
  void* module_ = nullptr;
};

// Launches recorded once and replayed with one call, so that what is measured is the device and not the host.
class Graph {
 public:
  // Records what `work` enqueues on the stream it is given. `work` must not synchronise or allocate.
  Graph(std::shared_ptr<const GpuApi> api, const std::function<void(Stream)>& work);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch(Stream stream) const;

 private:
  std::shared_ptr<const GpuApi> api_;
  void* graph_ = nullptr;
  void* executable_ = nullptr;
};

class Device {
 public:
  explicit Device(std::shared_ptr<const GpuApi> api) : api_(std::move(api)) {}

  const DeviceInfo& info() const;
  // Whether code for a target runs here: "sm_80" on sm_86 too, "sm_90a" on sm_90 only, "gfx942" on itself only.
  bool runs(std::string_view target) const;

  Buffer alloc(std::size_t bytes) const { return Buffer(api_, bytes); }
  // Both wait until the copy is done. Device memory is given as an address inside a buffer.
  void copy_in(void* device, const void* host, std::size_t bytes) const;
  void copy_out(void* host, const void* device, std::size_t bytes) const;
  // Enqueued, not waited for. A fill of more than the L2 empties it between two measurements.
  void copy(void* to, const void* from, std::size_t bytes, Stream stream = nullptr) const;
  void fill(void* device, std::uint8_t value, std::size_t bytes, Stream stream = nullptr) const;
  void synchronize() const;
  void synchronize(Stream stream) const;

  OwnedStream stream() const { return OwnedStream(api_); }
  Event event() const { return Event(api_); }
  std::unique_ptr<Module> load(const std::vector<std::uint8_t>& bytes) const;
  Graph graph(const std::function<void(Stream)>& work) const { return Graph(api_, work); }

  const std::shared_ptr<const GpuApi>& api() const { return api_; }

 private:
  std::shared_ptr<const GpuApi> api_;
};

// Devices that the driver shows; 0 without a driver or a device. Never throws.
int cuda_device_count() noexcept;
int hip_device_count() noexcept;

// Throws kMissingLibrary without a driver, kUnsupported when there is no device of this number. CUDA uses the device's
// primary context, the one that frameworks use.
Device open_cuda(int ordinal = 0);
Device open_hip(int ordinal = 0);

// Whether code for `target` runs on a device of `device_target`; see Device::runs.
bool runs_on(std::string_view target, std::string_view device_target);

}  // namespace gdn::runtime
