// Decode on this CPU: pools of memory that no cache holds, launches, and scaling in turn with them.
#include <fmt/format.h>
#include <sys/mman.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <thread>

#include "error.h"
#include "kernel.h"
#include "verify/bench_parts.h"
#include "verify/executor.h"
#include "workers.h"

namespace gdn::verify {
namespace {

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

// Every dword multiplied by 1: what a kernel that does nothing with the state but its reads and writes would take. The
// factor is not the compiler's to know.
volatile float one = 1;

__attribute__((always_inline)) inline void scale_all(std::byte* data, std::size_t size) {
  using Float = float __attribute__((may_alias));
  auto* const numbers = reinterpret_cast<Float*>(data);
  const float factor = one;
  for (std::size_t i = 0; i < size / sizeof(float); ++i) numbers[i] *= factor;
}

// 64 bytes at once, and 32, which every CPU target has.
__attribute__((target("avx512f"))) void scale_by_64(std::byte* data, std::size_t size) { scale_all(data, size); }
__attribute__((target("avx2"))) void scale_by_32(std::byte* data, std::size_t size) { scale_all(data, size); }

void scale_in_place(std::byte* data, std::size_t size) {
  __builtin_cpu_supports("avx512f") ? scale_by_64(data, size) : scale_by_32(data, size);
}

}  // namespace

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

CpuTimes cpu_launch_times(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation, int batch,
                          const plan::TuningTable& tuning, core::KernelPlan& plan_out) {
  const auto executor = open_executor("cpu");
  const plan::Planned planned = plan::make(layout, operation, executor->target(), tuning);
  const core::KernelPlan& plan = plan_out = planned.kernel;
  const auto kernel = runtime::load_cpu(plan);
  Tile tile(spec, operation, batch);
  const std::vector<runtime::View> views = views_of(tile.problem, layout);
  const int heads = plan.facts.key_heads;
  const int each = slots_of_row(spec, operation), tokens = tokens_of_row(spec, operation);

  const std::size_t slot = slot_bytes_of(tile.problem) * static_cast<std::size_t>(each);
  const int batches = std::max(4, static_cast<int>(kGiB / (slot * static_cast<std::size_t>(batch))));
  const int pool_slots = batches * batch * each + kFirstSlot;

  std::vector<std::unique_ptr<Pages>> memory;
  std::vector<runtime::View> here;
  std::size_t slots_operand = 0, state_operand = 0;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const oracle::Buffer& small = tile.problem.buffers()[i];
    const bool leading = small.leading != oracle::Leading::kNone;
    const bool of_offsets = static_cast<int>(i) == tile.problem.operands().offsets();
    const std::int64_t count = rows_in_launch(tile.problem, i, batch, tokens, pool_slots);
    const std::size_t row = static_cast<std::size_t>(small.stride) * core::size_of(small.dtype);
    const std::size_t size = leading ? row * static_cast<std::size_t>(count) : small.size_bytes();
    memory.push_back(std::make_unique<Pages>(size));
    if (small.kind == oracle::Kind::kSlots) slots_operand = i;
    if (small.name == "state") state_operand = i;
    for (std::size_t at = 0; at < size;) {
      const std::size_t step = std::min(size - at, leading ? row * static_cast<std::size_t>(small.rows) : size);
      std::memcpy(memory.back()->data() + at, small.data(), step);
      at += step;
    }
    if (of_offsets) {
      std::vector<std::int64_t> offsets;
      for (int sequence = 0; sequence <= batch; ++sequence) offsets.push_back(std::int64_t{sequence} * tokens);
      const std::vector<std::byte> bytes = slot_bytes(small.dtype, offsets);
      std::memcpy(memory.back()->data(), bytes.data(), bytes.size());
    }
    std::byte* const data = memory.back()->data();
    here.push_back(leading ? resized(views[i], data, count) : placed(views[i], data));
  }

  std::vector<std::int64_t> order(static_cast<std::size_t>(batches * batch * each));
  std::iota(order.begin(), order.end(), kFirstSlot);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  const oracle::Buffer& state = tile.problem.buffers()[state_operand];
  const std::size_t state_row = static_cast<std::size_t>(state.stride) * core::size_of(state.dtype);
  const std::size_t head_bytes =
      static_cast<std::size_t>(state.inner) * core::size_of(state.dtype) / static_cast<std::size_t>(heads);
  const std::shared_ptr<runtime::Workers> pool = runtime::workers_of({});

  std::vector<double> launches, scalings;
  constexpr int kWarm = 4;
  const int rounds = std::max(2 * batches, 48);
  for (int round = 0; round < rounds + kWarm; ++round) {
    const auto first = order.begin() + (round % batches) * batch * each;
    const std::vector<std::byte> slots =
        slot_bytes(plan.operands[slots_operand].dtype, std::vector<std::int64_t>(first, first + batch * each));
    std::memcpy(memory[slots_operand]->data(), slots.data(), slots.size());
    // In turn, so that both see the same machine; a slot comes round again when its caches have long forgotten it.
    // Once through the slots the turns change over, so that both see all of them.
    const bool scale = (round + round / batches) % 2 != 0;
    const auto start = std::chrono::steady_clock::now();
    if (scale) {
      pool->run(std::int64_t{batch} * heads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t item = begin; item < end; ++item) {
          std::byte* const states =
              memory[state_operand]->data() + state_row * static_cast<std::size_t>(first[item / heads * each]);
          scale_in_place(states + head_bytes * static_cast<std::size_t>(item % heads), head_bytes);
        }
      });
    } else {
      kernel->launch(batch * tokens, pool_slots, here);
    }
    if (round >= kWarm) (scale ? scalings : launches).push_back(microseconds_since(start));
  }
  return {median(launches), median(scalings)};
}

}  // namespace gdn::verify
