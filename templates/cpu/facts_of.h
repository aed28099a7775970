// From the facts type of an emitted file back to the plan that the generators take.
//
// The type is the same for GPU and CPU (see generator/emit): its maps give base(head), from which the strides of key
// heads and of groups are recovered; every head is checked, so that a type whose addresses are no such map is refused.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "core/maps.h"
#include "core/plan.h"
#include "cpu/kernel.h"
#include "gdn/element.h"

namespace gdn::cpu {

template <class Element>
constexpr core::DType dtype_of() {
  if constexpr (std::is_same_v<Element, gdn::Bf16>) {
    return core::DType::kBf16;
  } else if constexpr (std::is_same_v<Element, gdn::Fp16>) {
    return core::DType::kFp16;
  } else if constexpr (std::is_same_v<Element, int>) {
    return core::DType::kInt32;
  } else if constexpr (std::is_same_v<Element, long long>) {
    return core::DType::kInt64;
  } else if constexpr (std::is_same_v<Element, gdn::E4m3fn>) {
    return core::DType::kE4m3fn;
  } else if constexpr (std::is_same_v<Element, gdn::E4m3fnuz>) {
    return core::DType::kE4m3fnuz;
  } else if constexpr (std::is_same_v<Element, unsigned char>) {
    return core::DType::kUint8;
  } else {
    static_assert(std::is_same_v<Element, float>, "an element type that the CPU target doesn't know");
    return core::DType::kFp32;
  }
}

// The map of part M of facts F; for a part without heads, kValue is as good as kNone: its base is the same at all of
// them. Throws std::runtime_error for addresses that are no map of this kind of head.
template <class F, class M>
core::Map map_of(core::HeadKind heads) {
  core::Map map;
  if constexpr (M::kPresent) {
    map.operand = M::kOperand;
    map.dtype = dtype_of<typename M::Element>();
    map.heads = heads;
    map.inner_stride = M::kInnerStride;
    map.outer_stride = M::kOuterStride;
    map.tap_stride = M::kTapStride;
    map.run = M::kRun;
    map.align = M::kAlign;
    const auto head_of = [](int key_head, int group) {
      return F::kPairing == gdn::Pairing::kGrouped ? key_head * F::kGroup + group : group * F::kKeyHeads + key_head;
    };
    const bool value = heads == core::HeadKind::kValue;
    map.offset = M::base(0);
    if (F::kKeyHeads > 1) map.key_head_stride = M::base(value ? head_of(1, 0) : 1) - map.offset;
    if (value && F::kGroup > 1) map.group_stride = M::base(head_of(0, 1)) - map.offset;
    for (int key_head = 0; key_head < F::kKeyHeads; ++key_head) {
      for (int group = 0; group < (value ? F::kGroup : 1); ++group) {
        const int head = value ? head_of(key_head, group) : key_head;
        if (M::base(head) != map.offset + key_head * map.key_head_stride + group * map.group_stride) {
          throw std::runtime_error("the facts' base(" + std::to_string(head) + ") is not linear in key head and group");
        }
      }
    }
  }
  return map;
}

template <class F>
core::Facts facts_of() {
  using core::HeadKind;
  core::Facts f;
  f.rule = F::kRule;
  f.key_heads = F::kKeyHeads;
  f.value_heads = F::kValueHeads;
  f.group = F::kGroup;
  f.pairing = F::kPairing;
  f.key_dim = F::kKeyDim;
  f.value_dim = F::kValueDim;
  f.conv_width = F::kConvWidth;
  f.conv_activation = F::kConvActivation;
  f.conv_bias = F::kConvBias;
  f.taps_oldest_first = F::kTapsOldestFirst;
  f.window = F::kWindow;
  f.anchor = F::kAnchor;
  f.qk_norm = F::kQkNorm;
  f.qk_eps = F::kQkEps;
  f.qk_eps_at = F::kQkEpsAt;
  f.q_scale = F::kQScale;
  f.k_scale = F::kKScale;
  f.decay_form = F::kDecayForm;
  f.softplus_threshold = F::kSoftplusThreshold;
  f.decay_bound = F::kDecayBound;
  f.a_stored = F::kAStored;
  f.g_handover = F::kGHandover;
  f.beta_factor = F::kBetaFactor;
  f.norm_eps = F::kNormEps;
  f.norm_weight = F::kNormWeight;
  f.norm_gate = F::kNormGate;
  f.norm_before_gate = F::kNormBeforeGate;
  f.round_conv = dtype_of<typename F::RoundConv>();
  f.round_qk = dtype_of<typename F::RoundQk>();
  f.round_beta = dtype_of<typename F::RoundBeta>();
  f.round_o = dtype_of<typename F::RoundO>();
  f.round_norm = dtype_of<typename F::RoundNorm>();
  f.slot_dtype = dtype_of<typename F::Slot>();
  f.padding = F::kPadding;
  f.padded_output = F::kPaddedOutput;
  f.excess_output = F::kExcessOutput;
  f.slots_operand = F::kSlotsOperand;

  f.in_q = map_of<F, typename F::InputQ>(HeadKind::kKey);
  f.in_k = map_of<F, typename F::InputK>(HeadKind::kKey);
  f.in_v = map_of<F, typename F::InputV>(HeadKind::kValue);
  f.in_z = map_of<F, typename F::InputZ>(HeadKind::kValue);
  f.in_b = map_of<F, typename F::InputB>(HeadKind::kValue);
  f.in_a = map_of<F, typename F::InputA>(HeadKind::kValue);
  f.in_g = map_of<F, typename F::InputG>(HeadKind::kValue);
  f.in_beta = map_of<F, typename F::InputBeta>(HeadKind::kValue);
  f.in_o = map_of<F, typename F::InputO>(HeadKind::kValue);
  f.out_q = map_of<F, typename F::OutputQ>(HeadKind::kKey);
  f.out_k = map_of<F, typename F::OutputK>(HeadKind::kKey);
  f.out_v = map_of<F, typename F::OutputV>(HeadKind::kValue);
  f.out_z = map_of<F, typename F::OutputZ>(HeadKind::kValue);
  f.out_b = map_of<F, typename F::OutputB>(HeadKind::kValue);
  f.out_a = map_of<F, typename F::OutputA>(HeadKind::kValue);
  f.out_g = map_of<F, typename F::OutputG>(HeadKind::kValue);
  f.out_beta = map_of<F, typename F::OutputBeta>(HeadKind::kValue);
  f.out_o = map_of<F, typename F::OutputO>(HeadKind::kValue);
  f.out = map_of<F, typename F::Out>(HeadKind::kValue);
  f.weight_q = map_of<F, typename F::WeightQ>(HeadKind::kKey);
  f.weight_k = map_of<F, typename F::WeightK>(HeadKind::kKey);
  f.weight_v = map_of<F, typename F::WeightV>(HeadKind::kValue);
  f.bias_q = map_of<F, typename F::BiasQ>(HeadKind::kKey);
  f.bias_k = map_of<F, typename F::BiasK>(HeadKind::kKey);
  f.bias_v = map_of<F, typename F::BiasV>(HeadKind::kValue);
  f.window_q = map_of<F, typename F::WindowQ>(HeadKind::kKey);
  f.window_k = map_of<F, typename F::WindowK>(HeadKind::kKey);
  f.window_v = map_of<F, typename F::WindowV>(HeadKind::kValue);
  f.state = map_of<F, typename F::State>(HeadKind::kValue);
  f.a_log = map_of<F, typename F::ALog>(HeadKind::kValue);
  f.dt_bias = map_of<F, typename F::DtBias>(HeadKind::kValue);
  f.norm_w = map_of<F, typename F::NormW>(HeadKind::kValue);
  f.norm_b = map_of<F, typename F::NormB>(HeadKind::kValue);
  f.state_scale = map_of<F, typename F::StateScale>(HeadKind::kValue);
  if constexpr (F::kStochasticState) {
    f.stochastic_state = true;
    f.seed_operand = F::kSeedOperand;
  }
  if constexpr (F::OutScale::kPresent) {
    f.out_scale = map_of<F, typename F::OutScale>(HeadKind::kValue);
    f.quant_group = F::kQuantGroup;
    f.quant_max = F::kQuantMax;
    f.quant_floor_at = F::kQuantFloorAt;
    f.quant_floor = F::kQuantFloor;
    f.quant_power_of_two = F::kScalePowerOfTwo;
    f.quant_from = dtype_of<typename F::QuantFrom>();
    f.quant_divides = F::kQuantDivides;
    f.scale_group_first = F::kScaleGroupFirst;
  }
  return f;
}

// What `target`'s generator takes for the operation that facts F describe.
template <class F>
core::KernelPlan plan_of(std::string_view operation, std::string_view target) {
  core::KernelPlan plan;
  plan.operation = operation;
  plan.target = target;
  plan.facts = facts_of<F>();
  return plan;
}

template <class F>
Kernel kernel_of(std::string_view operation, std::string_view target) {
  return generate(plan_of<F>(operation, target));
}

// What only operations over drafted sequences have.
template <class F>
void add_drafts(core::KernelPlan& plan) {
  core::Facts& f = plan.facts;
  f.offset_dtype = dtype_of<typename F::Offset>();
  f.offsets_operand = F::kOffsetsOperand;
  f.tokens = F::kTokens;
  f.rollback = F::kRollback;
  f.counts = F::kCounts;
  f.accepted_dtype = dtype_of<typename F::Accepted>();
  f.accepted_operand = F::kAcceptedOperand;
  f.intermediate = map_of<F, typename F::Intermediate>(core::HeadKind::kValue);
  f.record_k = map_of<F, typename F::RecordK>(core::HeadKind::kKey);
  f.record_u = map_of<F, typename F::RecordU>(core::HeadKind::kValue);
  f.record_decay = map_of<F, typename F::RecordDecay>(core::HeadKind::kValue);
}

// What only operations over sequences have.
template <class F>
void add_sequences(core::KernelPlan& plan) {
  core::Facts& f = plan.facts;
  f.chunk = F::kChunk;
  f.offset_dtype = dtype_of<typename F::Offset>();
  f.offsets_operand = F::kOffsetsOperand;
  f.initial_states = F::kInitialStates;
  f.final_states = F::kFinalStates;
  f.round_prefill_qk = dtype_of<typename F::RoundPrefillQk>();
  f.flag_dtype = dtype_of<typename F::Flag>();
  f.flags_operand = F::kFlagsOperand;
  f.snapshots = F::kSnapshotRowsOperand >= 0;
  f.snapshot_rows_operand = F::kSnapshotRowsOperand;
  f.snapshot_slots_operand = F::kSnapshotSlotsOperand;
}

// And those that work in chunks: shapes of tiles and parts of operands.
template <class F>
void add_prefill(core::KernelPlan& plan) {
  add_sequences<F>(plan);
  plan.choices = {{"tile_rows", F::kTileRows},
                  {"tile_bytes", F::kTileBytes},
                  {"inverse_parts", F::kInverseParts},
                  {"output_parts", F::kOutputParts}};
  if constexpr (F::kRule == core::Rule::kKda) plan.choices.emplace_back("decayed_key_parts", F::kDecayedKeyParts);
}

}  // namespace gdn::cpu
