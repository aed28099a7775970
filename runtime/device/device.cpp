#include "device/device.h"

#include <fmt/format.h>

#include <algorithm>

#include "compile/elf.h"
#include "device/gpu_api.h"
#include "error.h"

namespace gdn::runtime {
namespace {

constexpr unsigned kNonBlocking = 1;    // CU_STREAM_NON_BLOCKING, hipStreamNonBlocking
constexpr int kThreadLocalCapture = 1;  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, and HIP's
constexpr int kDynamicSharedBytes = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, and HIP's

// CUlaunchAttribute and CUlaunchConfig of cuda.h.
constexpr int kProgrammaticSerialization = 6;  // CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
struct LaunchAttribute {
  int id = 0;
  char padding[4] = {};
  union {
    char bytes[64];
    int number;
  } value = {};
};
struct LaunchConfig {
  unsigned grid[3] = {1, 1, 1};
  unsigned block[3] = {1, 1, 1};
  unsigned shared_bytes = 0;
  Stream stream = nullptr;
  LaunchAttribute* attributes = nullptr;
  unsigned count = 0;
};
static_assert(sizeof(LaunchAttribute) == 72 && sizeof(LaunchConfig) == 56, "the layout that cuda.h gives them");

}  // namespace

void GpuApi::fail(int result, const char* what) const {
  throw Error(Code::kDeviceError, fmt::format("{} failed on {} {} ({}): {}", what, info_.api, info_.ordinal, info_.name,
                                              error_text(result)));
}

Buffer::Buffer(std::shared_ptr<const GpuApi> api, std::size_t bytes) : api_(std::move(api)), bytes_(bytes) {
  if (bytes == 0) return;
  const CurrentDevice current(*api_);
  const int result = api_->call().mem_alloc(&data_, bytes);
  if (result != 0) {
    throw Error(Code::kOutOfMemory, fmt::format("{} bytes of device memory could not be had on {}: {}", bytes,
                                                api_->info().name, api_->error_text(result)));
  }
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  const CurrentDevice current(*api_);
  api_->call().mem_free(data_);
}

OwnedStream::OwnedStream(std::shared_ptr<const GpuApi> api) : api_(std::move(api)) {
  const CurrentDevice current(*api_);
  api_->expect(api_->call().stream_create(&stream_, kNonBlocking), "creating a stream");
}

OwnedStream::~OwnedStream() {
  const CurrentDevice current(*api_);
  api_->call().stream_destroy(stream_);
}

Event::Event(std::shared_ptr<const GpuApi> api) : api_(std::move(api)) {
  const CurrentDevice current(*api_);
  api_->expect(api_->call().event_create(&event_, 0), "creating an event");
}

Event::~Event() {
  const CurrentDevice current(*api_);
  api_->call().event_destroy(event_);
}

void Event::record(Stream stream) {
  const CurrentDevice current(*api_);
  api_->expect(api_->call().event_record(event_, stream), "recording an event");
}

void Event::wait() const {
  const CurrentDevice current(*api_);
  api_->expect(api_->call().event_synchronize(event_), "waiting for an event");
}

double Event::milliseconds(const Event& earlier, const Event& later) {
  later.wait();
  const CurrentDevice current(*later.api_);
  float value = 0;
  later.api_->expect(later.api_->call().event_elapsed(&value, earlier.event_, later.event_), "timing two events");
  return static_cast<double>(value);
}

Module::Module(std::shared_ptr<const GpuApi> api, const std::vector<std::uint8_t>& bytes) : api_(std::move(api)) {
  // The drivers take a bare pointer and believe what it says about its length.
  if (!is_elf(bytes, api_->info().api == "cuda" ? Machine::kCuda : Machine::kAmdGpu)) {
    throw Error(Code::kDeviceError, fmt::format("{} bytes that are no {} binary can't be loaded on {}", bytes.size(),
                                                api_->info().api, api_->info().name));
  }
  const CurrentDevice current(*api_);
  api_->expect(api_->call().module_load(&module_, bytes.data()), "loading a compiled kernel");
}

Module::~Module() {
  const CurrentDevice current(*api_);
  api_->call().module_unload(module_);
}

void* Module::function(const std::string& symbol, int shared_bytes) const {
  const CurrentDevice current(*api_);
  void* function = nullptr;
  const int result = api_->call().module_function(&function, module_, symbol.c_str());
  if (result != 0) {
    throw Error(Code::kDeviceError,
                fmt::format("the compiled binary has no kernel `{}`: {}", symbol, api_->error_text(result)));
  }
  if (shared_bytes > 0) {
    api_->expect(api_->call().function_attribute(function, kDynamicSharedBytes, shared_bytes),
                 "asking for dynamic shared memory");
  }
  return function;
}

void Module::launch(void* function, const LaunchShape& shape, Stream stream, void** parameters) const {
  const CurrentDevice current(*api_);
  if (shape.programmatic && api_->call().launch_config != nullptr) {
    LaunchAttribute attribute;
    attribute.id = kProgrammaticSerialization;
    attribute.value.number = 1;
    LaunchConfig config;
    std::copy(shape.grid, shape.grid + 3, config.grid);
    std::copy(shape.block, shape.block + 3, config.block);
    config.shared_bytes = shape.shared_bytes;
    config.stream = stream;
    config.attributes = &attribute;
    config.count = 1;
    api_->expect(api_->call().launch_config(&config, function, parameters, nullptr), "launching a kernel");
    return;
  }
  api_->expect(api_->call().launch(function, shape.grid[0], shape.grid[1], shape.grid[2], shape.block[0],
                                   shape.block[1], shape.block[2], shape.shared_bytes, stream, parameters, nullptr),
               "launching a kernel");
}

Graph::Graph(std::shared_ptr<const GpuApi> api, const std::function<void(Stream)>& work) : api_(std::move(api)) {
  const CurrentDevice current(*api_);
  const OwnedStream stream(api_);
  api_->expect(api_->call().capture_begin(stream.get(), kThreadLocalCapture), "beginning a graph");
  try {
    work(stream.get());
  } catch (...) {
    void* broken = nullptr;
    api_->call().capture_end(stream.get(), &broken);
    if (broken != nullptr) api_->call().graph_destroy(broken);
    throw;
  }
  api_->expect(api_->call().capture_end(stream.get(), &graph_), "recording a graph");
  const int result = api_->call().graph_instantiate(&executable_, graph_, 0);
  if (result != 0) {
    api_->call().graph_destroy(graph_);
    api_->fail(result, "building a graph");
  }
}

Graph::~Graph() {
  const CurrentDevice current(*api_);
  api_->call().graph_executable_destroy(executable_);
  api_->call().graph_destroy(graph_);
}

void Graph::launch(Stream stream) const {
  const CurrentDevice current(*api_);
  api_->expect(api_->call().graph_launch(executable_, stream), "launching a graph");
}

const DeviceInfo& Device::info() const { return api_->info(); }

bool Device::runs(std::string_view target) const { return runs_on(target, info().target); }

void Device::copy_in(void* device, const void* host, std::size_t bytes) const {
  if (bytes == 0) return;
  const CurrentDevice current(*api_);
  api_->expect(api_->call().copy_in(device, host, bytes), "copying to the device");
}

void Device::copy_out(void* host, const void* device, std::size_t bytes) const {
  if (bytes == 0) return;
  const CurrentDevice current(*api_);
  api_->expect(api_->call().copy_out(host, device, bytes), "copying from the device");
}

void Device::copy(void* to, const void* from, std::size_t bytes, Stream stream) const {
  if (bytes == 0) return;
  const CurrentDevice current(*api_);
  api_->expect(api_->call().copy_async(to, from, bytes, stream), "copying on the device");
}

void Device::fill(void* device, std::uint8_t value, std::size_t bytes, Stream stream) const {
  if (bytes == 0) return;
  const CurrentDevice current(*api_);
  api_->expect(api_->call().fill_async(device, value, bytes, stream), "filling device memory");
}

void Device::synchronize() const {
  const CurrentDevice current(*api_);
  api_->expect(api_->call().synchronize(), "waiting for the device");
}

void Device::synchronize(Stream stream) const {
  const CurrentDevice current(*api_);
  api_->expect(api_->call().stream_synchronize(stream), "waiting for a stream");
}

std::unique_ptr<Module> Device::load(const std::vector<std::uint8_t>& bytes) const {
  return std::make_unique<Module>(api_, bytes);
}

bool runs_on(std::string_view target, std::string_view device_target) {
  if (target == device_target) return true;
  if (target.substr(0, 3) != "sm_" || device_target.substr(0, 3) != "sm_") return false;
  // "a": this compute capability and no other. Without: the same major number and at least the minor one. The last
  // digit is the minor number.
  if (target.back() == 'a') return target.substr(0, target.size() - 1) == device_target;
  if (target.size() != device_target.size()) return false;
  return target.substr(0, target.size() - 1) == device_target.substr(0, device_target.size() - 1) &&
         target.back() <= device_target.back() && target.back() >= '0' && target.back() <= '9';
}

}  // namespace gdn::runtime
