#include <fmt/format.h>

#include <utility>
#include <vector>

#include "check.h"
#include "core/arrivals.h"
#include "core/prefill.h"
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
    for (const core::Variant& variant : plan.variants) add(variant.symbol, variant.launch);
    add(plan.symbol, plan.launch);
    for (const core::Stage& stage : plan.stages) add(stage.symbol, stage.launch);
    if (!core::prefill_fits(plan, device.info().shared_bytes)) return;
    for (const core::PrefillKernel& kernel : core::prefill_kernels(plan)) {
      if (kernel.shared_bytes > device.info().shared_bytes) continue;
      const std::string symbol = fmt::format("{}_{}", plan.symbol, kernel.name);
      LaunchShape shape;
      shape.block[0] = static_cast<unsigned>(kernel.threads);
      shape.shared_bytes = static_cast<unsigned>(kernel.shared_bytes);
      prefill_.push_back({kernel.name, module_->function(symbol, kernel.shared_bytes), shape});
    }
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
  void start(const Args& args, Stream stream, Edge edge) const override {
    const int workspace = core::workspace_operand(plan());
    if (!prefill_.empty() && args.operand[workspace] != nullptr) {
      start_stages(args, stream, start_prefill(args, workspace, stream));
      return;
    }
    // A whole layer's workspace that the plan's one kernel does without would tell the stages behind it that o is
    // there.
    if (plan().operation == "prefill" && workspace >= 0 && args.operand[workspace] != nullptr &&
        !core::holds_o(plan())) {
      Args without = args;
      without.operand[workspace] = nullptr;
      return start_one(without, stream, edge);
    }
    start_one(args, stream, edge);
  }

  void start_one(const Args& args, Stream stream, Edge edge) const {
    if (!core::waits_for_previous(plan().operation)) edge = Edge::kPlain;
    const Entry& entry = entries_[core::variant_of(plan(), args, edge)];
    LaunchShape shape = entry.shape;
    shape.grid[0] *= static_cast<unsigned>(core::grid_rows(plan().launch, args));
    shape.programmatic = edge == Edge::kProgrammatic;
    void* parameters[] = {const_cast<Args*>(&args)};
    module_->launch(entry.function, shape, stream, parameters);
    start_stages(args, stream);
  }

  void start_stages(const Args& args, Stream stream, bool overlap = false) const {
    void* parameters[] = {const_cast<Args*>(&args)};
    for (std::size_t i = 0; i < plan().stages.size(); ++i) {
      const Entry& stage = entries_[plan().variants.size() + 1 + i];
      LaunchShape shape = stage.shape;
      shape.grid[0] *= static_cast<unsigned>(core::grid_rows(plan().stages[i].launch, args));
      shape.programmatic = overlap;
      module_->launch(stage.function, shape, stream, parameters);
    }
  }

  struct Entry {
    void* function = nullptr;
    LaunchShape shape;  // grid.x of one row
  };

  void add(const std::string& symbol, const core::LaunchRule& rule) {
    Entry entry;
    entry.function = module_->function(symbol, rule.shared_bytes);
    entry.shape.grid[rule.one_dimension ? 0 : 1] = static_cast<unsigned>(rule.blocks_per_row);
    entry.shape.block[0] = static_cast<unsigned>(rule.threads);
    entry.shape.shared_bytes = static_cast<unsigned>(rule.shared_bytes);
    entries_.push_back(entry);
  }

  // Whether what follows may begin before the last of these has ended.
  bool start_prefill(Args args, int workspace, Stream stream) const {
    const core::PrefillChoice choice =
        core::prefill_choice(plan(), args.rows, args.sequences, device_.info().shared_bytes);
    args.stride[workspace] = choice.segments;
    args.operand[workspace] =
        static_cast<char*>(args.operand[workspace]) + core::held_bytes(plan(), args.rows);  // rows of v and o before it
    const bool overlap = core::prefill_overlaps(plan(), choice);
    void* parameters[] = {&args};
    const core::PrefillLaunches launches = core::prefill_launches(
        core::prefill_work(plan(), args.rows, args.sequences, core::snapshots_of(plan(), args)), choice);
    for (int i = 0; i < launches.count; ++i) {
      const core::PrefillLaunch& launch = launches.list[static_cast<std::size_t>(i)];
      for (const PrefillFunction& kernel : prefill_) {
        if (kernel.name != launch.kernel) continue;
        LaunchShape shape = kernel.shape;
        shape.grid[0] = launch.grid_x;
        shape.grid[1] = launch.grid_y;
        shape.programmatic = i > 0 && overlap;
        module_->launch(kernel.function, shape, stream, parameters);
      }
    }
    return overlap;
  }

  struct PrefillFunction {
    std::string_view name;
    void* function;
    LaunchShape shape;
  };

  Device device_;
  std::unique_ptr<Module> module_;
  std::vector<Entry> entries_;            // of the variants, then of the plan and of its stages
  std::vector<PrefillFunction> prefill_;  // of a launch with a workspace
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
