#include "plan/operation.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace gdn::plan {
namespace {

using core::Access;
using core::Leading;

bool holds_any(const layout::TensorLayout& tensor, std::string_view parts) {
  return std::any_of(tensor.parts.begin(), tensor.parts.end(), [&](const layout::PartLayout& part) {
    return part.name.size() == 1 && parts.find(part.name) != std::string_view::npos;
  });
}

constexpr std::string_view kPackedWeight = "conv_weight_packed";

bool packs(const layout::Layout& layout) {
  return std::any_of(layout.parameters.begin(), layout.parameters.end(),
                     [](const layout::TensorLayout& tensor) { return tensor.name == kPackedWeight; });
}

bool starts_with(const std::string& text, std::string_view prefix) { return text.rfind(prefix, 0) == 0; }

// Collects the operands of one operation in their order.
class Collector {
 public:
  explicit Collector(const layout::Layout& layout) : layout_(layout) {}

  // Projection rows that hold one of the named parts; z counts only where the layer has a norm to read it.
  Collector& inputs(std::string_view parts) {
    std::string read(parts);
    if (!has_norm(layout_)) read.erase(std::remove(read.begin(), read.end(), 'z'), read.end());
    for (const layout::TensorLayout& tensor : layout_.inputs) {
      if (holds_any(tensor, read)) add(tensor, Access::kRead, tensor.domain);
    }
    return *this;
  }
  // The weights as conv_pack leaves them, where the spec has them.
  Collector& conv_parameters() {
    conv_weights(packs(layout_), Access::kRead);
    for (const layout::TensorLayout& tensor : layout_.parameters) {
      if (starts_with(tensor.name, "conv_bias")) add(tensor, Access::kRead, tensor.domain);
    }
    return *this;
  }
  Collector& conv_weights(bool packed, Access access) {
    for (const layout::TensorLayout& tensor : layout_.parameters) {
      if (starts_with(tensor.name, "conv_weight") && (tensor.name == kPackedWeight) == packed) {
        add(tensor, access, tensor.domain);
      }
    }
    return *this;
  }
  Collector& gate_parameters() {
    if (layout_.numbers.a_stored != core::AStored::kAbsent) parameter("a_log");
    return parameter("dt_bias");
  }
  Collector& parameter(std::string_view name) { return add_named(name, Access::kRead); }
  Collector& conv_states() {
    for (const layout::TensorLayout& tensor : layout_.pools) {
      if (starts_with(tensor.name, "conv_state")) add(tensor, Access::kReadWrite, tensor.domain);
    }
    return *this;
  }
  Collector& state(Access access = Access::kReadWrite) {
    add_named("state", access);
    for (const layout::TensorLayout& tensor : layout_.pools) {
      if (tensor.name == "state_scale") add(tensor, access, tensor.domain);
    }
    return *this;
  }
  // Of a step that stores a state by chance.
  Collector& seed() {
    if (!layout_.numbers.stochastic_state) return *this;
    return indices(Indices::kSeed, core::DType::kInt64, Leading::kNone);
  }
  // What a scheme of speculative decoding keeps beside state and window.
  Collector& drafts(Access access) {
    for (const layout::TensorLayout& tensor : layout_.pools) {
      if (tensor.role == core::Role::kRecord) add(tensor, access, tensor.domain);
    }
    return *this;
  }
  Collector& slots(Leading leading = Leading::kToken, int inner = 1) {
    return indices(Indices::kSlots, layout_.numbers.slot_dtype, leading, inner);
  }
  // A slot for each sequence, or for each of its tokens.
  Collector& draft_slots() {
    const bool each = layout_.numbers.rollback == core::Rollback::kSlots;
    return slots(Leading::kSequence, each ? layout_.numbers.tokens : 1);
  }
  Collector& accepted() { return indices(Indices::kAccepted, layout_.numbers.accepted_dtype, Leading::kSequence); }
  Collector& indices(Indices indices, core::DType dtype, Leading leading, int inner = 1) {
    uses_.push_back({nullptr, Access::kRead, "", indices, leading, inner, dtype, false});
    return *this;
  }
  // The last operand may be left out.
  Collector& optional() {
    uses_.back().optional = true;
    return *this;
  }
  // Where sequences begin, whose slots they have, which start from what lies there, and what is kept on the way.
  Collector& sequences() {
    slots(Leading::kSequence).optional();
    indices(Indices::kOffsets, layout_.prefill_offsets, Leading::kSequence);
    if (layout_.numbers.initial_states == core::InitialStates::kFlagged) {
      indices(Indices::kFlags, layout_.numbers.flag_dtype, Leading::kSequence).optional();
    }
    if (layout_.numbers.snapshots) {
      indices(Indices::kSnapshotRows, layout_.prefill_offsets, Leading::kSnapshot).optional();
      indices(Indices::kSnapshotSlots, layout_.numbers.slot_dtype, Leading::kSnapshot).optional();
    }
    return *this;
  }
  Collector& prefill_windows() {
    for (const layout::TensorLayout& tensor : layout_.pools) {
      if (!starts_with(tensor.name, "conv_state")) continue;
      add(tensor, prefill_access(), tensor.domain);
      optional();
    }
    return *this;
  }
  // Pools that prefill reads where sequences start from them, and writes where their last states are wanted.
  bool prefill_uses_pools() const {
    return prefill_writes() || layout_.numbers.initial_states != core::InitialStates::kNone;
  }
  bool prefill_writes() const { return layout_.numbers.final_states || layout_.numbers.snapshots; }
  Access prefill_access() const { return prefill_writes() ? Access::kReadWrite : Access::kRead; }
  // q, k and v between the parts are either raw projections or already convolved: same storage, other numbers.
  Collector& handover(std::string_view part, Access access, std::string_view conv = "") {
    if (part == "z" && !has_norm(layout_)) return *this;
    const layout::TensorLayout& tensor = layout_.tensor(fmt::format("handover.{}", part));
    add(tensor, access, conv.empty() ? tensor.domain : fmt::format("{}={}", part, conv));
    return *this;
  }
  Collector& norm_parameters() {
    for (const layout::TensorLayout& tensor : layout_.parameters) {
      if (starts_with(tensor.name, "norm_")) add(tensor, Access::kRead, tensor.domain);
    }
    return *this;
  }
  // `out`, and the scales of a quantised one.
  Collector& output() {
    for (const layout::TensorLayout& tensor : layout_.outputs) add(tensor, Access::kWrite, tensor.domain);
    return *this;
  }

