#include "check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "core/prefill.h"
#include "error.h"

namespace gdn::runtime {
namespace {

using core::Access;
using core::KernelPlan;
using core::Leading;
using core::Operand;

[[noreturn]] void fail(Code code, const KernelPlan& plan, const std::string& text) {
  throw Error(code, plan.symbol + ": " + text);
}

[[noreturn]] void fail(Code code, const KernelPlan& plan, const Operand& operand, const std::string& text) {
  throw Error(code, fmt::format("{}: operand {}: {}", plan.symbol, operand.name, text));
}

std::string list(const std::vector<std::int64_t>& values) { return fmt::format("[{}]", fmt::join(values, ", ")); }

bool has_leading(const Operand& operand) { return operand.leading != Leading::kNone; }

// What a launch is over.
struct Extents {
  int rows, sequences, slots, snapshots;
};

// Sequences of a launch: of one token each, unless an operand says where each begins.
int sequences_of(const KernelPlan& plan, int rows, const Views& views) {
  if (plan.facts.offsets_operand < 0) return rows;
  const View& offsets = views[static_cast<std::size_t>(plan.facts.offsets_operand)];
  constexpr std::int64_t kMost = std::numeric_limits<int>::max();
  return offsets.sizes.empty() ? 0 : static_cast<int>(std::clamp<std::int64_t>(offsets.sizes[0] - 1, 0, kMost));
}

// Snapshots that a launch takes; none where the rows are not given.
int snapshots_of(const KernelPlan& plan, const Views& views) {
  const int rows = plan.facts.snapshot_rows_operand;
  if (rows < 0 || views.size() <= static_cast<std::size_t>(rows)) return 0;
  const View& view = views[static_cast<std::size_t>(rows)];
  constexpr std::int64_t kMost = std::numeric_limits<int>::max();
  if (view.data == nullptr || view.sizes.empty()) return 0;
  return static_cast<int>(std::clamp<std::int64_t>(view.sizes[0], 0, kMost));
}

// Rows, sequences, slots or snapshots that the launch may touch.
std::int64_t extent(const Operand& operand, const Extents& extents) {
  switch (operand.leading) {
    case Leading::kToken:
      return extents.rows;
    case Leading::kSequence:
      return extents.sequences + (operand.role == core::Role::kOffsets ? 1 : 0);
    case Leading::kSlot:
      return extents.slots;
    case Leading::kScaleGroup:
      return operand.inner;
    case Leading::kSnapshot:
      return extents.snapshots;
    case Leading::kNone:
      return 1;
  }
  return 1;
}

// Elements below the leading dimension that the launch may touch.
std::int64_t run_of(const Operand& operand, const Extents& extents) {
  return operand.leading == Leading::kScaleGroup ? extents.rows : operand.inner;
}

// Elements from one row or slot to the next. The stride of a dimension of one element means nothing (frameworks write
// anything there), so it is not used.
std::int64_t leading_stride(const Operand& operand, const View& view) {
  if (!has_leading(operand)) return 0;
  return view.sizes[0] == 1 ? operand.inner : view.strides[0];
}

// Scales group by group: the buffer may hold more tokens than the launch has, and the groups lie that far apart or
// more.
void check_scales(const KernelPlan& plan, const Operand& operand, const View& view, const Extents& extents) {
  if (view.sizes.size() != 2) {
    fail(Code::kSizeMismatch, plan, operand,
         fmt::format("scales that lie group by group are a matrix of {} groups and the tokens: sizes {}", operand.inner,
                     list(view.sizes)));
  }
  if (view.sizes[0] != operand.inner) {
    fail(Code::kSizeMismatch, plan, operand,
         fmt::format("the kernel was made for {} groups and the view has another number: sizes {}", operand.inner,
                     list(view.sizes)));
  }
  if (view.sizes[1] < extents.rows) {
    fail(Code::kSizeMismatch, plan, operand,
         fmt::format("the launch has {} rows and the view only {}: sizes {}", extents.rows, view.sizes[1],
                     list(view.sizes)));
  }
  const bool dense = view.sizes[1] == 1 || view.strides[1] == 1;
  const bool apart = view.sizes[0] == 1 || view.strides[0] >= view.sizes[1];
  if (!dense || !apart) {
    fail(Code::kStrideMismatch, plan, operand,
         fmt::format("the tokens of a group must lie side by side and the groups apart: sizes {}, strides {}",
                     list(view.sizes), list(view.strides)));
  }
}

// What frameworks hold a conv's weight as: (channels, taps), or with a middle dimension of one group; the same the
// other way round.
void check_conv_weight(const KernelPlan& plan, const Operand& operand, const View& view) {
  const std::int64_t taps = plan.facts.conv_width;
  const std::vector<std::int64_t>& sizes = view.sizes;
  const bool matrix = sizes.size() == 2 || (sizes.size() == 3 && sizes[1] == 1);
  const bool innermost = plan.facts.weight_q.tap_stride == 1;
  if (matrix && (innermost ? sizes.back() : sizes.front()) == taps) return;
  fail(Code::kSizeMismatch, plan, operand,
       innermost ? fmt::format("a conv weight is (channels, {0}) or (channels, 1, {0}): sizes {1}", taps, list(sizes))
                 : fmt::format("a conv weight in this order is ({0}, channels) or ({0}, 1, channels): sizes {1}", taps,
                               list(sizes)));
}

void check_shape(const KernelPlan& plan, const Operand& operand, const View& view, const Extents& extents) {
  if (view.sizes.size() != view.strides.size()) {
    fail(Code::kBadArgument, plan, operand,
         fmt::format("the view has {} sizes and {} strides: give one stride for each dimension", view.sizes.size(),
                     view.strides.size()));
  }
  if (operand.leading == Leading::kScaleGroup) {
    check_scales(plan, operand, view, extents);
    return;
  }
  const std::size_t first = has_leading(operand) ? 1 : 0;
  if (view.sizes.size() < first) {
    fail(Code::kSizeMismatch, plan, operand,
         "the view has no dimension: the first one must be rows, sequences or slots");
  }
  for (const std::int64_t size : view.sizes) {
    if (size < 1) fail(Code::kSizeMismatch, plan, operand, "a size below 1 in " + list(view.sizes));
  }
  if (operand.leading == Leading::kToken && view.sizes[0] < extents.rows) {
    fail(Code::kSizeMismatch, plan, operand,
         fmt::format("the launch has {} rows and the view only {}: sizes {}", extents.rows, view.sizes[0],
                     list(view.sizes)));
  }
  if (operand.leading == Leading::kSequence && view.sizes[0] < extent(operand, extents)) {
    fail(Code::kSizeMismatch, plan, operand,
         fmt::format("the launch has {} sequences, and the view has only {}: sizes {}", extents.sequences,
                     view.sizes[0], list(view.sizes)));
  }
  if (operand.leading == Leading::kSnapshot && view.sizes[0] != extents.snapshots) {
    fail(Code::kSizeMismatch, plan, operand,
         fmt::format("snapshot_rows names {} snapshots and the view has another number: sizes {}", extents.snapshots,
                     list(view.sizes)));
  }
  if (operand.leading == Leading::kSlot && view.sizes[0] != extents.slots) {
    fail(Code::kSizeMismatch, plan, operand,
         fmt::format("the launch was told of {} slots and the view has {}: sizes {}", extents.slots, view.sizes[0],
                     list(view.sizes)));
  }
  if (plan.operation == "conv_pack" && operand.access == core::Access::kRead) check_conv_weight(plan, operand, view);
  std::int64_t dense = 1;
  for (std::size_t i = view.sizes.size(); i-- > first;) {
    if (view.sizes[i] > operand.inner) dense = operand.inner + 1;  // and no overflow
    if (dense <= operand.inner) dense *= view.sizes[i];
  }
  if (dense != operand.inner) {
    fail(Code::kSizeMismatch, plan, operand,
         fmt::format("the kernel was made for {} elements {} and the view has another number: sizes {}", operand.inner,
                     has_leading(operand) ? "a row, sequence or slot" : "in all", list(view.sizes)));
  }
  dense = 1;
  for (std::size_t i = view.sizes.size(); i-- > first;) {
    if (view.sizes[i] != 1 && view.strides[i] != dense) {
      fail(Code::kStrideMismatch, plan, operand,
           fmt::format("the inner dimensions must be dense, slowest first: sizes {}, strides {}; dimension {} should "
                       "have stride {}. Make the tensor contiguous, or write its true order in the spec",
                       list(view.sizes), list(view.strides), i, dense));
    }
    dense *= view.sizes[i];
  }
  if (!has_leading(operand)) return;
  const std::int64_t stride = leading_stride(operand, view);
  if (operand.launch_stride ? stride < operand.inner : stride != operand.inner) {
    fail(Code::kStrideMismatch, plan, operand,
         operand.launch_stride
             ? fmt::format("a leading stride of {} elements is less than a row of {}: rows would overlap", stride,
                           operand.inner)
             : fmt::format("a leading stride of {} elements; the kernel was made for exactly {}. Make the tensor "
                           "contiguous, or mark the dimension `@launch` in the spec",
                           stride, operand.inner));
  }
  // The kernel multiplies in 64 bits; the farthest byte must be addressable all the same.
  const std::int64_t bytes = static_cast<std::int64_t>(core::size_of(operand.dtype));
  if (stride > std::numeric_limits<std::int64_t>::max() / bytes / view.sizes[0]) {
    fail(Code::kStrideMismatch, plan, operand,
         fmt::format("a leading stride of {} elements over {} rows is beyond any address", stride, view.sizes[0]));
  }
}

// As many bytes as the launch needs, or more.
void check_workspace(const KernelPlan& plan, const Operand& operand, const View& view, const Extents& extents) {
  const std::int64_t needed = core::workspace_bytes(plan, extents.rows, extents.sequences, extents.snapshots);
  if (view.sizes.size() != 1 || view.strides.size() != 1 || view.strides[0] != 1) {
    fail(Code::kSizeMismatch, plan, operand,
         fmt::format("a workspace is one run of bytes: sizes {}, strides {}", list(view.sizes), list(view.strides)));
  }
  if (view.sizes[0] < needed) {
    fail(Code::kSizeMismatch, plan, operand,
         fmt::format("{} bytes; a launch of {} rows in {} sequences{} needs {}: ask workspace_bytes{}", view.sizes[0],
                     extents.rows, extents.sequences,
                     extents.snapshots > 0 ? fmt::format(" with {} snapshots", extents.snapshots) : "", needed,
                     operand.optional ? ", or leave it out for the slower kernel" : ""));
  }
}

void check_alignment(const KernelPlan& plan, const Operand& operand, const View& view) {
  const std::int64_t align = std::max<std::int64_t>(operand.align, 1);
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  if (address % static_cast<std::uintptr_t>(align) != 0) {
    fail(Code::kAlignment, plan, operand, fmt::format("address {:#x} is not a multiple of {} bytes", address, align));
  }
  const std::int64_t step = leading_stride(operand, view) * static_cast<std::int64_t>(core::size_of(operand.dtype));
  if (step % align != 0) {
    fail(Code::kAlignment, plan, operand,
         fmt::format("a leading stride of {} bytes is not a multiple of {}: pad the rows", step, align));
  }
}

// The bytes that a launch may touch: `count` runs of `run` bytes, `step` apart.
struct Span {
  std::uintptr_t base;
  std::int64_t run;
  std::int64_t step;
  std::int64_t count;
  std::uintptr_t end() const { return base + static_cast<std::uintptr_t>((count - 1) * step + run); }
};

Span span(const Operand& operand, const View& view, const Extents& extents) {
  const std::int64_t bytes = static_cast<std::int64_t>(core::size_of(operand.dtype));
  const std::int64_t run = operand.role == core::Role::kWorkspace ? view.sizes[0] : run_of(operand, extents) * bytes;
  return {reinterpret_cast<std::uintptr_t>(view.data), run, leading_stride(operand, view) * bytes,
          extent(operand, extents)};
}

// Engines cut several operands out of one buffer (parts of a packed row, both states of a slot): their ranges
// interleave and still share no byte when the steps agree and the runs lie apart within a step. With different steps
// there is no such proof, and the answer is yes.
bool overlap(const Span& a, const Span& b) {
  if (a.end() <= b.base || b.end() <= a.base) return false;
  if (a.step != b.step || a.count == 1 || b.count == 1) return true;
  const std::int64_t step = a.step;
  std::int64_t ahead = static_cast<std::int64_t>(b.base - a.base) % step;
  if (ahead < 0) ahead += step;
  return ahead < a.run || ahead + b.run > step;
}

void check_overlaps(const KernelPlan& plan, const Extents& extents, const Views& views) {
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (plan.operands[i].access == Access::kRead || views[i].data == nullptr) continue;
    const Span written = span(plan.operands[i], views[i], extents);
    for (std::size_t j = 0; j < views.size(); ++j) {
      if (j == i || views[j].data == nullptr) continue;
      if (j < i && plan.operands[j].access != Access::kRead) continue;  // that pair was looked at from the other side
      if (!overlap(written, span(plan.operands[j], views[j], extents))) continue;
      fail(Code::kOverlap, plan,
           fmt::format("operand {} is written and shares memory with operand {}: give each its own memory",
                       plan.operands[i].name, plan.operands[j].name));
    }
  }
}

template <class Index>
void check_slot_values(const KernelPlan& plan, int rows, int slots, const Index* values) {
  std::vector<std::pair<Index, int>> used;
  used.reserve(static_cast<std::size_t>(rows));
  for (int row = 0; row < rows; ++row) {
    const Index slot = values[row];
    if (plan.facts.padding == core::Padding::kNegative && slot < 0) continue;
    if (plan.facts.padding == core::Padding::kZeroOrNegative && slot <= 0) continue;
    if (slot < 0 || slot >= slots) {
      const char* rule = plan.facts.padding == core::Padding::kNone       ? "the spec knows no padding rows"
                         : plan.facts.padding == core::Padding::kNegative ? "only a negative index is a padding row"
                                                                          : "an index of 0 or below is a padding row";
      fail(Code::kSlotOutOfRange, plan,
           fmt::format("row {} has slot {}, and the pools have slots 0 to {}; {}", row, slot, slots - 1, rule));
    }
    used.emplace_back(slot, row);
  }
  std::sort(used.begin(), used.end());
  const auto twice =
      std::adjacent_find(used.begin(), used.end(), [](const auto& a, const auto& b) { return a.first == b.first; });
  if (twice == used.end()) return;
  fail(Code::kSlotRepeated, plan,
       fmt::format("rows {} and {} both have slot {}: within one launch each row needs a slot of its own",
                   twice->second, (twice + 1)->second, twice->first));
}

// Rows of the buffers of the layer's output, which are to be zeroed where no token has them: as many in each.
int output_rows(const KernelPlan& plan, const Views& views) {
  std::int64_t rows = -1;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const Operand& operand = plan.operands[i];
    const bool output = operand.role == core::Role::kOutput || operand.role == core::Role::kScale;
    if (!output || operand.access == Access::kRead || views[i].data == nullptr) continue;
    const std::int64_t mine = views[i].sizes[operand.leading == Leading::kScaleGroup ? 1 : 0];
    if (rows >= 0 && mine != rows) {
      fail(Code::kSizeMismatch, plan, operand,
           fmt::format("{} rows, and another output of the launch has {}: rows beyond the batch are zeroed "
                       "(slots.excess_output), so both have as many",
                       mine, rows));
    }
    rows = mine;
  }
  constexpr std::int64_t kMost = std::numeric_limits<int>::max();
  if (rows > kMost) fail(Code::kSizeMismatch, plan, fmt::format("an output of {} rows: {} at most", rows, kMost));
  return static_cast<int>(rows);
}

