// The workspace of every released spec's chunk_delta and prefill on every target that has their kernels, beside what a
// launch reads.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/prefill.h"
#include "layout/resolve.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;

namespace {

// Bytes of one token's inputs.
std::int64_t input_bytes(const core::KernelPlan& plan) {
  std::int64_t bytes = 0;
  for (const core::Operand& operand : plan.operands) {
    if (operand.role != core::Role::kInput || operand.leading != core::Leading::kToken) continue;
    bytes += operand.inner * static_cast<std::int64_t>(core::size_of(operand.dtype));
  }
  return bytes;
}

}  // namespace

TEST_CASE("the workspace is at most 1.2 times the input") {
  constexpr int kTokens = 32768;
  std::vector<std::string> files = test::released_specs();
  for (std::string& file : test::yaml_files("specs/more")) files.push_back(std::move(file));
  int checked = 0;
  for (const std::string& file : files) {
    const layout::Layout layout = layout::resolve(test::load_spec(file));
    for (const char* operation : {"chunk_delta", "prefill"}) {
      for (const plan::Target& target : plan::targets()) {
        if (target.family != plan::Family::kCuda) continue;
        const core::KernelPlan plan = plan::make(layout, operation, target).kernel;
        if (core::prefill_set(plan) == core::PrefillSet::kNone) continue;
        for (const int sequences : {1, 4}) {
          const double bytes = static_cast<double>(core::workspace_bytes(plan, kTokens, sequences));
          const double ratio = bytes / static_cast<double>(kTokens * input_bytes(plan));
          INFO(plan.symbol << ", " << sequences << " sequences: " << ratio);
          CHECK(ratio <= 1.2);
          ++checked;
          if (sequences == 1) fmt::print("{:60} {:.3f}\n", plan.symbol, ratio);
        }
      }
    }
  }
  CHECK(checked >= 15 * 2 * 3 * 2);
}
