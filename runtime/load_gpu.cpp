#include <fmt/format.h>

#include "error.h"
#include "kernel.h"

namespace gdn::runtime {
namespace {

class GpuKernel final : public Kernel {
 public:
  GpuKernel(const Device& device, const core::KernelPlan& plan, const Binary& binary)
      : Kernel(plan), module_(device.load(binary.bytes)) {
    function_ = module_->function(plan.symbol, plan.launch.shared_bytes);
    shape_.grid[1] = static_cast<unsigned>(plan.launch.blocks_per_row);
    shape_.block[0] = static_cast<unsigned>(plan.launch.threads);
    shape_.shared_bytes = static_cast<unsigned>(plan.launch.shared_bytes);
  }

  bool on_host() const override { return false; }

 private:
  void start(const Args& args, Stream stream) const override {
    LaunchShape shape = shape_;
    shape.grid[0] = static_cast<unsigned>(args.rows);
    void* parameters[] = {const_cast<Args*>(&args)};
    module_->launch(function_, shape, stream, parameters);
  }

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