// What a view's owner says of it.
void check_statement(const KernelPlan& plan, const Operand& operand, const View& view) {
  if (view.dtype != operand.dtype) {
    fail(Code::kDtypeMismatch, plan, operand,
         fmt::format("the kernel was made for {} and the view is {}", core::to_string(operand.dtype),
                     core::to_string(view.dtype)));
  }
  // A workspace is the launch's own: what lies in it means nothing to anyone before or behind it.
  if (operand.role == core::Role::kWorkspace && view.layout.text.empty()) return;
  // Both: the number is what a launch compares; equal numbers with unlike texts would be a collision.
  if (view.layout.id != operand.layout.id || view.layout.text != operand.layout.text) {
    fail(Code::kLayoutMismatch, plan, operand,
         fmt::format("the kernel was made for another layout than the one the operand has\n"
                     "  kernel:  {} ({})\n  operand: {} ({})\n"
                     "Nothing was launched. Use the kernel of the spec that describes this model's layout, or state "
                     "the operand's true layout",
                     operand.layout.text, core::id_text(operand.layout.id),
                     view.layout.text.empty() ? "not stated" : view.layout.text, core::id_text(view.layout.id)));
  }
}

// The views of a warm-up call: some, in the operands' order.
void check_stated(const KernelPlan& plan, const Views& views) {
  if (views.size() > plan.operands.size()) {
    fail(Code::kBadArgument, plan,
         fmt::format("{} views given, and the kernel has {} operands", views.size(), plan.operands.size()));
  }
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (views[i].data != nullptr || !views[i].layout.text.empty()) check_statement(plan, plan.operands[i], views[i]);
  }
}

