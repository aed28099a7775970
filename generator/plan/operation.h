// The operations and which tensors each takes, in the order of its operands.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/plan.h"
#include "layout/layout.h"

namespace gdn::plan {

// decode, decode_spec, state_commit, unpack, conv_update, gating, delta_update, norm_quant, conv_prefill, chunk_delta,
// prefill
const std::vector<std::string_view>& operations();

// Those that a spec asks for: those of prefill only where it prefills, decode_spec and state_commit only where it
// drafts.
std::vector<std::string_view> operations_of(const layout::Layout& layout);

// Why a spec has no such operation; empty: it has.
std::string why_not(const layout::Layout& layout, std::string_view operation);

// Whether an operation takes sequences of any length: conv_prefill, chunk_delta and prefill.
bool prefills(std::string_view operation);

// Whether it takes a few tokens of a sequence with roll-back, or commits them: decode_spec, state_commit.
bool drafts(std::string_view operation);

bool is_operation(std::string_view name);

// Whether the layer has an output norm. Without one out is o, and z is no operation's.
bool has_norm(const layout::Layout& layout);

// Integers that say where a launch's rows and sequences are; no spec lists their dimensions.
enum class Indices : std::uint8_t {
  kNone,
  kSlots,          // "slots": a slot for each token, for each sequence, or for each token of each sequence
  kOffsets,        // "cu_seqlens": where each sequence begins
  kFlags,          // "has_initial_state": whether a sequence starts from what its slot holds
  kAccepted,       // "accepted": tokens accepted of each sequence's last launch
  kSeed,           // "seed": what the random roundings of a launch start from
  kSnapshotRows,   // "snapshot_rows": rows behind which states are kept
  kSnapshotSlots,  // "snapshot_slots": and where
};

// One operand before it becomes part of a plan: a tensor of the layout, or indices, and what the operation does with
// it.
struct Use {
  const layout::TensorLayout* tensor = nullptr;  // null: indices
  core::Access access = core::Access::kRead;
  std::string domain;  // what the values mean to this operation
  Indices indices = Indices::kNone;
  core::Leading leading = core::Leading::kNone;  // of indices
  int inner = 1;                                 // of indices: numbers a token or sequence
  core::DType dtype = core::DType::kInt32;       // of indices
  bool optional = false;                         // may be null
};

// Throws std::invalid_argument for an unknown operation.
std::vector<Use> uses(const layout::Layout& layout, std::string_view operation);

// The operand's name in plans: the tensor's, "slots", "cu_seqlens", "has_initial_state", "snapshot_rows",
// "snapshot_slots", "accepted" or "seed".
std::string_view name_of(const Use& use);

// The layout that the owner of such a tensor states for it: its own canonical text with what the values mean to the
// operation.
core::Identity identity_of(const layout::Layout& layout, const Use& use);

}  // namespace gdn::plan
