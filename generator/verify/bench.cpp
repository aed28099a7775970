#include "verify/bench.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <thread>

#include "check.h"
#include "compile/compiler.h"
#include "compile/headers.h"
#include "device/device.h"
#include "emit/source.h"
#include "error.h"
#include "kernel.h"
#include "oracle/problem.h"
#include "verify/executor.h"

namespace gdn::verify {
namespace {

constexpr std::size_t kGiB = std::size_t{1} << 30;
// More than twice the largest L2 of a current GPU: a layer's state is gone before the graph reaches it again.
constexpr std::size_t kColdBytes = 400'000'000;
constexpr int kReplays = 21;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

BenchRow row_of(const core::KernelPlan& plan, std::string_view place, int batch, double time_us, double copy_gb_per_s) {
  BenchRow row;
  row.spec = plan.spec;
  row.operation = plan.operation;
  row.target = plan.target;
  row.on = place;
  row.batch = batch;
  for (const core::Operand& operand : plan.operands) {
    if (operand.name == "state") row.state_dtype = core::to_string(operand.dtype);
  }
  row.time_us = time_us;
  row.bytes = floor_bytes(plan, batch);
  row.gb_per_s = static_cast<double>(row.bytes) / time_us / 1e3;
  row.floor_us = static_cast<double>(row.bytes) / copy_gb_per_s / 1e3;
  row.ratio = time_us / row.floor_us;
  return row;
}

int slots_of_row(const spec::Spec& spec, std::string_view operation) {
  const bool drafts = operation == "decode_spec" || operation == "state_commit";
  return drafts && *spec.speculative.scheme == core::Rollback::kSlots ? *spec.speculative.tokens : 1;
}

int tokens_of_row(const spec::Spec& spec, std::string_view operation) {
  return operation == "decode_spec" ? *spec.speculative.tokens : 1;
}

// A small problem whose rows and slots are repeated to fill a batch: realistic numbers at the price of a few rows.
struct Tile {
  explicit Tile(const spec::Spec& spec, std::string_view operation, int batch)
      : problem(oracle::make_problem(spec, operation, options(spec, operation, batch))) {
    if (problem.sequences().empty()) return;
    // All tokens that there can be, all of them accepted: the most that a launch does.
    const std::vector<int> all(problem.sequences().size(), *spec.speculative.tokens);
    problem.arrange(all, all);
  }
  static oracle::Options options(const spec::Spec& spec, std::string_view operation, int batch) {
    oracle::Options options;
    options.rows = std::min(batch, 8);
    options.slots = options.rows * slots_of_row(spec, operation) + 2;
    return options;
  }
  oracle::Problem problem;
};

// Distinct slots in random order, as a pool looks after a while of serving.
template <class Int>
std::vector<std::byte> slot_bytes(const std::vector<std::int64_t>& slots) {
  std::vector<Int> values(slots.begin(), slots.end());
  std::vector<std::byte> bytes(values.size() * sizeof(Int));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}
std::vector<std::byte> slot_bytes(core::DType dtype, const std::vector<std::int64_t>& slots) {
  return dtype == core::DType::kInt64 ? slot_bytes<std::int64_t>(slots) : slot_bytes<std::int32_t>(slots);
}

// Bytes of one slot in all pools of a problem.
std::size_t slot_bytes_of(const oracle::Problem& problem) {
  std::size_t bytes = 0;
  for (const oracle::Buffer& buffer : problem.buffers()) {
    if (buffer.leading == oracle::Leading::kSlot) {
      bytes += static_cast<std::size_t>(buffer.stride) * core::size_of(buffer.dtype);
    }
  }
  return bytes;
}

// A pool's slot 0 can be padding by the spec, so batches use slots from 1 on.
constexpr int kFirstSlot = 1;

runtime::View resized(const runtime::View& view, void* data, std::int64_t leading) {
  runtime::View result = view;
  result.data = data;
  if (!result.sizes.empty()) result.sizes[0] = leading;
  return result;
}

class CudaBench {
 public:
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

