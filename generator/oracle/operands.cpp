#include "oracle/operands.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace gdn::oracle {
namespace {

bool starts_with(const std::string& text, const std::string& prefix) { return text.rfind(prefix, 0) == 0; }

const std::string kPackedWeight = "conv_weight_packed";

std::string key_of(const OperandInfo& operand, const std::string& part) {
  if (operand.kind == Kind::kInput) return "in." + part;
  if (operand.kind == Kind::kOutput && operand.name == kPackedWeight) return "packed." + part;
  if (operand.kind == Kind::kOutput) return "out." + part;
  for (const char* several : {"conv_weight", "conv_bias", "conv_state"}) {
    if (starts_with(operand.name, several)) return std::string(several) + "." + part;
  }
  return operand.name;
}

}  // namespace

Operands::Operands(const spec::Spec& spec, std::string_view operation) : spec_(spec), operation_(operation) {
  const bool has_conv_bias = *spec_.conv.bias;
  const auto conv_parameters = [&] {
    add_conv_weights(spec::find_tensor(spec_.parameters, kPackedWeight) != nullptr, Kind::kParameter);
    if (has_conv_bias) add_named(spec_.parameters, "conv_bias", Kind::kParameter);
  };

  if (operation == "decode") {
    add_inputs({"q", "k", "v", "z", "b", "a"});
    conv_parameters();
    add_gate_parameters();
    add_norm_parameters();
    add_named(spec_.pools, "conv_state", Kind::kPool);
    add_named(spec_.pools, "state", Kind::kPool);
    add_slots();
    add_seed();
    add_named(spec_.outputs, "out", Kind::kOutput);
  } else if (operation == "decode_spec" || operation == "state_commit") {
    if (!*spec_.speculative.given) throw std::invalid_argument(fmt::format("{}: speculative is none", *spec_.name));
    const bool commits = operation == "state_commit";
    const bool buffered = *spec_.speculative.scheme == core::Rollback::kIntermediate;
    if (!commits) {
      add_inputs({"q", "k", "v", "z", "b", "a"});
      conv_parameters();
      add_gate_parameters();
      add_norm_parameters();
    }
    add_named(spec_.pools, "conv_state", Kind::kPool);
    add_named(spec_.pools, "state", Kind::kPool, commits || !buffered);
    if (buffered) add_named(spec_.pools, "intermediate_state", Kind::kPool, !commits);
    if (*spec_.speculative.scheme == core::Rollback::kReplay) add_named(spec_.pools, "record", Kind::kPool, !commits);
    add_slots(Leading::kSequence);
    if (!commits) add_indices("cu_seqlens", *spec_.speculative.offsets, offsets_);
    if (commits || !buffered) add_indices("accepted", *spec_.speculative.accepted, accepted_);
    // Where a state is rounded: not where a finished one moves, nor where states stay fp32 until they are committed.
    const bool moved = commits && *spec_.speculative.scheme == core::Rollback::kSlots;
    if (!moved && (commits || !buffered)) add_seed();
    if (!commits) add_named(spec_.outputs, "out", Kind::kOutput);
  } else if (operation == "unpack") {
    add_inputs({"q", "k", "v", "z", "b", "a"});
    add_handover({"q", "k", "v", "z", "b", "a"}, Kind::kOutput, true);
  } else if (operation == "conv_update") {
    add_inputs({"q", "k", "v", "z"});
    conv_parameters();
    add_named(spec_.pools, "conv_state", Kind::kPool);
    add_slots();
    add_handover({"q", "k", "v"}, Kind::kOutput);
    add_handover({"z"}, Kind::kOutput, true);
  } else if (operation == "gating") {
    add_inputs({"b", "a"});
    add_gate_parameters();
    add_handover({"g", "beta"}, Kind::kOutput);
  } else if (operation == "delta_update") {
    add_handover({"q", "k", "v", "g", "beta"}, Kind::kInput);
    add_named(spec_.pools, "state", Kind::kPool);
    add_slots();
    add_seed();
    add_handover({"o"}, Kind::kOutput);
  } else if (prefills()) {
    add_prefill();
  } else if (operation == "conv_pack") {
    if (spec::find_tensor(spec_.parameters, kPackedWeight) == nullptr) {
      throw std::invalid_argument(fmt::format("{} has no {}", *spec_.name, kPackedWeight));
    }
    add_conv_weights(false, Kind::kParameter);
    add_conv_weights(true, Kind::kOutput);
  } else if (operation == "norm_quant") {
    if (!*spec_.out_norm.enabled) throw std::invalid_argument(fmt::format("{}: out_norm is none", *spec_.name));
    add_handover({"o", "z"}, Kind::kInput);
    add_norm_parameters();
    add_named(spec_.outputs, "out", Kind::kOutput);
  } else {
    throw std::invalid_argument(
        fmt::format("the oracle has no operation '{}': decode, decode_spec, state_commit, unpack, conv_update, gating, "
                    "delta_update, norm_quant, conv_prefill, chunk_delta, prefill, conv_pack",
                    operation));
  }
  bind();
}

