// Where a planned kernel can be run for a problem of the oracle: the CPU, the host shim, a CUDA GPU.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "compile/compiler.h"
#include "device/device.h"
#include "layout/layout.h"
#include "oracle/problem.h"
#include "plan/plan.h"
#include "view.h"

namespace gdn::verify {

// A kernel that is compiled and loaded.
class Loaded {
 public:
  virtual ~Loaded() = default;

  // Runs once over the problem's buffers, where its results stand afterwards. `views` state each operand's layout, as
  // views_of() makes them. Throws runtime::Error.
  void run(oracle::Problem& problem, const std::vector<runtime::View>& views) {
    run_on(core::Edge::kPlain, problem, views);
  }
  // The same launch on such an edge; nothing is ahead of it, so that pools are promised to be ready.
  virtual void run_on(core::Edge edge, oracle::Problem& problem, const std::vector<runtime::View>& views) = 0;

  // The same without comparing the views with the plan: for the tests that show what the comparison protects from.
  virtual void run_unchecked(oracle::Problem& problem, const std::vector<runtime::View>& views) = 0;

  virtual double compile_seconds() const = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;

  // The target whose emitted source it runs.
  virtual const plan::Target& target() const = 0;
  // For people: "NVIDIA H200, NVRTC 13.0", "AVX512-BF16, 2 threads", "host shim, warp 32".
  virtual std::string where() const = 0;
  virtual std::unique_ptr<Loaded> load(const plan::Planned& planned) = 0;
};

// `place` is cpu, simt or cuda. simt runs the source of `target` (a CUDA or HIP target; null:
// sm_90a), cpu a CPU target (null: the best one that runs here). Throws
// runtime::Error with code kMissingLibrary, kUnsupported or kDeviceError when that cannot be had here.
std::unique_ptr<Executor> open_executor(std::string_view place, const plan::Target* target = nullptr);

// A kernel that somebody has compiled for the device already.
std::unique_ptr<Loaded> load_compiled(const runtime::Device& device, const plan::Planned& planned,
                                      const runtime::Binary& binary);

// The problem's buffers as views; the layouts are those that `owner` (the layout of whoever made the buffers) states.
std::vector<runtime::View> views_of(oracle::Problem& problem, const layout::Layout& owner);

// The workspace of a launch of `rows` tokens, where the plan takes one: memory of the device, behind the other views,
// which hold the offsets of the sequences. Filled with NaN, for what lies there before a launch means nothing; with
// zeros where it holds counters (core/arrivals.h). An empty buffer, and no view, where the plan takes none.
runtime::Buffer add_workspace(const runtime::Device& device, const core::KernelPlan& plan, int rows,
                              std::vector<runtime::View>& views);

// The same in memory of the host, which must live as long as the views.
std::vector<std::byte> add_workspace(const core::KernelPlan& plan, int rows, std::vector<runtime::View>& views);

}  // namespace gdn::verify