bool uses_slots(const KernelPlan& plan) {
  return std::any_of(plan.operands.begin(), plan.operands.end(), [](const Operand& operand) {
    return operand.leading == Leading::kSlot || operand.role == core::Role::kSlots;
  });
}

}  // namespace

void check(const KernelPlan& plan, int rows, int slots, const Views& views) {
  if (rows == 0) {
    check_stated(plan, views);
    return;
  }
  if (rows < 1) fail(Code::kBadArgument, plan, fmt::format("a launch of {} rows: there must be at least 1", rows));
  if (slots < 1 && uses_slots(plan)) {
    fail(Code::kBadArgument, plan, fmt::format("pools of {} slots: there must be at least 1", slots));
  }
  // The workspace stands last; one that may be left out may be so view and all.
  const bool omissible = core::workspace_operand(plan) >= 0 && plan.operands.back().optional;
  const std::size_t least = plan.operands.size() - (omissible ? 1 : 0);
  if (views.size() < least || views.size() > plan.operands.size() ||
      views.size() > static_cast<std::size_t>(kMaxOperands)) {
    std::vector<std::string> names;
    for (const Operand& operand : plan.operands) names.push_back(operand.name);
    fail(Code::kBadArgument, plan,
         fmt::format("{} views given, {} wanted, in this order: {}", views.size(), names.size(),
                     fmt::join(names, ", ")));
  }
  const Extents extents{rows, sequences_of(plan, rows, views), slots, snapshots_of(plan, views)};
  if (extents.sequences < 1) {
    const Operand& offsets = plan.operands[static_cast<std::size_t>(plan.facts.offsets_operand)];
    fail(Code::kSizeMismatch, plan, offsets,
         "a launch has at least one sequence: the view needs one number for each, and one more");
  }
  for (std::size_t i = 0; i < views.size(); ++i) {
    const Operand& operand = plan.operands[i];
    const View& view = views[i];
    if (view.data == nullptr) {
      if (operand.optional) continue;
      fail(Code::kBadArgument, plan, operand, "the pointer is null, and the kernel can't do without this operand");
    }
    check_statement(plan, operand, view);
    if (operand.role == core::Role::kWorkspace) {
      check_workspace(plan, operand, view, extents);
    } else {
      check_shape(plan, operand, view, extents);
    }
    check_alignment(plan, operand, view);
  }
  if (plan.facts.excess_output == core::PaddedOutput::kZero) output_rows(plan, views);
  check_overlaps(plan, extents, views);
}

