// A CUDA device with the operands of a graph's launches, enough that no state is in a cache when it is read.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"
#include "compile/compiler.h"
#include "compile/headers.h"
#include "core/arrivals.h"
#include "device/device.h"
#include "emit/source.h"
#include "kernel.h"
#include "verify/bench_parts.h"
#include "verify/executor.h"

namespace gdn::verify {

constexpr int kReplays = 21;

class CudaBench {
 public:
  // Throws runtime::Error where there is no device or no compiler.
  CudaBench() : device_(runtime::open_cuda()), executor_(open_executor("cuda")), nvrtc_(runtime::make_nvrtc()) {}

  std::string name() const { return device_.info().name; }

  double copy_gb_per_s() {
    const runtime::Buffer from = device_.alloc(2 * kGiB);
    const runtime::Buffer to = device_.alloc(2 * kGiB);
    device_.fill(from.data(), 0x5a, from.size());
    const runtime::OwnedStream stream = device_.stream();
    const double seconds = time_us(stream, [&] { device_.copy(to.data(), from.data(), from.size(), stream.get()); });
    return 2.0 * static_cast<double>(from.size()) / seconds / 1e3;
  }

  const plan::Target& target() const { return executor_->target(); }
  Executor& executor() { return *executor_; }
  const runtime::Device& device() const { return device_; }

  runtime::Binary compile(const plan::Planned& planned) const {
    const emit::EmittedFile file = emit::source(planned);
    return nvrtc_->compile({file.path, file.text, runtime::template_headers()}, planned.kernel.target);
  }
  std::unique_ptr<runtime::Kernel> load(const plan::Planned& planned, const runtime::Binary& binary) const {
    return runtime::load_gpu(device_, planned.kernel, binary);
  }

  // The operands of one batch size in the layers of one graph.
  struct Stage {
    std::vector<runtime::Buffer> memory;
    std::vector<Args> launches;
  };

  // `plan` is that of any of the kernels that are to run on the stage: the operands are the same for all.
  Stage stage(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation,
              const core::KernelPlan& plan, int batch) {
    Stage stage;
    Tile tile(spec, operation, batch);
    const std::vector<runtime::View> views = views_of(tile.problem, layout);
    const int each = slots_of_row(spec, operation), tokens = tokens_of_row(spec, operation);
    const std::size_t state = slot_bytes_of(tile.problem) * static_cast<std::size_t>(batch * each);
    const auto layers = graph_layers(state, device_.info().memory_bytes);

    std::vector<std::int64_t> slots(static_cast<std::size_t>(batch * each));
    std::iota(slots.begin(), slots.end(), kFirstSlot);
    std::shuffle(slots.begin(), slots.end(), std::mt19937(1));
    std::vector<std::int64_t> offsets;
    for (int i = 0; i <= batch; ++i) offsets.push_back(std::int64_t{i} * tokens);
    const int pool_slots = batch * each + kFirstSlot;
    // Kernels whose blocks meet in memory do so behind the other operands (core/arrivals.h); the layers follow each
    // other.
    void* arrivals = nullptr;
    if (operation == "decode" && views.size() < static_cast<std::size_t>(kMaxOperands)) {
      const auto bytes = static_cast<std::size_t>(batch * core::arrivals_row_bytes(plan.facts));
      stage.memory.push_back(device_.alloc(bytes));
      arrivals = stage.memory.back().data();
      device_.fill(arrivals, 0, bytes);
    }
    std::vector<void*> shared(views.size(), nullptr);  // what the layers have in common: slot indices and offsets
    for (int layer = 0; layer < layers; ++layer) {
      std::vector<runtime::View> here;
      for (std::size_t i = 0; i < views.size(); ++i) {
        const oracle::Buffer& small = tile.problem.buffers()[i];
        const bool leading = small.leading != oracle::Leading::kNone;
        const bool of_offsets = static_cast<int>(i) == tile.problem.operands().offsets();
        const std::int64_t count = rows_in_launch(tile.problem, i, batch, tokens, pool_slots);
        const std::size_t row = static_cast<std::size_t>(small.stride) * core::size_of(small.dtype);
        if (shared[i] != nullptr) {
          here.push_back(resized(views[i], shared[i], count));
          continue;
        }
        stage.memory.push_back(device_.alloc(leading ? row * static_cast<std::size_t>(count) : small.size_bytes()));
        void* const data = stage.memory.back().data();
        if (small.kind == oracle::Kind::kSlots || of_offsets) {
          const std::vector<std::byte> bytes = slot_bytes(small.dtype, of_offsets ? offsets : slots);
          device_.copy_in(data, bytes.data(), bytes.size());
          shared[i] = data;
        } else {
          spread(small, stage.memory.back(), leading ? count : 1, row);
        }
        here.push_back(leading ? resized(views[i], data, count) : placed(views[i], data));
      }
      runtime::check(plan, batch * tokens, pool_slots, here);  // what it says is optional may follow
      stage.launches.push_back(runtime::make_args(plan, batch * tokens, pool_slots, here));
      if (arrivals != nullptr) stage.launches.back().operand[views.size()] = arrivals;
    }
    return stage;
  }