void Operands::add_prefill() {
  if (!*spec_.prefill.enabled) throw std::invalid_argument(fmt::format("{}: prefill is none", *spec_.name));
  const bool conv = operation_ != "chunk_delta", rule = operation_ != "conv_prefill", whole = conv && rule;
  const bool ends = *spec_.prefill.final_states;
  const bool kept = *spec_.prefill.snapshots, writes = ends || kept;
  const bool pools = writes || *spec_.prefill.initial_states != core::InitialStates::kNone;
  if (whole) {
    add_inputs({"q", "k", "v", "z", "b", "a"});
  } else if (conv) {
    add_inputs({"q", "k", "v", "z"});
  } else {
    add_handover({"q", "k", "v", "g", "beta"}, Kind::kInput);
  }
  if (conv) add_conv_weights(spec::find_tensor(spec_.parameters, kPackedWeight) != nullptr, Kind::kParameter);
  if (conv && *spec_.conv.bias) add_named(spec_.parameters, "conv_bias", Kind::kParameter);
  if (whole) {
    add_gate_parameters();
    add_norm_parameters();
  }
  if (conv && pools) add_named(spec_.pools, "conv_state", Kind::kPool, writes);
  if (rule && pools) add_named(spec_.pools, "state", Kind::kPool, writes);
  add_slots(Leading::kSequence);
  add_indices("cu_seqlens", *spec_.prefill.offsets, offsets_);
  if (*spec_.prefill.initial_states == core::InitialStates::kFlagged) {
    add_indices("has_initial_state", *spec_.prefill.flags, flags_);
  }
  if (kept) {
    add_indices("snapshot_rows", *spec_.prefill.offsets, snapshot_rows_, Leading::kSnapshot);
    add_indices("snapshot_slots", *spec_.slots.dtype, snapshot_slots_, Leading::kSnapshot);
  }
  if (whole) {
    add_named(spec_.outputs, "out", Kind::kOutput);
  } else if (conv) {
    add_handover({"q", "k", "v"}, Kind::kOutput);
    add_handover({"z"}, Kind::kOutput, true);
  } else {
    add_handover({"o"}, Kind::kOutput);
  }
}

void Operands::add(const std::string& name, Kind kind, const spec::Tensor& tensor, bool written, bool copies) {
  list_.push_back({name, kind, &tensor, *tensor.dtype, written, copies});
  maps_.push_back(interpret(spec_, tensor));
}

void Operands::add_inputs(std::initializer_list<const char*> wanted) {
  // z, where nothing norms, only comes along in a row that holds another part.
  const auto is_read = [&](const std::string& part) { return *spec_.out_norm.enabled || part != "z"; };
  for (const spec::Tensor& tensor : spec_.inputs) {
    const TensorMap map = interpret(spec_, tensor);
    const bool holds_one = std::any_of(wanted.begin(), wanted.end(),
                                       [&](const char* part) { return is_read(part) && map.part(part) != nullptr; });
    if (holds_one) add(*tensor.name, Kind::kInput, tensor, false, false);
  }
}

