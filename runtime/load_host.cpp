#include <dlfcn.h>
#include <fmt/format.h>

#include <mutex>

#include "compile/elf.h"
#include "compile/private_dir.h"
#include "error.h"
#include "kernel.h"

namespace gdn::runtime {
namespace {

// The two kinds of functions of such a library; gdn_host/simt.h is their contract.
using HostKernelFunction = void (*)(Args);
using HostLaunchFunction = int (*)(HostKernelFunction kernel, const Args* args, int grid_x, int grid_y, int threads,
                                   unsigned order, char* message, std::size_t message_bytes);

class HostKernel final : public Kernel {
 public:
  HostKernel(const core::KernelPlan& plan, const Binary& binary, unsigned order) : Kernel(plan), order_(order) {
    if (!is_elf(binary.bytes, host_machine())) {
      throw Error(Code::kCompileFailed, fmt::format("{}: {} bytes that are no shared object of this machine",
                                                    plan.symbol, binary.bytes.size()));
    }
    const PrivateDir dir;
    const std::string path =
        dir.write("kernel.so", {reinterpret_cast<const char*>(binary.bytes.data()), binary.bytes.size()}).string();
    library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) {
      const char* reason = dlerror();
      throw Error(
          Code::kCompileFailed,
          fmt::format("{}: its shared object can't be loaded: {}. If the folder forbids execution, set TMPDIR to "
                      "one that allows it",
                      plan.symbol, reason == nullptr ? "no reason given" : reason));
    }
    launch_ = reinterpret_cast<HostLaunchFunction>(dlsym(library_, "gdn_host_launch"));
    kernel_ = reinterpret_cast<HostKernelFunction>(dlsym(library_, plan.symbol.c_str()));
    if (launch_ == nullptr || kernel_ == nullptr) {
      const std::string missing = launch_ == nullptr ? "gdn_host_launch" : plan.symbol;
      dlclose(library_);
      throw Error(Code::kCompileFailed,
                  fmt::format("the shared object made for {} has no function `{}`: it was compiled from another source",
                              plan.symbol, missing));
    }
  }
  ~HostKernel() override { dlclose(library_); }

  bool on_host() const override { return true; }

 private:
  void start(const Args& args, Stream) const override {
    const std::lock_guard<std::mutex> lock(mutex_);  // the shim runs one launch at a time
    char message[512] = {};
    const core::LaunchRule& rule = plan().launch;
    if (launch_(kernel_, &args, core::grid_rows(rule, args), rule.blocks_per_row, rule.threads, order_, message,
                sizeof(message)) != 0) {
      throw Error(Code::kDeviceError, fmt::format("{} on the host shim: {}", plan().symbol, message));
    }
  }

  unsigned order_ = 0;
  void* library_ = nullptr;
  HostLaunchFunction launch_ = nullptr;
  HostKernelFunction kernel_ = nullptr;
  mutable std::mutex mutex_;
};

}  // namespace

std::unique_ptr<Kernel> load_host(const core::KernelPlan& plan, const Binary& binary, unsigned order) {
  return std::make_unique<HostKernel>(plan, binary, order);
}

}  // namespace gdn::runtime