  // The time of one launch.
  double launch_us(const runtime::Kernel& kernel, const Stage& stage, Edge edge) {
    const runtime::Graph graph = device_.graph([&](runtime::Stream stream) {
      for (Args args : stage.launches) {
        if (edge == Edge::kProgrammatic) args.promises = kPoolsAreReady;
        kernel.launch_prepared(args, stream, edge);
      }
    });
    const runtime::OwnedStream stream = device_.stream();
    return time_us(stream, [&] { graph.launch(stream.get()); }) / static_cast<double>(stage.launches.size());
  }

  // One large read and `writes` writes of what was read, as a launch with a slot for each token has them.
  double fan_gb_per_s(int writes) {
    constexpr const char* kFan =
        "extern \"C\" __global__ void __launch_bounds__(256) fan(const uint4* from, uint4* to, unsigned long long n, "
        "int writes) {\n"
        "  for (unsigned long long i = blockIdx.x * 256ull + threadIdx.x; i < n; i += gridDim.x * 256ull) {\n"
        "    const uint4 x = from[i];\n"
        "    for (int w = 0; w < writes; ++w) to[w * n + i] = x;\n"
        "  }\n"
        "}\n";
    const runtime::Binary binary = nvrtc_->compile({"fan.cu", kFan, {}}, std::string(executor_->target().name));
    const std::unique_ptr<runtime::Module> module = device_.load(binary.bytes);
    void* const function = module->function("fan", 0);
    const runtime::Buffer from = device_.alloc(kGiB / 2);
    const runtime::Buffer to = device_.alloc(kGiB / 2 * static_cast<std::size_t>(writes));
    device_.fill(from.data(), 0x5a, from.size());
    void* source = from.data();
    void* target = to.data();
    unsigned long long count = from.size() / 16;
    void* parameters[] = {&source, &target, &count, &writes};
    runtime::LaunchShape shape;
    shape.grid[0] = 132 * 32;
    shape.block[0] = 256;
    const runtime::OwnedStream stream = device_.stream();
    const double us = time_us(stream, [&] { module->launch(function, shape, stream.get(), parameters); });
    return (1.0 + writes) * static_cast<double>(from.size()) / us / 1e3;
  }

 private:
  // Repeats the small problem's rows until `count` rows are full.
  void spread(const oracle::Buffer& small, const runtime::Buffer& to, std::int64_t count, std::size_t row) {
    auto* base = static_cast<std::byte*>(to.data());
    if (small.leading == oracle::Leading::kNone) {
      device_.copy_in(base, small.data(), small.size_bytes());
      return;
    }
    std::int64_t done = 0;
    while (done < count) {
      const std::int64_t step = std::min(count - done, small.rows);
      if (done == 0) {
        device_.copy_in(base, small.data(), row * static_cast<std::size_t>(step));
        device_.synchronize();
      } else {
        device_.copy(base + row * static_cast<std::size_t>(done), base, row * static_cast<std::size_t>(step));
      }
      done += step;
    }
    device_.synchronize();
  }

  template <class Work>
  double time_us(const runtime::OwnedStream& stream, Work work) {
    for (int i = 0; i < 3; ++i) work();
    device_.synchronize(stream.get());
    std::vector<double> times;
    for (int i = 0; i < kReplays; ++i) {
      runtime::Event before = device_.event();
      runtime::Event after = device_.event();
      before.record(stream.get());
      work();
      after.record(stream.get());
      after.wait();
      times.push_back(runtime::Event::milliseconds(before, after) * 1e3);
    }
    return median(times);
  }

  runtime::Device device_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<runtime::Compiler> nvrtc_;
};

}  // namespace gdn::verify