void Operands::add_handover(std::initializer_list<const char*> names, Kind kind, bool copies) {
  for (const char* name : names) {
    if (std::string_view(name) == "z" && !*spec_.out_norm.enabled) continue;
    const auto it = std::find_if(spec_.handover.begin(), spec_.handover.end(),
                                 [&](const spec::Tensor& tensor) { return *tensor.name == name; });
    if (it == spec_.handover.end()) {
      throw std::invalid_argument(fmt::format("operation {} needs handover.{}", operation_, name));
    }
    add(fmt::format("handover.{}", name), kind, *it, kind == Kind::kOutput, copies);
  }
}

void Operands::add_named(const std::vector<spec::Tensor>& tensors, const char* prefix, Kind kind, bool written) {
  const std::string one = prefix;
  bool found = false;
  for (const spec::Tensor& tensor : tensors) {
    if (*tensor.name != one && !starts_with(*tensor.name, one + "_")) continue;
    // The conv's window holds raw inputs; the recurrent state is computed.
    const bool changes = kind == Kind::kOutput || (kind == Kind::kPool && written);
    add(*tensor.name, kind, tensor, changes, one == "conv_state");
    found = true;
  }
  if (!found) throw std::invalid_argument(fmt::format("operation {} needs the tensor {}", operation_, one));
}

void Operands::add_gate_parameters() {
  if (*spec_.decay.a_log != core::AStored::kAbsent) add_named(spec_.parameters, "a_log", Kind::kParameter);
  add_named(spec_.parameters, "dt_bias", Kind::kParameter);
}

void Operands::add_norm_parameters() {
  if (!*spec_.out_norm.enabled) return;
  add_named(spec_.parameters, "norm_weight", Kind::kParameter);
  if (spec::find_tensor(spec_.parameters, "norm_bias") != nullptr) {
    add_named(spec_.parameters, "norm_bias", Kind::kParameter);
  }
}

// The taps as a checkpoint has them, or as conv_pack leaves them.
void Operands::add_conv_weights(bool packed, Kind kind) {
  for (const spec::Tensor& tensor : spec_.parameters) {
    if (!starts_with(*tensor.name, "conv_weight") || (*tensor.name == kPackedWeight) != packed) continue;
    const bool written = kind == Kind::kOutput;
    add(*tensor.name, kind, tensor, written, written && *tensor.dtype == core::DType::kFp32);
  }
}

void Operands::add_seed() {
  if (!*spec_.rounding.state_stochastic) return;
  seed_ = static_cast<int>(list_.size());
  list_.push_back({"seed", Kind::kIndices, nullptr, core::DType::kInt64, false, false});
  TensorMap map;
  map.inner = 1;
  maps_.push_back(map);
}

void Operands::add_slots(Leading leading) {
  slots_ = static_cast<int>(list_.size());
  list_.push_back({"slots", Kind::kSlots, nullptr, *spec_.slots.dtype, false, false});
  TensorMap map;
  map.leading = leading;
  map.inner = 1;
  // A slot for the state after each token.
  if (leading == Leading::kSequence && drafts() && *spec_.speculative.scheme == core::Rollback::kSlots) {
    map.inner = *spec_.speculative.tokens;
    map.launch_stride = map.inner > 1;
  }
  maps_.push_back(map);
}

void Operands::add_indices(const char* name, core::DType dtype, int& index, Leading leading) {
  index = static_cast<int>(list_.size());
  list_.push_back({name, Kind::kIndices, nullptr, dtype, false, false});
  TensorMap map;
  map.leading = leading;
  map.inner = 1;
  maps_.push_back(map);
}

bool Operands::prefills() const {
  return operation_ == "conv_prefill" || operation_ == "chunk_delta" || operation_ == "prefill";
}
bool Operands::drafts() const { return operation_ == "decode_spec" || operation_ == "state_commit"; }

void Operands::bind() {
  for (std::size_t i = 0; i < list_.size(); ++i) {
    for (const PartMap& map : maps_[i].parts) {
      parts_.emplace_back(key_of(list_[i], map.name), BoundPart{static_cast<int>(i), &map});
    }
  }
}

BoundPart Operands::find(const std::string& key) const {
  for (const auto& [name, part] : parts_) {
    if (name == key) return part;
  }
  return {};
}

BoundPart Operands::at(const std::string& key) const {
  const BoundPart part = find(key);
  if (part.operand < 0) throw std::invalid_argument(fmt::format("operation {} has no part {}", operation_, key));
  return part;
}

}  // namespace gdn::oracle
