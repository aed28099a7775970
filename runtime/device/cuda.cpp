// The CUDA driver. Types and numbers are those of cuda.h; versioned names (_v2) are the ones that cuda.h maps to.
#include <fmt/format.h>

#include <exception>
#include <memory>

#include "compile/library.h"
#include "device/gpu_api.h"
#include "error.h"

namespace gdn::runtime {
namespace {

constexpr int kNoDevice = 100;                                      // CUDA_ERROR_NO_DEVICE
constexpr int kMemoryType = 2, kIsManaged = 8, kDeviceOrdinal = 9;  // CUpointer_attribute
constexpr unsigned kHostMemory = 1;                                 // CU_MEMORYTYPE_HOST
constexpr int kWarpSize = 10, kProcessors = 16, kL2Bytes = 38, kMajor = 75, kMinor = 76,
              kSharedBytes = 97;  // CUdevice_attribute

struct Driver {
  Driver()
      : library("the CUDA driver", {"libcuda.so.1"}, "Install NVIDIA's driver; a container needs the GPU passed in") {
    library.bind(init, "cuInit");
    library.bind(driver_version, "cuDriverGetVersion");
    library.bind(device_count, "cuDeviceGetCount");
    library.bind(device_get, "cuDeviceGet");
    library.bind(device_name, "cuDeviceGetName");
    library.bind(device_attribute, "cuDeviceGetAttribute");
    library.bind(device_memory, "cuDeviceTotalMem_v2");
    library.bind(context_retain, "cuDevicePrimaryCtxRetain");
    library.bind(context_release, "cuDevicePrimaryCtxRelease_v2");
    library.bind(context_current, "cuCtxGetCurrent");
    library.bind(context_push, "cuCtxPushCurrent_v2");
    library.bind(context_pop, "cuCtxPopCurrent_v2");
    library.bind(pointer_attribute, "cuPointerGetAttribute");
    library.bind(error_name, "cuGetErrorName");
    library.bind(error_string, "cuGetErrorString");
    library.bind(table.mem_alloc, "cuMemAlloc_v2");
    library.bind(table.mem_free, "cuMemFree_v2");
    library.bind(table.copy_in, "cuMemcpyHtoD_v2");
    library.bind(table.copy_out, "cuMemcpyDtoH_v2");
    library.bind(table.copy_async, "cuMemcpyDtoDAsync_v2");
    library.bind(table.fill_async, "cuMemsetD8Async");
    library.bind(table.synchronize, "cuCtxSynchronize");
    library.bind(table.stream_create, "cuStreamCreate");
    library.bind(table.stream_destroy, "cuStreamDestroy_v2");
    library.bind(table.stream_synchronize, "cuStreamSynchronize");
    library.bind(table.event_create, "cuEventCreate");
    library.bind(table.event_destroy, "cuEventDestroy_v2");
    library.bind(table.event_record, "cuEventRecord");
    library.bind(table.event_synchronize, "cuEventSynchronize");
    library.bind(table.event_elapsed, "cuEventElapsedTime");
    library.bind(table.module_load, "cuModuleLoadData");
    library.bind(table.module_unload, "cuModuleUnload");
    library.bind(table.module_function, "cuModuleGetFunction");
    library.bind(table.function_attribute, "cuFuncSetAttribute");
    library.bind(table.launch, "cuLaunchKernel");
    library.bind(table.launch_config, "cuLaunchKernelEx");
    library.bind(table.capture_begin, "cuStreamBeginCapture_v2");
    library.bind(table.capture_end, "cuStreamEndCapture");
    library.bind(table.graph_instantiate, "cuGraphInstantiateWithFlags");
    library.bind(table.graph_launch, "cuGraphLaunch");
    library.bind(table.graph_destroy, "cuGraphDestroy");
    library.bind(table.graph_executable_destroy, "cuGraphExecDestroy");
    init_result = init(0);
  }

  std::string text(int result) const {
    const char* name = nullptr;
    const char* words = nullptr;
    error_name(result, &name);
    error_string(result, &words);
    return fmt::format("{} ({})", words == nullptr ? "unknown error" : words, name == nullptr ? "?" : name);
  }

