// The HIP runtime. The library's own functions, not the headers' macros, so the same code meets ROCm 5, 6 and 7.
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <string_view>

#include "compile/library.h"
#include "device/gpu_api.h"
#include "error.h"

namespace gdn::runtime {
namespace {

constexpr int kProcessors = 63, kL2Bytes = 19, kWarpSize = 87;  // hipDeviceAttribute_t, the same from ROCm 5 on
constexpr int kMemoryType = 2, kDeviceOrdinal = 9;              // hipPointer_attribute
constexpr int kHip6 = 60000000;                                 // as hipRuntimeGetVersion counts

struct Hip {
  Hip()
      : library("the HIP runtime", {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"},
                "Install ROCm's hip-runtime-amd, or Debian's libamdhip64-5") {
    library.bind(runtime_version, "hipRuntimeGetVersion");
    library.bind(device_count, "hipGetDeviceCount");
    library.bind(device_get, "hipGetDevice");
    library.bind(device_set, "hipSetDevice");
    library.bind(device_name, "hipDeviceGetName");
    library.bind(device_attribute, "hipDeviceGetAttribute");
    library.bind(device_memory, "hipDeviceTotalMem");
    library.bind_optional(properties, "hipGetDevicePropertiesR0600");
    if (properties == nullptr) library.bind(properties, "hipGetDeviceProperties");
    library.bind_optional(pointer_attribute, "hipPointerGetAttribute");
    library.bind_optional(last_error, "hipGetLastError");
    library.bind(error_name, "hipGetErrorName");
    library.bind(error_string, "hipGetErrorString");
    library.bind(table.mem_alloc, "hipMalloc");
    library.bind(table.mem_free, "hipFree");
    library.bind(table.copy_in, "hipMemcpyHtoD");
    library.bind(table.copy_out, "hipMemcpyDtoH");
    library.bind(table.copy_async, "hipMemcpyDtoDAsync");
    library.bind(table.fill_async, "hipMemsetD8Async");
    library.bind(table.synchronize, "hipDeviceSynchronize");
    library.bind(table.stream_create, "hipStreamCreateWithFlags");
    library.bind(table.stream_destroy, "hipStreamDestroy");
    library.bind(table.stream_synchronize, "hipStreamSynchronize");
    library.bind(table.event_create, "hipEventCreateWithFlags");
    library.bind(table.event_destroy, "hipEventDestroy");
    library.bind(table.event_record, "hipEventRecord");
    library.bind(table.event_synchronize, "hipEventSynchronize");
    library.bind(table.event_elapsed, "hipEventElapsedTime");
    library.bind(table.module_load, "hipModuleLoadData");
    library.bind(table.module_unload, "hipModuleUnload");
    library.bind(table.module_function, "hipModuleGetFunction");
    library.bind(table.function_attribute, "hipFuncSetAttribute");
    library.bind(table.launch, "hipModuleLaunchKernel");
    library.bind(table.capture_begin, "hipStreamBeginCapture");
    library.bind(table.capture_end, "hipStreamEndCapture");
    library.bind(table.graph_instantiate, "hipGraphInstantiateWithFlags");
    library.bind(table.graph_launch, "hipGraphLaunch");
    library.bind(table.graph_destroy, "hipGraphDestroy");
    library.bind(table.graph_executable_destroy, "hipGraphExecDestroy");
  }

  Library library;
  GpuFunctions table;
  int (*runtime_version)(int*) = nullptr;
  int (*device_count)(int*) = nullptr;
  int (*device_get)(int*) = nullptr;
  int (*device_set)(int) = nullptr;
  int (*device_name)(char*, int, int) = nullptr;
  int (*device_attribute)(int*, int, int) = nullptr;
  int (*device_memory)(std::size_t*, int) = nullptr;
  int (*properties)(void*, int) = nullptr;
  int (*pointer_attribute)(void*, int, const void*) = nullptr;
  int (*last_error)() = nullptr;
  const char* (*error_name)(int) = nullptr;
  const char* (*error_string)(int) = nullptr;
};

const Hip& hip() {
  static const Hip instance;
  return instance;
}

// The architecture stands in hipDeviceProp_t, whose layout differs between versions; it is the one text there, after
// the 256 bytes of the name, that begins with "gfx". Features ("gfx942:sramecc+:xnack-") are left out.
std::string architecture(const Hip& library, int ordinal) {
  std::vector<char> bytes(std::size_t{64} << 10);
  if (library.properties(bytes.data(), ordinal) != 0) return {};
  constexpr std::string_view kStart = "gfx";
  const auto found = std::search(bytes.begin() + 256, bytes.end() - 32, kStart.begin(), kStart.end());
  if (found == bytes.end() - 32) return {};
  const std::string name(&*found);
  return name.substr(0, name.find(':'));
}

class HipApi final : public GpuApi {
 public:
  explicit HipApi(int ordinal) : hip_(hip()) {
    functions_ = hip_.table;
    info_.api = "hip";
    info_.ordinal = ordinal;
    info_.name = "not opened yet";
    int count = 0;
    if (hip_.device_count(&count) != 0) count = 0;
    if (ordinal < 0 || ordinal >= count) {
      throw Error(Code::kUnsupported,
                  fmt::format("there is no HIP device {}: the runtime shows {} (HIP_VISIBLE_DEVICES may hide some)",
                              ordinal, count));
    }
    char name[256] = {};
    expect(hip_.device_name(name, sizeof(name), ordinal), "hipDeviceGetName");
    info_.name = name;
    info_.target = architecture(hip_, ordinal);
    info_.processors = attribute(kProcessors);
    info_.wave = attribute(kWarpSize);
    info_.l2_bytes = static_cast<std::size_t>(attribute(kL2Bytes));
    expect(hip_.device_memory(&info_.memory_bytes, ordinal), "hipDeviceTotalMem");
    hip_.runtime_version(&info_.driver_version);
  }

