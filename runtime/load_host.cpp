#include <dlfcn.h>
#include <fmt/format.h>

#include <mutex>
#include <string>
#include <vector>

#include "compile/elf.h"
#include "compile/private_dir.h"
#include "core/arrivals.h"
#include "core/prefill.h"
#include "error.h"
#include "kernel.h"

namespace gdn::runtime {
namespace {

// The two kinds of functions of such a library; gdn_host/simt.h is their contract.
using HostKernelFunction = void (*)(Args);
using HostLaunchFunction = int (*)(HostKernelFunction kernel, const Args* args, int grid_x, int grid_y, int threads,
                                   int cluster, int shared_bytes, unsigned order, char* message,
                                   std::size_t message_bytes);

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
    if (launch_ == nullptr) fail_missing("gdn_host_launch");
    for (const core::Variant& variant : plan.variants) add(variant.symbol, variant.launch);
    add(plan.symbol, plan.launch);
    for (const core::Stage& stage : plan.stages) add(stage.symbol, stage.launch);
    for (const core::PrefillKernel& kernel : core::prefill_kernels(plan)) {
      prefill_.push_back({kernel, function(fmt::format("{}_{}", plan.symbol, kernel.name))});
    }
  }
  ~HostKernel() override { dlclose(library_); }

  bool on_host() const override { return true; }

 private:
  struct Entry {
    HostKernelFunction kernel;
    core::LaunchRule rule;
  };

  HostKernelFunction function(const std::string& symbol) const {
    const auto kernel = reinterpret_cast<HostKernelFunction>(dlsym(library_, symbol.c_str()));
    if (kernel == nullptr) fail_missing(symbol);
    return kernel;
  }
  void add(const std::string& symbol, const core::LaunchRule& rule) { entries_.push_back({function(symbol), rule}); }

  [[noreturn]] void fail_missing(const std::string& name) const {
    dlclose(library_);
    throw Error(Code::kCompileFailed,
                fmt::format("the shared object made for {} has no function `{}`: it was compiled from another source",
                            plan().symbol, name));
  }

  void start(const Args& args, Stream, Edge edge) const override {
    const std::lock_guard<std::mutex> lock(mutex_);  // the shim runs one launch at a time
    const int workspace = core::workspace_operand(plan());
    if (!prefill_.empty() && args.operand[workspace] != nullptr) {
      run_prefill(args, workspace);
    } else {
      run(entries_[core::variant_of(plan(), args, edge)], args);
    }
    for (std::size_t i = plan().variants.size() + 1; i < entries_.size(); ++i) run(entries_[i], args);
  }

  void run(const Entry& entry, const Args& args) const {
    const core::LaunchRule& rule = entry.rule;
    const int rows = core::grid_rows(rule, args);
    run(entry.kernel, args, rule.one_dimension ? rows * rule.blocks_per_row : rows,
        rule.one_dimension ? 1 : rule.blocks_per_row, rule.threads, rule.cluster, rule.shared_bytes);
  }

  // The kernels of a launch with a workspace.
  void run_prefill(Args args, int workspace) const {
    const core::PrefillChoice choice = core::prefill_choice(plan(), args.rows, args.sequences);
    args.stride[workspace] = choice.segments;
    args.operand[workspace] =
        static_cast<char*>(args.operand[workspace]) + core::held_bytes(plan(), args.rows);  // rows of v and o before it
    const core::PrefillLaunches launches = core::prefill_launches(
        core::prefill_work(plan(), args.rows, args.sequences, core::snapshots_of(plan(), args)), choice);
    for (int i = 0; i < launches.count; ++i) {
      const core::PrefillLaunch& launch = launches.list[static_cast<std::size_t>(i)];
      for (const auto& [kernel, code] : prefill_) {
        if (kernel.name != launch.kernel) continue;
        run(code, args, static_cast<int>(launch.grid_x), static_cast<int>(launch.grid_y), kernel.threads,
            kernel.cluster, kernel.shared_bytes);
      }
    }
  }

  void run(HostKernelFunction kernel, const Args& args, int grid_x, int grid_y, int threads, int cluster,
           int shared_bytes) const {
    char message[512] = {};
    if (launch_(kernel, &args, grid_x, grid_y, threads, cluster, shared_bytes, order_, message, sizeof(message)) != 0) {
      throw Error(Code::kDeviceError, fmt::format("{} on the host shim: {}", plan().symbol, message));
    }
  }

  unsigned order_ = 0;
  void* library_ = nullptr;
  HostLaunchFunction launch_ = nullptr;
  std::vector<Entry> entries_;  // of the variants, then of the plan and of its stages
  std::vector<std::pair<core::PrefillKernel, HostKernelFunction>> prefill_;  // of a launch with a workspace
  mutable std::mutex mutex_;
};

}  // namespace

std::unique_ptr<Kernel> load_host(const core::KernelPlan& plan, const Binary& binary, unsigned order) {
  return std::make_unique<HostKernel>(plan, binary, order);
}

}  // namespace gdn::runtime