  Library library;
  GpuFunctions table;
  int (*init)(unsigned) = nullptr;
  int (*driver_version)(int*) = nullptr;
  int (*device_count)(int*) = nullptr;
  int (*device_get)(int*, int) = nullptr;
  int (*device_name)(char*, int, int) = nullptr;
  int (*device_attribute)(int*, int, int) = nullptr;
  int (*device_memory)(std::size_t*, int) = nullptr;
  int (*context_retain)(void**, int) = nullptr;
  int (*context_release)(int) = nullptr;
  int (*context_current)(void**) = nullptr;
  int (*context_push)(void*) = nullptr;
  int (*context_pop)(void**) = nullptr;
  int (*pointer_attribute)(void*, int, const void*) = nullptr;  // the address is a CUdeviceptr, as above
  int (*error_name)(int, const char**) = nullptr;
  int (*error_string)(int, const char**) = nullptr;
  int init_result = 0;
};

// Opened at the first use; a failure is tried again at the next one.
const Driver& driver() {
  static const Driver instance;
  return instance;
}

class CudaApi final : public GpuApi {
 public:
  explicit CudaApi(int ordinal) : driver_(driver()) {
    functions_ = driver_.table;
    info_.api = "cuda";
    info_.ordinal = ordinal;
    info_.name = "not opened yet";
    int count = 0;
    if (driver_.init_result == 0) driver_.device_count(&count);
    if (driver_.init_result != 0 && driver_.init_result != kNoDevice) fail(driver_.init_result, "cuInit");
    if (ordinal < 0 || ordinal >= count) {
      throw Error(Code::kUnsupported,
                  fmt::format("there is no CUDA device {}: the driver shows {} (CUDA_VISIBLE_DEVICES "
                              "may hide some)",
                              ordinal, count));
    }
    expect(driver_.device_get(&device_, ordinal), "cuDeviceGet");
    char name[256] = {};
    expect(driver_.device_name(name, sizeof(name), device_), "cuDeviceGetName");
    info_.name = name;
    info_.target = fmt::format("sm_{}{}", attribute(kMajor), attribute(kMinor));
    info_.processors = attribute(kProcessors);
    info_.wave = attribute(kWarpSize);
    info_.shared_bytes = attribute(kSharedBytes);
    info_.l2_bytes = static_cast<std::size_t>(attribute(kL2Bytes));
    expect(driver_.device_memory(&info_.memory_bytes, device_), "cuDeviceTotalMem");
    driver_.driver_version(&info_.driver_version);
    expect(driver_.context_retain(&context_, device_), "cuDevicePrimaryCtxRetain");
  }
  ~CudaApi() override {
    if (context_ != nullptr) driver_.context_release(device_);
  }
  CudaApi(const CudaApi&) = delete;
  CudaApi& operator=(const CudaApi&) = delete;

  // An engine's thread has the primary context current already: nothing to do then, and nothing to undo.
  void* enter() const override {
    void* current = nullptr;
    driver_.context_current(&current);
    if (current == context_) return nullptr;
    driver_.context_push(context_);
    return context_;
  }
  void leave(void* pushed) const override {
    if (pushed == nullptr) return;
    void* popped = nullptr;
    driver_.context_pop(&popped);
  }
  std::string error_text(int result) const override { return driver_.text(result); }
  Memory memory_of(const void* address) const override {
    int managed = 0, ordinal = 0;
    unsigned type = 0;
    if (driver_.pointer_attribute(&type, kMemoryType, address) != 0) return {DeviceKind::kCpu, 0};
    driver_.pointer_attribute(&managed, kIsManaged, address);
    if (managed != 0 || type == kHostMemory) return {DeviceKind::kCuda, info_.ordinal};
    if (driver_.pointer_attribute(&ordinal, kDeviceOrdinal, address) != 0) return {DeviceKind::kCpu, 0};
    return {DeviceKind::kCuda, ordinal};
  }

 private:
  int attribute(int number) const {
    int value = 0;
    expect(driver_.device_attribute(&value, number, device_), "cuDeviceGetAttribute");
    return value;
  }

  const Driver& driver_;
  int device_ = 0;
  void* context_ = nullptr;
};

}  // namespace

int cuda_device_count() noexcept {
  try {
    int count = 0;
    if (driver().init_result != 0 || driver().device_count(&count) != 0) return 0;
    return count;
  } catch (const std::exception&) {
    return 0;
  }
}

Device open_cuda(int ordinal) { return Device(std::make_shared<CudaApi>(ordinal)); }

}  // namespace gdn::runtime
