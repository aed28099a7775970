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

#include "error.h"
#include "verify/cuda_bench.h"

namespace gdn::verify {
namespace {

BenchRow row_of(const core::KernelPlan& plan, std::string_view place, int batch, Edges edges, double time_us,
                double copy_gb_per_s) {
  BenchRow row;
  row.edges = to_string(edges);
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

// Of the taps of a part's window those that the step needs, in bytes of whole sectors.
std::int64_t window_bytes(const core::Facts& facts, const core::Map& map, std::int64_t element) {
  constexpr std::int64_t kSector = 32;
  const std::int64_t heads = map.heads == core::HeadKind::kKey ? facts.key_heads : facts.value_heads;
  const std::int64_t taps = facts.conv_width - 1;
  // Neighbouring channels: a row of channels for each tap. Otherwise the taps of a channel lie in a run of the window's
  // length, and what is skipped between two channels is in sectors that are read anyway.
  const std::int64_t run = map.run * element;
  if (map.inner_stride == 1) return heads * taps * ((run + kSector - 1) / kSector * kSector);
  const std::int64_t skipped = (facts.window - taps) * element;
  return heads * run * (skipped < kSector ? facts.window : taps);
}

}  // namespace

std::string_view to_string(Edges edges) { return edges == Edges::kPlain ? "plain" : "programmatic"; }

std::int64_t floor_bytes(const core::KernelPlan& plan, int rows) {
  const core::Facts& facts = plan.facts;
  std::int64_t bytes = 0;
  for (const core::Operand& operand : plan.operands) {
    const auto element = static_cast<std::int64_t>(core::size_of(operand.dtype));
    const bool window = operand.name.rfind("conv_state", 0) == 0;
    const int tokens = plan.operation == "decode_spec" ? facts.tokens : 1;
    const bool slots = tokens > 1 && facts.rollback == core::Rollback::kSlots;
    std::int64_t moved = element * operand.inner;
    if (window && tokens > 1) {
      const std::int64_t row = moved / facts.window;  // and the inputs of tokens behind those that stay
      moved = row * (2 * (facts.conv_width - 1) + tokens - 1 + (slots ? 0 : 1));
    } else if (window) {
      moved = 0;
      for (const core::Map* map : {&facts.window_q, &facts.window_k, &facts.window_v}) {
        if (map->present() && &plan.operands[static_cast<std::size_t>(map->operand)] == &operand) {
          moved += 2 * window_bytes(facts, *map, element);
        }
      }
    } else if (operand.access == core::Access::kReadWrite) {
      moved *= 1 + (slots && operand.name == "state" ? tokens : 1);
    }
    if (operand.leading == core::Leading::kToken) moved *= tokens;
    bytes += moved * (operand.leading == core::Leading::kNone ? 1 : rows);
  }
  return bytes;
}

Bench bench_launch(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation,
                   std::string_view place, const std::vector<int>& batches, const std::vector<Edges>& edges,
                   const std::function<void(const std::string&)>& tell, const plan::TuningTable& tuning) {
  Bench bench;
  if (place == "cuda") {
    CudaBench cuda;
    bench.device = cuda.name();
    tell("copy bandwidth");
    bench.copy_gb_per_s = cuda.copy_gb_per_s();
    if (operation == "decode_spec" && *spec.speculative.given) {
      bench.fan_gb_per_s = cuda.fan_gb_per_s(*spec.speculative.tokens);
    }
    const plan::Planned planned = plan::make(layout, operation, cuda.target(), tuning);
    tell(fmt::format("compiling {}", planned.kernel.symbol));
    const auto kernel = cuda.load(planned, cuda.compile(planned));
    for (const int batch : batches) {
      tell(fmt::format("{} batch {}", layout.spec, batch));
      const CudaBench::Stage stage = cuda.stage(spec, layout, operation, planned.kernel, batch);
      for (const Edges edge : edges) {
        const double us = cuda.launch_us(*kernel, stage, edge);
        bench.rows.push_back(row_of(planned.kernel, place, batch, edge, us, bench.copy_gb_per_s));
      }
    }
    return bench;
  }
  const unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  bench.device = fmt::format("CPU, {} threads", threads);
  tell("copy bandwidth");
  bench.copy_gb_per_s = cpu_copy_gb_per_s(threads);
  core::KernelPlan plan;
  for (const int batch : batches) {
    tell(fmt::format("{} batch {}", layout.spec, batch));
    const double us = cpu_decode_us(spec, layout, batch, tuning, plan);
    bench.rows.push_back(row_of(plan, place, batch, Edges::kPlain, us, bench.copy_gb_per_s));
  }
  return bench;
}

}  // namespace gdn::verify