Args make_args(const KernelPlan& plan, int rows, int slots, const Views& views) {
  Args args = {};
  for (std::size_t i = 0; i < views.size(); ++i) {
    args.operand[i] = views[i].data;
    args.stride[i] = views[i].data == nullptr ? 0 : leading_stride(plan.operands[i], views[i]);
  }
  if (const int snapshots = plan.facts.snapshot_rows_operand; snapshots >= 0) {
    args.stride[snapshots] = snapshots_of(plan, views);
  }
  if (const int workspace = core::workspace_operand(plan); core::held_bytes(plan, rows) > 0) {
    args.operand[workspace + 1] = args.operand[workspace];
    args.stride[workspace + 1] = plan.facts.value_heads * plan.facts.value_dim;
  }
  args.rows = rows;
  args.sequences = sequences_of(plan, rows, views);
  args.slots = slots;
  if (plan.facts.excess_output == core::PaddedOutput::kZero) args.out_rows = output_rows(plan, views);
  return args;
}

void check_slots(const KernelPlan& plan, int rows, int slots, const void* values) {
  if (plan.facts.slots_operand < 0) return;
  if (values == nullptr && plan.operands[static_cast<std::size_t>(plan.facts.slots_operand)].optional) return;
  if (values == nullptr) fail(Code::kBadArgument, plan, "the slot indices are null");
  if (plan.facts.slot_dtype == core::DType::kInt64) {
    check_slot_values(plan, rows, slots, static_cast<const std::int64_t*>(values));
  } else {
    check_slot_values(plan, rows, slots, static_cast<const std::int32_t*>(values));
  }
}

