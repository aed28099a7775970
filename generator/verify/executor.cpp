#include "verify/executor.h"

#include <fmt/format.h>

#include <chrono>
#include <map>

#include "check.h"
#include "compile/compiler.h"
#include "compile/headers.h"
#include "core/arrivals.h"
#include "core/prefill.h"
#include "cpu/support.h"
#include "device/device.h"
#include "emit/source.h"
#include "error.h"
#include "kernel.h"
#include "plan/operation.h"

namespace gdn::verify {
namespace {

runtime::Source source_of(const plan::Planned& planned) {
  emit::EmittedFile file = emit::source(planned);
  runtime::Source source;
  source.name = file.path;
  source.text = std::move(file.text);
  source.headers = runtime::template_headers();
  return source;
}

unsigned promises_on(core::Edge edge) { return edge == core::Edge::kPlain ? 0 : kPoolsAreReady; }

// A kernel whose operands are the problem's own buffers.
class HostKernel : public Loaded {
 public:
  HostKernel(std::unique_ptr<runtime::Kernel> kernel, double seconds) : kernel_(std::move(kernel)), seconds_(seconds) {}
  void run_on(core::Edge edge, oracle::Problem& problem, const std::vector<runtime::View>& views) override {
    std::vector<runtime::View> all = views;
    const std::vector<std::byte> workspace = add_workspace(kernel_->plan(), problem.rows(), all);
    kernel_->launch(problem.rows(), problem.slots(), all, nullptr, edge, promises_on(edge));
  }
  void run_unchecked(oracle::Problem& problem, const std::vector<runtime::View>& views) override {
    std::vector<runtime::View> all = views;
    const std::vector<std::byte> workspace = add_workspace(kernel_->plan(), problem.rows(), all);
    kernel_->launch_prepared(runtime::make_args(kernel_->plan(), problem.rows(), problem.slots(), all));
  }
  double compile_seconds() const override { return seconds_; }

 private:
  std::unique_ptr<runtime::Kernel> kernel_;
  double seconds_;
};

class CpuExecutor : public Executor {
 public:
  explicit CpuExecutor(const plan::Target* target) : target_(target != nullptr ? *target : best()) {
    if (target_.family == plan::Family::kCpu) return;
    throw runtime::Error(runtime::Code::kUnsupported,
                         fmt::format("{} is no CPU target: use --on simt or --on cuda", target_.name));
  }
  const plan::Target& target() const override { return target_; }
  std::string where() const override { return "this CPU, just in time"; }
  std::unique_ptr<Loaded> load(const plan::Planned& planned) override {
    const auto start = std::chrono::steady_clock::now();
    auto kernel = runtime::load_cpu(planned.kernel);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    return std::make_unique<HostKernel>(std::move(kernel), spent.count());
  }

 private:
  // The last CPU target of the table that runs here; the first where none does, so that loading says what is missing.
  static const plan::Target& best() {
    const plan::Target* chosen = nullptr;
    for (const plan::Target& target : plan::targets()) {
      if (target.family != plan::Family::kCpu) continue;
      if (chosen == nullptr || cpu::cpu_supports(target.name)) chosen = &target;
    }
    return *chosen;
  }

  const plan::Target& target_;
};

class ShimExecutor : public Executor {
 public:
  explicit ShimExecutor(const plan::Target& target) : target_(target), compiler_(runtime::make_host_compiler()) {}
  const plan::Target& target() const override { return target_; }
  std::string where() const override { return fmt::format("host shim, waves of {}", runtime::wave_of(target_.name)); }
  std::unique_ptr<Loaded> load(const plan::Planned& planned) override {
    runtime::Source source = source_of(planned);
    for (const runtime::Header& header : runtime::host_headers()) source.headers.push_back(header);
    const runtime::Binary binary = compiler_->compile(source, planned.kernel.target);
    return std::make_unique<HostKernel>(runtime::load_host(planned.kernel, binary), binary.seconds);
  }

 private:
  const plan::Target& target_;
  std::unique_ptr<runtime::Compiler> compiler_;
};

// Copies every buffer to the device, runs, and copies every buffer back: a stray write anywhere in an operand shows.
class DeviceKernel : public Loaded {
 public:
  DeviceKernel(runtime::Device device, std::unique_ptr<runtime::Kernel> kernel, double seconds)
      : device_(std::move(device)), kernel_(std::move(kernel)), seconds_(seconds) {}

