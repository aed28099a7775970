// Which operands an operation takes, in which order, and where each part of the computation lies in them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "oracle/interpret.h"
#include "spec/spec.h"

namespace gdn::oracle {

enum class Kind : std::uint8_t { kInput, kParameter, kPool, kSlots, kIndices, kOutput };  // indices: of sequences

struct OperandInfo {
  std::string name;  // as the spec names the tensor; handover tensors as "handover.q"; "slots", "cu_seqlens", ...
  Kind kind = Kind::kInput;
  const spec::Tensor* tensor = nullptr;  // null for slots and indices
  core::DType dtype = core::DType::kFp32;
  bool written = false;
  bool copies = false;  // what is written are inputs moved, not computed: it must arrive exactly
};

// A part in an operand.
struct BoundPart {
  int operand = -1;
  const PartMap* map = nullptr;
};

// The operands of `operation` (decode, decode_spec, state_commit, unpack, conv_update, gating, delta_update,
// norm_quant, conv_prefill, chunk_delta, prefill, conv_pack) of a spec. Keeps its own copy of the spec.
class Operands {
 public:
  // Throws std::invalid_argument for an unknown operation or a spec without a tensor that the operation needs.
  Operands(const spec::Spec& spec, std::string_view operation);

  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  const spec::Spec& spec() const { return spec_; }
  const std::string& operation() const { return operation_; }
  const std::vector<OperandInfo>& list() const { return list_; }
  const TensorMap& map(int operand) const { return maps_[static_cast<std::size_t>(operand)]; }
  bool has_slots() const { return slots_ >= 0; }
  int slots() const { return slots_; }                  // index of the slots operand, -1 if there is none
  int offsets() const { return offsets_; }              // of cu_seqlens
  int flags() const { return flags_; }                  // of has_initial_state
  int seed() const { return seed_; }                    // of the seed that states are rounded by, -1 if there is none
  int snapshot_rows() const { return snapshot_rows_; }  // -1 if none are kept
  int snapshot_slots() const { return snapshot_slots_; }
  int accepted() const { return accepted_; }  // of accepted
  bool prefills() const;                      // several tokens a sequence, in the order of cu_seqlens
  bool drafts() const;                        // the same, few of them and with roll-back; and state_commit

  // The part with that key: "in.q", "out.q", "out.out", "conv_weight.q", "conv_bias.q", "conv_state.q", "a_log",
  // "dt_bias", "norm_weight", "norm_bias", "state", "state_scale", "intermediate_state", "record_k", "record_u",
  // "record_decay", "out.out_scale", "packed.q". find returns operand -1 when there is none, at throws
  // std::invalid_argument.
  BoundPart find(const std::string& key) const;
  BoundPart at(const std::string& key) const;

  // All parts with their keys, in operand order.
  const std::vector<std::pair<std::string, BoundPart>>& parts() const { return parts_; }

 private:
  void add(const std::string& name, Kind kind, const spec::Tensor& tensor, bool written, bool copies);
  void add_inputs(std::initializer_list<const char*> wanted);
  void add_handover(std::initializer_list<const char*> names, Kind kind, bool copies = false);
  void add_named(const std::vector<spec::Tensor>& tensors, const char* prefix, Kind kind, bool written = true);
  void add_conv_weights(bool packed, Kind kind);
  void add_gate_parameters();
  void add_norm_parameters();
  void add_seed();
  void add_slots(Leading leading = Leading::kToken);
  void add_indices(const char* name, core::DType dtype, int& index, Leading leading = Leading::kSequence);
  void add_prefill();
  void bind();

  spec::Spec spec_;
  std::string operation_;
  std::vector<OperandInfo> list_;
  std::vector<TensorMap> maps_;
  std::vector<std::pair<std::string, BoundPart>> parts_;
  int slots_ = -1, offsets_ = -1, flags_ = -1, accepted_ = -1, seed_ = -1, snapshot_rows_ = -1, snapshot_slots_ = -1;
};

}  // namespace gdn::oracle
