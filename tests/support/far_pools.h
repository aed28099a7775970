// Pools larger than any index of 32 bits: slots so far apart that most lie beyond 2^31 elements, and some beyond 2^32.
// The memory is reserved and never had: only the pages of slots that are used are there.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "layout/resolve.h"
#include "oracle/compare.h"
#include "oracle/problem.h"
#include "oracle/reference.h"
#include "plan/operation.h"
#include "support/catch.h"
#include "support/specs.h"
#include "verify/executor.h"

namespace gdn::test {

constexpr std::int64_t kFar = (std::int64_t{1} << 29) + 64;  // elements between two slots: slot 4 is beyond 2^31

class Reserved {
 public:
  explicit Reserved(std::size_t bytes) : bytes_(bytes) {
    memory_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw std::runtime_error("no address space for a pool that is never filled");
  }
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;
  ~Reserved() { ::munmap(memory_, bytes_); }
  std::byte* data() const { return static_cast<std::byte*>(memory_); }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

// Runs a problem with each of its pools whose slot stride is given at launch spread over such memory, and brings the
// slots back. Returns how many pools.
inline int run_far(verify::Loaded& kernel, const core::KernelPlan& plan, oracle::Problem& problem,
                   const layout::Layout& layout) {
  std::vector<runtime::View> views = verify::views_of(problem, layout);
  std::vector<std::unique_ptr<Reserved>> memory(views.size());
  int pools = 0;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const oracle::Buffer& pool = problem.buffers()[i];
    if (pool.leading != oracle::Leading::kSlot || !plan.operands[i].launch_stride) continue;
    ++pools;
    const std::size_t element = core::size_of(pool.dtype);
    memory[i] = std::make_unique<Reserved>(static_cast<std::size_t>(pool.rows * kFar) * element);
    for (std::int64_t slot = 0; slot < pool.rows; ++slot) {
      std::memcpy(memory[i]->data() + static_cast<std::size_t>(slot * kFar) * element, pool.row(slot),
                  static_cast<std::size_t>(pool.inner) * element);
    }
    views[i].data = memory[i]->data();
    views[i].strides[0] = kFar;
  }
  kernel.run(problem, views);
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (memory[i] == nullptr) continue;
    oracle::Buffer& pool = problem.buffers()[i];
    const std::size_t element = core::size_of(pool.dtype);
    for (std::int64_t slot = 0; slot < pool.rows; ++slot) {
      std::memcpy(pool.row(slot), memory[i]->data() + static_cast<std::size_t>(slot * kFar) * element,
                  static_cast<std::size_t>(pool.inner) * element);
    }
  }
  return pools;
}

// The farthest element of a pool that a launch of the problem names.
inline std::int64_t farthest(const oracle::Problem& problem) {
  std::int64_t slot = -1;
  for (const oracle::TokenRun& sequence : problem.sequences()) {
    if (!sequence.padding) slot = std::max(slot, static_cast<std::int64_t>(sequence.slot));
  }
  for (int row = 0; row < problem.rows() && problem.sequences().empty(); ++row) {
    if (!problem.padding(row)) slot = std::max(slot, problem.row_slot(row));
  }
  return slot * kFar;
}

// Holds every operation of a fuzz spec that follows a slot against the oracle, its pools spread over such memory.
// Returns how many there were.
inline int check_far(verify::Executor& executor, const spec::Spec& spec, std::int64_t extra_stride) {
  int kernels = 0;
  const layout::Layout layout = layout::resolve(spec);
  for (const std::string_view operation : plan::operations_on(layout, executor.target())) {
    const plan::Planned planned = plan::make(layout, operation, executor.target());
    if (planned.kernel.facts.slots_operand < 0) continue;
    oracle::Options options;
    options.rows = 6;
    options.slots = 6 * (planned.kernel.facts.tokens + 1) + 4;
    options.extra_stride = extra_stride;
    oracle::Problem problem = oracle::make_problem(spec, operation, options);
    const oracle::Expectation expectation = oracle::expect(problem);
    const auto kernel = executor.load(planned);
    INFO(*spec.name << " " << operation);
    CHECK(run_far(*kernel, planned.kernel, problem, layout) > 0);
    CHECK(farthest(problem) > std::int64_t{1} << 32);
    const auto deviations = oracle::compare(expectation, problem);
    INFO(oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));
    ++kernels;
  }
  return kernels;
}

}  // namespace gdn::test
