#include <fmt/format.h>

#include "check.h"
#include "device/gpu_api.h"
#include "error.h"
#include "kernel.h"

namespace gdn::runtime {
namespace {

class DeviceReader final : public OperandReader {
 public:
  DeviceReader(const Device& device, Stream stream) : device_(device) { device_.synchronize(stream); }
  void read(void* to, const void* from, std::size_t bytes) const override { device_.copy_out(to, from, bytes); }

 private:
  const Device& device_;
};

class GpuKernel final : public Kernel {
 public:
  GpuKernel(const Device& device, const core::KernelPlan& plan, const Binary& binary)
      : Kernel(plan), device_(device), module_(device.load(binary.bytes)) {
    function_ = module_->function(plan.symbol, plan.launch.shared_bytes);
    shape_.grid[1] = static_cast<unsigned>(plan.launch.blocks_per_row);
    shape_.block[0] = static_cast<unsigned>(plan.launch.threads);
    shape_.shared_bytes = static_cast<unsigned>(plan.launch.shared_bytes);
  }

  bool on_host() const override { return false; }
  DeviceKind device_kind() const override {
    return device_.info().api == "cuda" ? DeviceKind::kCuda : DeviceKind::kHip;
  }
  int device_ordinal() const override { return device_.info().ordinal; }

 private:
  bool reaches(const void* address, std::string& whose) const override {
    const CurrentDevice current(*device_.api());
    const Memory memory = device_.api()->memory_of(address);
    if (memory.device == device_kind() && memory.ordinal == device_ordinal()) return true;
    whose = device_text(memory.device, memory.ordinal);
    return false;
  }
  std::unique_ptr<OperandReader> reader(Stream stream) const override {
    return std::make_unique<DeviceReader>(device_, stream);
  }
  void start(const Args& args, Stream stream) const override {
    LaunchShape shape = shape_;
    shape.grid[0] = static_cast<unsigned>(core::grid_rows(plan().launch, args));
    void* parameters[] = {const_cast<Args*>(&args)};
    module_->launch(function_, shape, stream, parameters);
  }

  Device device_;
  std::unique_ptr<Module> module_;
  void* function_ = nullptr;
  LaunchShape shape_;
};

}  // namespace

std::unique_ptr<Kernel> load_gpu(const Device& device, const core::KernelPlan& plan, const Binary& binary) {
  if (!device.runs(plan.target)) {
    throw Error(Code::kUnsupported,
                fmt::format("{} is code for {}, and device {} ({}) is {}: build the kernel for that target",
                            plan.symbol, plan.target, device.info().ordinal, device.info().name, device.info().target));
  }
  return std::make_unique<GpuKernel>(device, plan, binary);
}

}  // namespace gdn::runtime