  void run_on(core::Edge edge, oracle::Problem& problem, const std::vector<runtime::View>& views) override {
    on_device(problem, views, [&](const std::vector<runtime::View>& there) {
      kernel_->launch(problem.rows(), problem.slots(), there, nullptr, edge, promises_on(edge));
    });
  }
  void run_unchecked(oracle::Problem& problem, const std::vector<runtime::View>& views) override {
    on_device(problem, views, [&](const std::vector<runtime::View>& there) {
      kernel_->launch_prepared(runtime::make_args(kernel_->plan(), problem.rows(), problem.slots(), there));
    });
  }
  double compile_seconds() const override { return seconds_; }

 private:
  template <class Launch>
  void on_device(oracle::Problem& problem, const std::vector<runtime::View>& views, Launch launch) {
    std::vector<runtime::Buffer> buffers;
    std::vector<runtime::View> there = views;
    for (std::size_t i = 0; i < views.size(); ++i) {
      const oracle::Buffer& host = problem.buffers()[i];
      buffers.push_back(device_.alloc(host.size_bytes()));
      device_.copy_in(buffers.back().data(), host.data(), host.size_bytes());
      there[i].data = buffers.back().data();
    }
    const runtime::Buffer workspace = add_workspace(device_, kernel_->plan(), problem.rows(), there);
    launch(there);
    device_.synchronize();
    for (std::size_t i = 0; i < views.size(); ++i) {
      oracle::Buffer& host = problem.buffers()[i];
      device_.copy_out(host.data(), buffers[i].data(), host.size_bytes());
    }
  }

  runtime::Device device_;
  std::unique_ptr<runtime::Kernel> kernel_;
  double seconds_;
};

class CudaExecutor : public Executor {
 public:
  CudaExecutor() : device_(runtime::open_cuda()), compiler_(runtime::make_nvrtc()), target_(choose(device_)) {}
  const plan::Target& target() const override { return target_; }
  std::string where() const override { return fmt::format("{}, {}", device_.info().name, compiler_->name()); }
  std::unique_ptr<Loaded> load(const plan::Planned& planned) override {
    return load_compiled(device_, planned, compiler_->compile(source_of(planned), planned.kernel.target));
  }

 private:
  // The last CUDA target of the table that the device runs: the table goes from old to new.
  static const plan::Target& choose(const runtime::Device& device) {
    const plan::Target* best = nullptr;
    for (const plan::Target& target : plan::targets()) {
      if (target.family == plan::Family::kCuda && device.runs(target.name)) best = &target;
    }
    if (best == nullptr) {
      throw runtime::Error(
          runtime::Code::kUnsupported,
          fmt::format("{} is {}: no CUDA target of this program runs on it", device.info().name, device.info().target));
    }
    return *best;
  }

