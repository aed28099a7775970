// What the tests of this folder share: specs from disk, plans for the CPU target, problems run by a kernel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/excess.h"
#include "cpu/kernel.h"
#include "cpu/support.h"
#include "layout/resolve.h"
#include "oracle/compare.h"
#include "oracle/problem.h"
#include "oracle/reference.h"
#include "plan/operation.h"
#include "plan/plan.h"
#include "spec/parser.h"

namespace gdn::test {

constexpr const char* kCpuTarget = "avx512bf16";

// Whether native kernels can run; prints why not.
inline bool runs_here() {
  if (cpu::cpu_supports(kCpuTarget)) return true;
  std::puts("[SKIP] this CPU has no AVX512-BF16");
  return false;
}

inline core::KernelPlan plan_of(const spec::Spec& spec, std::string_view operation,
                                std::string_view target = kCpuTarget) {
  return plan::make(layout::resolve(spec), operation, *plan::find_target(target)).kernel;
}

// Every spec of the project, released models and fuzz geometries, that the target can hold; prints why not.
inline std::vector<std::string> held_specs() {
  std::vector<std::string> files;
  for (const char* folder : {"/specs", "/tests/fuzz"}) {
    for (const auto& entry : std::filesystem::directory_iterator(std::string(GDN_SOURCE_DIR) + folder)) {
      if (entry.path().extension() != ".yaml") continue;
      const std::string file = entry.path().string();
      try {
        plan_of(spec::load_or_throw(file), "decode");
        files.push_back(file);
      } catch (const plan::Unplannable& reason) {
        std::printf("[SKIP] %s: %s\n", file.c_str(), reason.what());
      }
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// The operations of a spec that the CPU target has kernels for.
inline std::vector<std::string_view> operations_of(const spec::Spec& spec) {
  return plan::operations_on(layout::resolve(spec), *plan::find_target(kCpuTarget));
}

// The operations of a spec on each target that runs natively wherever these tests do.
inline std::vector<std::pair<const char*, std::string_view>> kernels_of(const spec::Spec& spec) {
  std::vector<std::pair<const char*, std::string_view>> kernels;
  for (const char* const target : {kCpuTarget, "avx2"}) {
    for (const std::string_view operation : plan::operations_on(layout::resolve(spec), *plan::find_target(target))) {
      kernels.emplace_back(target, operation);
    }
  }
  return kernels;
}

// The argument block of a problem. Operands of plan and problem stand in the same order; throws where they don't.
inline Args args_of(oracle::Problem& problem, const core::KernelPlan& plan) {
  if (problem.buffers().size() != plan.operands.size()) throw std::logic_error("plan and oracle differ in operands");
  Args args{};
  for (std::size_t i = 0; i < plan.operands.size(); ++i) {
    oracle::Buffer& buffer = problem.buffers()[i];
    if (buffer.name != plan.operands[i].name) {
      throw std::logic_error("operand " + plan.operands[i].name + " is the oracle's " + buffer.name);
    }
    args.operand[i] = buffer.data();
    // Of snapshots it is their number, as make_args() has it.
    args.stride[i] = plan.operands[i].leading == core::Leading::kSnapshot ? buffer.rows : buffer.stride;
  }
  args.rows = problem.rows();
  args.sequences = problem.sequences().empty() ? problem.rows() : static_cast<int>(problem.sequences().size());
  args.slots = problem.slots();
  return args;
}

inline std::int64_t items_of(const Args& args, const core::KernelPlan& plan) {
  return static_cast<std::int64_t>(core::grid_rows(plan.launch, args)) * plan.launch.blocks_per_row;
}

// Items [begin, end), with scratch memory that holds NaN in every place.
inline void call(const cpu::Kernel& kernel, const Args& args, std::int64_t begin, std::int64_t end) {
  const auto bytes = static_cast<std::size_t>(kernel.scratch_bytes());
  std::vector<std::byte> memory(bytes == 0 ? 0 : bytes + 64, std::byte{0xff});
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  kernel.function()(&args, begin, end, bytes == 0 ? nullptr : memory.data() + (64 - address % 64) % 64);
}

// What the runtime does besides: zeros in rows of the output that belong to no token, where the spec wants them.
inline void zero_excess(const core::KernelPlan& plan, Args args, oracle::Problem& problem) {
  if (plan.facts.excess_output != core::PaddedOutput::kZero) return;
  args.out_rows = static_cast<int>(problem.buffer("out").rows);
  core::zero_excess(plan, args);
}

// One launch, judged.
inline std::vector<oracle::Deviation> judge(const cpu::Kernel& kernel, const core::KernelPlan& plan,
                                            oracle::Problem& problem) {
  const oracle::Expectation expectation = oracle::expect(problem);
  const Args args = args_of(problem, plan);
  call(kernel, args, 0, items_of(args, plan));
  zero_excess(plan, args, problem);
  return oracle::compare(expectation, problem);
}

}  // namespace gdn::test