  // HIP has no stack of devices: the number of the previous one, plus one, so that null means nothing to put back.
  void* enter() const override {
    int current = -1;
    hip_.device_get(&current);
    if (current == info_.ordinal) return nullptr;
    hip_.device_set(info_.ordinal);
    return reinterpret_cast<void*>(static_cast<std::intptr_t>(current) + 1);
  }
  void leave(void* previous) const override {
    if (previous != nullptr) hip_.device_set(static_cast<int>(reinterpret_cast<std::intptr_t>(previous) - 1));
  }
  Memory memory_of(const void* address) const override {
    int ordinal = 0;
    unsigned type = 0;
    if (hip_.pointer_attribute == nullptr) return {DeviceKind::kHip, info_.ordinal};
    if (hip_.pointer_attribute(&type, kMemoryType, address) != 0) {
      if (hip_.last_error != nullptr) hip_.last_error();  // or the engine's next check would find it
      return {DeviceKind::kCpu, 0};
    }
    const bool six = info_.driver_version >= kHip6;  // which put "unregistered" before host and device
    if (six && type == 0) return {DeviceKind::kCpu, 0};
    if (type != (six ? 2u : 1u)) return {DeviceKind::kHip, info_.ordinal};
    if (hip_.pointer_attribute(&ordinal, kDeviceOrdinal, address) != 0) return {DeviceKind::kCpu, 0};
    return {DeviceKind::kHip, ordinal};
  }
  std::string error_text(int result) const override {
    return fmt::format("{} ({})", hip_.error_string(result), hip_.error_name(result));
  }

 private:
  int attribute(int number) const {
    int value = 0;
    expect(hip_.device_attribute(&value, number, info_.ordinal), "hipDeviceGetAttribute");
    return value;
  }

  const Hip& hip_;
};

}  // namespace

int hip_device_count() noexcept {
  try {
    int count = 0;
    return hip().device_count(&count) == 0 ? count : 0;
  } catch (const std::exception&) {
    return 0;
  }
}

Device open_hip(int ordinal) { return Device(std::make_shared<HipApi>(ordinal)); }

}  // namespace gdn::runtime