  std::vector<Use> take() { return std::move(uses_); }

 private:
  Collector& add_named(std::string_view name, Access access) {
    const layout::TensorLayout& tensor = layout_.tensor(name);
    add(tensor, access, tensor.domain);
    return *this;
  }
  void add(const layout::TensorLayout& tensor, Access access, std::string domain) {
    uses_.push_back(
        {&tensor, access, std::move(domain), Indices::kNone, Leading::kNone, 1, core::DType::kInt32, false});
  }

  const layout::Layout& layout_;
  std::vector<Use> uses_;
};

constexpr std::string_view kRaw = "raw";
constexpr std::string_view kConvolved = "convolved";

}  // namespace

bool has_norm(const layout::Layout& layout) {
  return std::any_of(layout.parameters.begin(), layout.parameters.end(),
                     [](const layout::TensorLayout& tensor) { return tensor.name == "norm_weight"; });
}

const std::vector<std::string_view>& operations() {
  static const std::vector<std::string_view> names = {"decode",       "decode_spec", "state_commit", "unpack",
                                                      "conv_update",  "gating",      "delta_update", "norm_quant",
                                                      "conv_prefill", "chunk_delta", "prefill",      "conv_pack"};
  return names;
}

bool prefills(std::string_view operation) {
  return operation == "conv_prefill" || operation == "chunk_delta" || operation == "prefill";
}

bool drafts(std::string_view operation) { return operation == "decode_spec" || operation == "state_commit"; }

std::string why_not(const layout::Layout& layout, std::string_view operation) {
  if (prefills(operation) && layout.numbers.chunk == 0) {
    return fmt::format("{} says prefill: none; {} needs its keys", layout.spec, operation);
  }
  if (operation == "norm_quant" && !has_norm(layout)) {
    return fmt::format("{} says out_norm: none; norm_quant needs its keys", layout.spec);
  }
  if (operation == "conv_pack" && !packs(layout)) {
    return fmt::format("{} has no parameters.conv_weight_packed, which conv_pack makes", layout.spec);
  }
  if (drafts(operation) && layout.numbers.rollback == core::Rollback::kNone) {
    return fmt::format("{} says speculative: none; {} needs its keys", layout.spec, operation);
  }
  return "";
}

std::vector<std::string_view> operations_of(const layout::Layout& layout) {
  std::vector<std::string_view> names;
  for (const std::string_view name : operations()) {
    if (why_not(layout, name).empty()) names.push_back(name);
  }
  return names;
}

bool is_operation(std::string_view name) {
  return std::find(operations().begin(), operations().end(), name) != operations().end();
}

