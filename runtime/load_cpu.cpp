#include <fmt/format.h>
#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <stdexcept>

#include "core/excess.h"
#include "cpu/kernel.h"
#include "cpu/support.h"
#include "error.h"
#include "kernel.h"
#include "workers.h"

namespace gdn::runtime {
namespace {

cpu::Kernel generate(const core::KernelPlan& plan) {
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
    return cpu::generate(plan);
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

class CpuKernel final : public Kernel {
 public:
  CpuKernel(const core::KernelPlan& plan, const Threading& threading)
      : Kernel(plan), code_(generate(plan)), workers_(workers_of(threading)) {}

  bool on_host() const override { return true; }

 private:
  void start(const Args& launch, Stream, Edge) const override {
    Args args = launch;
    if (args.out_rows > 0) core::zero_excess(plan(), args);
    args.out_rows = 0;  // it asks for blocks that a GPU does the same with
    const cpu::Kernel::Function function = code_.function();
    const std::int64_t bytes = code_.scratch_bytes();
    const std::int64_t items = std::int64_t{core::grid_rows(plan().launch, args)} * plan().launch.blocks_per_row;
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

  cpu::Kernel code_;
  std::shared_ptr<Workers> workers_;
};

}  // namespace

std::unique_ptr<Kernel> load_cpu(const core::KernelPlan& plan, const Threading& threading) {
  return std::make_unique<CpuKernel>(plan, threading);
}

}  // namespace gdn::runtime