  double launch_us(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation, int batch,
                   const plan::TuningTable& tuning, core::KernelPlan& plan_out) {
    const plan::Planned planned = plan::make(layout, operation, executor_->target(), tuning);
    const core::KernelPlan& plan = plan_out = planned.kernel;
    const emit::EmittedFile file = emit::source(planned);
    const runtime::Source source{file.path, file.text, runtime::template_headers()};
    const auto kernel = runtime::load_gpu(device_, plan, nvrtc_->compile(source, plan.target));

    Tile tile(spec, operation, batch);
    const std::vector<runtime::View> views = views_of(tile.problem, layout);
    const int each = slots_of_row(spec, operation), tokens = tokens_of_row(spec, operation);
    const std::size_t state = slot_bytes_of(tile.problem) * static_cast<std::size_t>(batch * each);
    const int layers = static_cast<int>(std::clamp<std::size_t>((kColdBytes + state - 1) / state, 4, 48));

    std::vector<runtime::Buffer> memory;
    std::vector<Args> launches;
    std::vector<std::int64_t> slots(static_cast<std::size_t>(batch * each));
    std::iota(slots.begin(), slots.end(), kFirstSlot);
    std::vector<std::int64_t> offsets;
    for (int i = 0; i <= batch; ++i) offsets.push_back(std::int64_t{i} * tokens);
    std::mt19937 random(1);
    const int pool_slots = batch * each + kFirstSlot;
    for (int layer = 0; layer < layers; ++layer) {
      std::vector<runtime::View> here;
      for (std::size_t i = 0; i < views.size(); ++i) {
        const oracle::Buffer& small = tile.problem.buffers()[i];
        const bool leading = small.leading != oracle::Leading::kNone;
        const bool of_offsets = static_cast<int>(i) == tile.problem.operands().offsets();
        const std::int64_t count = small.leading == oracle::Leading::kSlot    ? pool_slots
                                   : small.leading == oracle::Leading::kToken ? std::int64_t{batch} * tokens
                                   : leading                                  ? batch + (of_offsets ? 1 : 0)
                                                                              : 1;
        const std::size_t row = static_cast<std::size_t>(small.stride) * core::size_of(small.dtype);
        memory.push_back(device_.alloc(leading ? row * static_cast<std::size_t>(count) : small.size_bytes()));
        if (small.kind == oracle::Kind::kSlots) {
          std::shuffle(slots.begin(), slots.end(), random);
          const std::vector<std::byte> bytes = slot_bytes(small.dtype, slots);
          device_.copy_in(memory.back().data(), bytes.data(), bytes.size());
        } else if (of_offsets) {
          const std::vector<std::byte> bytes = slot_bytes(small.dtype, offsets);
          device_.copy_in(memory.back().data(), bytes.data(), bytes.size());
        } else {
          spread(small, memory.back(), leading ? count : 1, row);
        }
        here.push_back(resized(views[i], memory.back().data(), leading ? count : views[i].sizes[0]));
      }
      runtime::check(plan, batch * tokens, pool_slots, here);
      launches.push_back(runtime::make_args(plan, batch * tokens, pool_slots, here));
    }
    const runtime::Graph graph = device_.graph([&](runtime::Stream stream) {
      for (const Args& args : launches) kernel->launch_prepared(args, stream);
    });
    const runtime::OwnedStream stream = device_.stream();
    return time_us(stream, [&] { graph.launch(stream.get()); }) / layers;
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

double microseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

// Zeroed pages of its own, large ones where the system has them; huge pools as page-faulting as the allocator's would
// measure the kernel instead of the memory.
class Pages {
 public:
  explicit Pages(std::size_t size) : size_(size) {
    void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
      throw runtime::Error(runtime::Code::kSystem, fmt::format("no memory for a pool of {} bytes", size));
    }
    ::madvise(data, size, MADV_HUGEPAGE);
    data_ = static_cast<std::byte*>(data);
  }
  ~Pages() { ::munmap(data_, size_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

double cpu_copy_gb_per_s(unsigned threads) {
  const std::size_t size = kGiB / 2;
  Pages from(size), to(size);
  const auto copy = [&] {
    std::vector<std::thread> workers;
    for (unsigned i = 0; i < threads; ++i) {
      const std::size_t begin = size / threads * i;
      const std::size_t length = i + 1 == threads ? size - begin : size / threads;
      workers.emplace_back([&, begin, length] { std::memcpy(to.data() + begin, from.data() + begin, length); });
    }
    for (std::thread& worker : workers) worker.join();
  };
  std::memset(from.data(), 0x5a, size);
  copy();
  std::vector<double> times;
  for (int i = 0; i < 7; ++i) {
    const auto start = std::chrono::steady_clock::now();
    copy();
    times.push_back(microseconds_since(start));
  }
  return 2.0 * static_cast<double>(size) / median(times) / 1e3;
}

double cpu_decode_us(const spec::Spec& spec, const layout::Layout& layout, int batch, const plan::TuningTable& tuning,
                     core::KernelPlan& plan_out) {
  const plan::Planned planned = plan::make(layout, "decode", *plan::find_target("avx512bf16"), tuning);
  const core::KernelPlan& plan = plan_out = planned.kernel;
  const auto kernel = runtime::load_cpu(plan);
  Tile tile(spec, "decode", batch);
  const std::vector<runtime::View> views = views_of(tile.problem, layout);

  const std::size_t slot = slot_bytes_of(tile.problem);
  const int batches = std::max(4, static_cast<int>(kGiB / (slot * static_cast<std::size_t>(batch))));
  const int pool_slots = batches * batch + kFirstSlot;

  std::vector<std::unique_ptr<Pages>> memory;
  std::vector<runtime::View> here;
  std::size_t slots_operand = 0;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const oracle::Buffer& small = tile.problem.buffers()[i];
    const bool leading = small.leading != oracle::Leading::kNone;
    const std::int64_t count = small.leading == oracle::Leading::kSlot ? pool_slots : batch;
    const std::size_t row = static_cast<std::size_t>(small.stride) * core::size_of(small.dtype);
    const std::size_t size = leading ? row * static_cast<std::size_t>(count) : small.size_bytes();
    memory.push_back(std::make_unique<Pages>(size));
    if (small.kind == oracle::Kind::kSlots) slots_operand = i;
    for (std::size_t at = 0; at < size;) {
      const std::size_t step = std::min(size - at, leading ? row * static_cast<std::size_t>(small.rows) : size);
      std::memcpy(memory.back()->data() + at, small.data(), step);
      at += step;
    }
    here.push_back(resized(views[i], memory.back()->data(), leading ? count : views[i].sizes[0]));
  }

  std::vector<std::int64_t> order(static_cast<std::size_t>(batches * batch));
  std::iota(order.begin(), order.end(), kFirstSlot);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  std::vector<double> times;
  const int rounds = std::max(batches, 24);
  for (int round = 0; round < rounds + 2; ++round) {
    const auto first = order.begin() + (round % batches) * batch;
    const std::vector<std::byte> slots =
        slot_bytes(plan.operands[slots_operand].dtype, std::vector<std::int64_t>(first, first + batch));
    std::memcpy(memory[slots_operand]->data(), slots.data(), slots.size());
    const auto start = std::chrono::steady_clock::now();
    kernel->launch(batch, pool_slots, here);
    if (round >= 2) times.push_back(microseconds_since(start));
  }
  return median(times);
}

}  // namespace

std::int64_t floor_bytes(const core::KernelPlan& plan, int rows) {
  const core::Facts& facts = plan.facts;
  std::int64_t bytes = 0;
  for (const core::Operand& operand : plan.operands) {
    const auto element = static_cast<std::int64_t>(core::size_of(operand.dtype));
    std::int64_t elements = operand.inner;
    const bool window = operand.name.rfind("conv_state", 0) == 0;
    const int tokens = plan.operation == "decode_spec" ? facts.tokens : 1;
    const bool slots = tokens > 1 && facts.rollback == core::Rollback::kSlots;
    if (window) {
      const std::int64_t row = elements / facts.window;  // and the inputs of tokens behind those that stay
      elements = row * (2 * (facts.conv_width - 1) + tokens - 1 + (tokens > 1 && !slots ? 1 : 0));
    } else if (operand.access == core::Access::kReadWrite) {
      elements *= 1 + (slots && operand.name == "state" ? tokens : 1);
    }
    if (operand.leading == core::Leading::kToken) elements *= tokens;
    bytes += element * elements * (operand.leading == core::Leading::kNone ? 1 : rows);
  }
  return bytes;
}

Bench bench_launch(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation,
                   std::string_view place, const std::vector<int>& batches,
                   const std::function<void(const std::string&)>& tell, const plan::TuningTable& tuning) {
  Bench bench;
  core::KernelPlan plan;
  if (place == "cuda") {
    CudaBench cuda;
    bench.device = cuda.name();
    tell("copy bandwidth");
    bench.copy_gb_per_s = cuda.copy_gb_per_s();
    if (operation == "decode_spec" && *spec.speculative.given) {
      bench.fan_gb_per_s = cuda.fan_gb_per_s(*spec.speculative.tokens);
    }
    for (const int batch : batches) {
      tell(fmt::format("{} batch {}", layout.spec, batch));
      const double us = cuda.launch_us(spec, layout, operation, batch, tuning, plan);
      bench.rows.push_back(row_of(plan, place, batch, us, bench.copy_gb_per_s));
    }
    return bench;
  }
  const unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  bench.device = fmt::format("CPU, {} threads", threads);
  tell("copy bandwidth");
  bench.copy_gb_per_s = cpu_copy_gb_per_s(threads);
  for (const int batch : batches) {
    tell(fmt::format("{} batch {}", layout.spec, batch));
    const double us = cpu_decode_us(spec, layout, batch, tuning, plan);
    bench.rows.push_back(row_of(plan, place, batch, us, bench.copy_gb_per_s));
  }
  return bench;
}

}  // namespace gdn::verify