std::vector<Use> uses(const layout::Layout& layout, std::string_view operation) {
  Collector collect(layout);
  if (operation == "decode") {
    collect.inputs("qkvzba").conv_parameters().gate_parameters().norm_parameters();
    collect.conv_states().state().slots().seed().output();
  } else if (operation == "decode_spec") {
    collect.inputs("qkvzba").conv_parameters().gate_parameters().norm_parameters();
    const bool intermediate = layout.numbers.rollback == core::Rollback::kIntermediate;
    collect.conv_states().state(intermediate ? Access::kRead : Access::kReadWrite);
    collect.drafts(intermediate ? Access::kWrite : Access::kReadWrite);
    collect.draft_slots().indices(Indices::kOffsets, layout.draft_offsets, Leading::kSequence);
    // Intermediate states are committed before the next launch, which then starts from the pool.
    if (!intermediate) collect.accepted().seed();
    collect.output();
  } else if (operation == "state_commit") {
    collect.conv_states().state().drafts(Access::kRead);
    collect.draft_slots().accepted();
    // With slots a finished state moves as it is.
    if (layout.numbers.rollback != core::Rollback::kSlots) collect.seed();
  } else if (operation == "unpack") {
    collect.inputs("qkvzba");
    for (const char* part : {"q", "k", "v"}) collect.handover(part, Access::kWrite, kRaw);
    for (const char* part : {"z", "b", "a"}) collect.handover(part, Access::kWrite);
  } else if (operation == "conv_update") {
    collect.inputs("qkvz").conv_parameters().conv_states().slots();
    for (const char* part : {"q", "k", "v"}) collect.handover(part, Access::kWrite, kConvolved);
    collect.handover("z", Access::kWrite);
  } else if (operation == "gating") {
    collect.inputs("ba").gate_parameters();
    collect.handover("g", Access::kWrite).handover("beta", Access::kWrite);
  } else if (operation == "delta_update") {
    for (const char* part : {"q", "k", "v"}) collect.handover(part, Access::kRead, kConvolved);
    collect.handover("g", Access::kRead).handover("beta", Access::kRead);
    collect.state().slots().seed().handover("o", Access::kWrite);
  } else if (operation == "conv_prefill") {
    collect.inputs("qkvz").conv_parameters();
    if (collect.prefill_uses_pools()) collect.prefill_windows();
    collect.sequences();
    for (const char* part : {"q", "k", "v"}) collect.handover(part, Access::kWrite, kConvolved);
    collect.handover("z", Access::kWrite);
  } else if (operation == "prefill") {
    collect.inputs("qkvzba").conv_parameters().gate_parameters().norm_parameters();
    if (collect.prefill_uses_pools()) collect.prefill_windows().state(collect.prefill_access()).optional();
    collect.sequences().output();
  } else if (operation == "chunk_delta") {
    for (const char* part : {"q", "k", "v"}) collect.handover(part, Access::kRead, kConvolved);
    collect.handover("g", Access::kRead).handover("beta", Access::kRead);
    if (collect.prefill_uses_pools()) collect.state(collect.prefill_access()).optional();
    collect.sequences().handover("o", Access::kWrite);
  } else if (operation == "conv_pack") {
    collect.conv_weights(false, Access::kRead).conv_weights(true, Access::kWrite);
  } else if (operation == "norm_quant") {
    collect.handover("o", Access::kRead).handover("z", Access::kRead).norm_parameters().output();
  } else {
    throw std::invalid_argument(
        fmt::format("unknown operation {}: {} are the operations", operation, fmt::join(operations(), ", ")));
  }
  return collect.take();
}

std::string_view name_of(const Use& use) {
  switch (use.indices) {
    case Indices::kNone:
      return use.tensor->name;
    case Indices::kSlots:
      return "slots";
    case Indices::kOffsets:
      return "cu_seqlens";
    case Indices::kFlags:
      return "has_initial_state";
    case Indices::kAccepted:
      return "accepted";
    case Indices::kSeed:
      return "seed";
    case Indices::kSnapshotRows:
      return "snapshot_rows";
    case Indices::kSnapshotSlots:
      return "snapshot_slots";
  }
  return "?";
}

core::Identity identity_of(const layout::Layout& layout, const Use& use) {
  if (use.tensor != nullptr) return layout::identity(layout, *use.tensor, use.domain);
  if (use.indices == Indices::kOffsets) {
    return core::make_identity(fmt::format("{} [sequence + 1] offsets", core::to_string(use.dtype)));
  }
  if (use.indices == Indices::kSeed) return core::make_identity(fmt::format("{} seed", core::to_string(use.dtype)));
  if (use.indices == Indices::kFlags) {
    return core::make_identity(fmt::format("{} [sequence] flags", core::to_string(use.dtype)));
  }
  if (use.indices == Indices::kSnapshotRows) {
    return core::make_identity(fmt::format("{} [snapshot] last rows", core::to_string(use.dtype)));
  }
  if (use.indices == Indices::kAccepted) {
    return core::make_identity(fmt::format("{} [sequence] accepted={}", core::to_string(use.dtype),
                                           layout.numbers.counts == core::Counts::kTokens ? "tokens" : "drafts"));
  }
  const std::string list = use.inner > 1 ? fmt::format("{}, step:{}", core::to_string(use.leading), use.inner)
                                         : std::string(core::to_string(use.leading));
  const char* padding = layout.numbers.padding == core::Padding::kNone       ? "none"
                        : layout.numbers.padding == core::Padding::kNegative ? "negative"
                                                                             : "zero_or_negative";
  return core::make_identity(fmt::format("{} [{}] padding={}", core::to_string(use.dtype), list, padding));
}

}  // namespace gdn::plan
