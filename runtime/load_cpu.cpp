#include <fmt/format.h>
#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "core/excess.h"
#include "cpu/kernel.h"
#include "cpu/support.h"
#include "error.h"
#include "kernel.h"
#include "perf_map.h"
#include "workers.h"

namespace gdn::runtime {
namespace {

// By one of the generators' functions; `suffix` follows the symbol in what perf is told.
template <class... More>
cpu::Kernel generate(const core::KernelPlan& plan, cpu::Kernel (*make)(const core::KernelPlan&, More...),
                     const char* suffix, More... more) {
  if (!cpu::cpu_supports(plan.target)) {
    throw Error(
        Code::kUnsupported,
        fmt::format("{}: this processor, or its system, does not have what the target {} needs (avx2: AVX2, FMA "
                    "and F16C, with the YMM registers saved by the system; avx512bf16: AVX-512 F, BW, DQ, VL and BF16, "
                    "with the ZMM registers saved by the system; amx: AMX-TILE "
                    "and AMX-BF16 too, with the tiles granted by the system)",
                    plan.symbol, plan.target));
  }
  try {
    cpu::Kernel kernel = make(plan, more...);
    if (kernel) {
      name_for_perf(reinterpret_cast<const void*>(kernel.function()), kernel.size(), plan.symbol + suffix);
    }
    return kernel;
  } catch (const Error&) {
    throw;
  } catch (const std::runtime_error& error) {
    throw Error(Code::kUnsupported, fmt::format("{}: {}", plan.symbol, error.what()));
  }
}

// Memory that one thread's calls work in, kept from launch to launch: it grows to what the largest kernel wants. Large
// pages where the system has them.
class Scratch {
 public:
  ~Scratch() { release(); }
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Null for 0 bytes, and where the system has no memory.
  void* of(std::int64_t bytes) {
    constexpr std::size_t kLargePage = std::size_t{2} << 20;
    const std::size_t wanted = (static_cast<std::size_t>(bytes) + kLargePage - 1) / kLargePage * kLargePage;
    if (wanted <= size_) return bytes == 0 ? nullptr : begin_;
    release();
    void* const mapped =
        ::mmap(nullptr, wanted + kLargePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    mapped_ = mapped;
    size_ = wanted;
    const auto address = reinterpret_cast<std::uintptr_t>(mapped);
    begin_ = static_cast<std::byte*>(mapped) + (kLargePage - address % kLargePage) % kLargePage;
    ::madvise(begin_, wanted, MADV_HUGEPAGE);
    return begin_;
  }

 private:
  void release() {
    if (mapped_ != nullptr) ::munmap(mapped_, size_ + (std::size_t{2} << 20));
    mapped_ = nullptr;
    size_ = 0;
  }

  void* mapped_ = nullptr;
  std::byte* begin_ = nullptr;
  std::size_t size_ = 0;
};

// How long a launch takes whose items go by such parts, in thousandths of an item's time: they are dealt out in rounds,
// and in the last one threads idle.
std::int64_t time_of(std::int64_t items, const cpu::ItemParts& parts, int threads) {
  return (items * parts.count + threads - 1) / threads * parts.per_mille;
}

class CpuKernel final : public Kernel {
 public:
  CpuKernel(const core::KernelPlan& plan, const Threading& threading)
      : Kernel(plan),
        code_(generate(plan, cpu::generate, "")),
        parts_(generate(plan, cpu::generate_parts, "_parts")),
        after_parts_(generate(plan, cpu::generate_after_parts, "_after_parts")),
        workers_(workers_of(threading)),
        columns_(generate(plan, cpu::generate_column_parts, "_columns", workers_->threads())),
        after_columns_(generate(plan, cpu::generate_after_column_parts, "_after_columns", workers_->threads())) {}

  bool on_host() const override { return true; }

 private:
  void start(const Args& launch, Stream, Edge) const override {
    Args args = launch;
    if (args.out_rows > 0) core::zero_excess(plan(), args);
    args.out_rows = 0;  // it asks for blocks that a GPU does the same with
    const std::int64_t items = std::int64_t{core::grid_rows(plan().launch, args)} * plan().launch.blocks_per_row;
    const cpu::Kernel& code = best_for(items);
    if (code.parts().exchange_bytes > 0) {
      run_parts(args, items);
      return;
    }
    run_items(code, args, items);
    if (&code == &parts_ && after_parts_) run_items(after_parts_, args, items);
    if (&code == &columns_ && after_columns_) run_items(after_columns_, args, items);
  }

  // The one that keeps the threads busiest: smaller parts where they gain a tenth.
  const cpu::Kernel& best_for(std::int64_t items) const {
    const cpu::Kernel* best = &code_;
    const int threads = workers_->threads();
    for (const cpu::Kernel* const smaller : {&parts_, &columns_}) {
      if (!*smaller || threads < 2) continue;
      if (10 * time_of(items, smaller->parts(), threads) <= 9 * time_of(items, best->parts(), threads)) best = smaller;
    }
    return *best;
  }

  void run_items(const cpu::Kernel& code, const Args& args, std::int64_t whole) const {
    const std::int64_t items = whole * code.parts().count;
    const cpu::Kernel::Function function = code.function();
    const std::int64_t bytes = code.scratch_bytes();
    std::atomic<bool> starved{false};
    workers_->run(items, [&](std::int64_t begin, std::int64_t end) {
      thread_local Scratch scratch;
      void* const memory = scratch.of(bytes);
      if (bytes > 0 && memory == nullptr) {
        starved = true;
        return;
      }
      function(&args, begin, end, memory);
    });
    if (starved) {
      throw Error(Code::kSystem, fmt::format("{}: no memory for {} bytes of scratch a thread", plan().symbol, bytes));
    }
  }

  void run_parts(const Args& args, std::int64_t items) const {
    thread_local Scratch exchange;  // of the thread that launches, for all who do parts of it
    const cpu::ItemParts& parts = parts_.parts();
    auto* const memory = static_cast<std::byte*>(exchange.of(items * parts.exchange_bytes));
    if (memory == nullptr) {
      throw Error(Code::kSystem, fmt::format("{}: no memory for {} bytes that parts exchange", plan().symbol,
                                             items * parts.exchange_bytes));
    }
    for (std::int64_t item = 0; item < items; ++item) {
      std::memset(memory + item * parts.exchange_bytes, 0, static_cast<std::size_t>(parts.counter_bytes));
    }
    const cpu::Kernel::Function function = parts_.function();
    workers_->run(items * parts.count,
                  [&](std::int64_t begin, std::int64_t end) { function(&args, begin, end, memory); });
  }

  cpu::Kernel code_;
  cpu::Kernel parts_;        // empty where whole items are all there is
  cpu::Kernel after_parts_;  // empty where parts leave nothing undone
  std::shared_ptr<Workers> workers_;
  cpu::Kernel columns_, after_columns_;  // empty where there are as many value heads as threads
};

}  // namespace

std::unique_ptr<Kernel> load_cpu(const core::KernelPlan& plan, const Threading& threading) {
  return std::make_unique<CpuKernel>(plan, threading);
}

}  // namespace gdn::runtime
