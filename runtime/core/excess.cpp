#include "core/excess.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace gdn::core {
namespace {

// One more than the last row that a token of the launch has.
std::int64_t end_of_tokens(const KernelPlan& plan, const Args& args) {
  const int offsets = plan.facts.offsets_operand;
  if (offsets < 0) return args.rows;
  return index_at(plan.facts.offset_dtype, args.operand[offsets], args.sequences);
}

}  // namespace

void zero_excess(const KernelPlan& plan, const Args& args) {
  const std::int64_t end = end_of_tokens(plan, args);
  if (end >= args.out_rows) return;
  for (std::size_t i = 0; i < plan.operands.size(); ++i) {
    const Operand& operand = plan.operands[i];
    const bool output = operand.role == Role::kOutput || operand.role == Role::kScale;
    if (!output || operand.access == Access::kRead) continue;
    const std::size_t element = size_of(operand.dtype);
    auto* const base = static_cast<std::byte*>(args.operand[i]);
    const auto zero = [&](std::int64_t first, std::int64_t count) {
      std::memset(base + static_cast<std::size_t>(first) * element, 0, static_cast<std::size_t>(count) * element);
    };
    if (operand.leading == Leading::kScaleGroup) {
      for (std::int64_t group = 0; group < operand.inner; ++group) {
        zero(group * args.stride[i] + end, args.out_rows - end);
      }
    } else {
      for (std::int64_t row = end; row < args.out_rows; ++row) zero(row * args.stride[i], operand.inner);
    }
  }
}

}  // namespace gdn::core