int slot_rows(const KernelPlan& plan, const Args& args) {
  if (plan.facts.slots_operand < 0) return 0;
  const Operand& slots = plan.operands[static_cast<std::size_t>(plan.facts.slots_operand)];
  return slots.leading == Leading::kSequence ? args.sequences : args.rows;
}

void check_devices(const KernelPlan& plan, const Views& views, DeviceKind device, int ordinal) {
  for (std::size_t i = 0; i < views.size(); ++i) {
    const View& view = views[i];
    if (view.device == DeviceKind::kUnstated || view.data == nullptr) continue;
    if (view.device == device && (device == DeviceKind::kCpu || view.ordinal == ordinal)) continue;
    fail(Code::kWrongDevice, plan, plan.operands[i],
         fmt::format("the view is memory of {} and the kernel runs on {}: move the tensor, or open the kernel there",
                     device_text(view.device, view.ordinal), device_text(device, ordinal)));
  }
}

std::string device_text(DeviceKind device, int ordinal) {
  switch (device) {
    case DeviceKind::kCpu:
      return "the CPU";
    case DeviceKind::kCuda:
      return fmt::format("CUDA device {}", ordinal);
    case DeviceKind::kHip:
      return fmt::format("HIP device {}", ordinal);
    case DeviceKind::kUnstated:
      break;
  }
  return "an unstated device";
}

}  // namespace gdn::runtime