  runtime::Device device_;
  std::unique_ptr<runtime::Compiler> compiler_;
  const plan::Target& target_;
};

}  // namespace

std::unique_ptr<Loaded> load_compiled(const runtime::Device& device, const plan::Planned& planned,
                                      const runtime::Binary& binary) {
  return std::make_unique<DeviceKernel>(device, runtime::load_gpu(device, planned.kernel, binary), binary.seconds);
}

std::unique_ptr<Executor> open_executor(std::string_view place, const plan::Target* target) {
  if (place == "cpu") return std::make_unique<CpuExecutor>(target);
  if (place == "cuda") return std::make_unique<CudaExecutor>();
  if (place != "simt") throw std::invalid_argument(fmt::format("unknown place {}", place));
  const plan::Target& source = target != nullptr ? *target : *plan::find_target("sm_90a");
  if (source.family == plan::Family::kCpu) {
    throw runtime::Error(runtime::Code::kUnsupported,
                         fmt::format("the host shim runs GPU sources; {} is a CPU target: use --on cpu", source.name));
  }
  return std::make_unique<ShimExecutor>(source);
}

namespace {

// Bytes of the workspace of a launch over these views.
std::size_t workspace_of(const core::KernelPlan& plan, int rows, const std::vector<runtime::View>& views) {
  int sequences = rows;
  if (plan.facts.offsets_operand >= 0) {
    sequences = static_cast<int>(views[static_cast<std::size_t>(plan.facts.offsets_operand)].sizes[0] - 1);
  }
  int snapshots = 0;
  if (const int kept = plan.facts.snapshot_rows_operand; kept >= 0) {
    snapshots = static_cast<int>(views[static_cast<std::size_t>(kept)].sizes[0]);  // or none, if they are left out
  }
  return static_cast<std::size_t>(core::workspace_bytes(plan, rows, sequences, snapshots));
}

// What stands in it: nothing that a launch may use, but in counters zero.
std::uint8_t workspace_filler(const core::KernelPlan& plan) { return core::arrivals_operand(plan) >= 0 ? 0 : 0xff; }

runtime::View workspace_view(const core::KernelPlan& plan, void* data, std::size_t bytes) {
  runtime::View view;
  view.data = data;
  view.dtype = core::DType::kUint8;
  view.sizes = {static_cast<std::int64_t>(bytes)};
  view.strides = {1};
  view.layout = plan.operands.back().layout;
  return view;
}

}  // namespace

runtime::Buffer add_workspace(const runtime::Device& device, const core::KernelPlan& plan, int rows,
                              std::vector<runtime::View>& views) {
  if (core::workspace_operand(plan) < 0) return {};
  const std::size_t bytes = workspace_of(plan, rows, views);
  runtime::Buffer buffer = device.alloc(bytes);
  device.fill(buffer.data(), workspace_filler(plan), bytes);
  views.push_back(workspace_view(plan, buffer.data(), bytes));
  return buffer;
}

std::vector<std::byte> add_workspace(const core::KernelPlan& plan, int rows, std::vector<runtime::View>& views) {
  if (core::workspace_operand(plan) < 0) return {};
  const auto align = static_cast<std::size_t>(plan.operands.back().align);
  const std::size_t bytes = workspace_of(plan, rows, views);
  std::vector<std::byte> memory(bytes + align, static_cast<std::byte>(workspace_filler(plan)));
  const std::size_t rest = reinterpret_cast<std::uintptr_t>(memory.data()) % align;
  views.push_back(workspace_view(plan, memory.data() + (align - rest) % align, bytes));
  return memory;
}

std::vector<runtime::View> views_of(oracle::Problem& problem, const layout::Layout& owner) {
  std::map<std::string_view, core::Identity> stated;
  for (const plan::Use& use : plan::uses(owner, problem.operation())) {
    stated.emplace(plan::name_of(use), plan::identity_of(owner, use));
  }
  std::vector<runtime::View> views;
  for (oracle::Buffer& buffer : problem.buffers()) {
    runtime::View view;
    view.data = buffer.data();
    view.dtype = buffer.dtype;
    if (buffer.by_group()) {
      view.sizes = {buffer.inner, buffer.rows};
      view.strides = {buffer.stride, 1};
      if (const auto found = stated.find(buffer.name); found != stated.end()) view.layout = found->second;
      views.push_back(std::move(view));
      continue;
    }
    if (buffer.leading != oracle::Leading::kNone) {
      view.sizes.push_back(buffer.rows);
      view.strides.push_back(buffer.stride);
    }
    const bool indices = buffer.kind == oracle::Kind::kSlots || buffer.kind == oracle::Kind::kIndices;
    if (!indices || buffer.inner > 1) {
      view.sizes.push_back(buffer.inner);
      view.strides.push_back(1);
    }
    // A weight to be packed has its taps as a dimension, as in frameworks.
    if (problem.operation() == "conv_pack" && buffer.kind == oracle::Kind::kParameter) {
      const std::int64_t taps = owner.numbers.conv_width, channels = buffer.inner / taps;
      const auto& axes = owner.tensor(buffer.name).parts.front().axes;
      const bool innermost = axes.back().name == "tap";
      view.sizes = innermost ? std::vector<std::int64_t>{channels, taps} : std::vector<std::int64_t>{taps, channels};
      view.strides = {view.sizes[1], 1};
    }
    // A tensor that its owner does not know has no layout: the launch refuses it.
    if (const auto found = stated.find(buffer.name); found != stated.end()) view.layout = found->second;
    views.push_back(std::move(view));
  }
  return views;
}

}  // namespace gdn::verify
