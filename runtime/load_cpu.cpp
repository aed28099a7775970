#include <fmt/format.h>

#include <memory>
#include <stdexcept>

#include "cpu/kernel.h"
#include "cpu/support.h"
#include "error.h"
#include "kernel.h"
#include "worker_pool.h"

namespace gdn::runtime {
namespace {

cpu::Kernel generate(const core::KernelPlan& plan) {
  if (!cpu::cpu_supports(plan.target)) {
    throw Error(Code::kUnsupported,
                fmt::format("{}: this processor, or its system, does not have what the target {} needs (avx512bf16: "
                            "AVX-512 F, BW, DQ, VL and BF16, with the ZMM registers saved by the system; amx: AMX-TILE "
                            "and AMX-BF16 too, with the tiles granted by the system)",
                            plan.symbol, plan.target));
  }
  try {
    return cpu::generate(plan);
  } catch (const std::runtime_error& error) {
    throw Error(Code::kUnsupported, fmt::format("{}: {}", plan.symbol, error.what()));
  }
}

class CpuKernel final : public Kernel {
 public:
  CpuKernel(const core::KernelPlan& plan, int threads)
      : Kernel(plan), code_(generate(plan)), pool_(shared_pool(threads)) {}

  bool on_host() const override { return true; }

 private:
  void start(const Args& args, Stream, Edge) const override {
    const cpu::Kernel::Function function = code_.function();
    pool_->run(std::int64_t{core::grid_rows(plan().launch, args)} * plan().launch.blocks_per_row,
               [function, &args](std::int64_t begin, std::int64_t end) { function(&args, begin, end); });
  }

  cpu::Kernel code_;
  std::shared_ptr<WorkerPool> pool_;
};

}  // namespace

std::unique_ptr<Kernel> load_cpu(const core::KernelPlan& plan, int threads) {
  return std::make_unique<CpuKernel>(plan, threads > 0 ? threads : allowed_processors());
}

}  // namespace gdn::runtime
