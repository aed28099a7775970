#include "cpu/needs.h"

#include <fmt/format.h>

#include <stdexcept>

#include "cpu/context.h"
#include "gdn/args.h"

namespace gdn::cpu {

using core::DType;
using core::Facts;

void refuse(const core::KernelPlan& plan, const std::string& why) {
  throw std::runtime_error(
      fmt::format("can't generate {} for the CPU: {}", plan.symbol.empty() ? plan.operation : plan.symbol, why));
}

void check_maps(const core::KernelPlan& plan, const std::vector<Need>& needs) {
  for (const Need& need : needs) {
    if (!need.map.present()) refuse(plan, fmt::format("the plan has no operand for {}", need.name));
    if (need.map.operand >= kMaxOperands) refuse(plan, fmt::format("{} stands beyond the argument block", need.name));
    if (need.map.run != need.elements) {
      refuse(plan, fmt::format("{} has {} elements a head, {} are needed", need.name, need.map.run, need.elements));
    }
    const bool scaled = (&need.map == &plan.facts.out && plan.facts.quant_group > 0) ||
                        (&need.map == &plan.facts.state && plan.facts.state_scale.present());
    if (scaled ? core::size_of(need.map.dtype) != 1 || need.map.dtype == DType::kUint8
               : need.map.dtype != DType::kFp32 && need.map.dtype != DType::kBf16 && need.map.dtype != DType::kFp16) {
      refuse(plan, fmt::format("{} is {}: {} are known", need.name, core::to_string(need.map.dtype),
                               scaled ? "e4m3fn and e4m3fnuz" : "fp32, bf16 and fp16"));
    }
    const bool scale = &need.map == &plan.facts.out_scale || &need.map == &plan.facts.state_scale;
    if (scale && need.map.dtype != DType::kFp32) {
      refuse(plan, fmt::format("{} is {}: fp32 is known", need.name, core::to_string(need.map.dtype)));
    }
  }
}

namespace {

std::vector<Need> conv_needs(const Facts& f, bool windows) {
  std::vector<Need> needs = {{"q", f.in_q, f.key_dim},
                             {"k", f.in_k, f.key_dim},
                             {"v", f.in_v, f.value_dim},
                             {"conv_weight of q", f.weight_q, f.key_dim},
                             {"conv_weight of k", f.weight_k, f.key_dim},
                             {"conv_weight of v", f.weight_v, f.value_dim}};
  if (f.conv_bias) {
    needs.push_back({"conv_bias of q", f.bias_q, f.key_dim});
    needs.push_back({"conv_bias of k", f.bias_k, f.key_dim});
    needs.push_back({"conv_bias of v", f.bias_v, f.value_dim});
  }
  if (windows) {
    needs.push_back({"conv_state of q", f.window_q, f.key_dim});
    needs.push_back({"conv_state of k", f.window_k, f.key_dim});
    needs.push_back({"conv_state of v", f.window_v, f.value_dim});
  }
  return needs;
}

}  // namespace

std::vector<Need> conv_needs(const Facts& f) { return conv_needs(f, f.window > 0); }

std::vector<Need> row_conv_needs(const Facts& f) {
  return conv_needs(f, f.window_q.present() || f.window_k.present() || f.window_v.present());
}

int decays(const Facts& f) { return f.rule == core::Rule::kKda ? f.key_dim : 1; }

std::vector<Need> gate_needs(const Facts& f) {
  std::vector<Need> needs = {{"b", f.in_b, 1}, {"a", f.in_a, decays(f)}, {"dt_bias", f.dt_bias, decays(f)}};
  if (f.a_stored != core::AStored::kAbsent) needs.push_back({"a_log", f.a_log, 1});
  return needs;
}

std::vector<Need> state_needs(const Facts& f) {
  std::vector<Need> needs = {{"state", f.state, f.key_dim}};
  if (f.state_scale.present()) needs.push_back({"state_scale", f.state_scale, f.value_dim});
  return needs;
}

std::vector<Need> norm_needs(const Facts& f) {
  std::vector<Need> needs = {{"out", f.out, f.value_dim}};
  if (!f.norm_w.present()) return needs;  // the layer has no norm
  needs.push_back({"norm_weight", f.norm_w, f.value_dim});
  if (f.norm_gate != core::Activation::kNone) needs.push_back({"z", f.in_z, f.value_dim});
  if (f.norm_b.present()) needs.push_back({"norm_bias", f.norm_b, f.value_dim});
  if (f.quant_group > 0) needs.push_back({"out_scale", f.out_scale, f.value_heads * f.value_dim / f.quant_group});
  return needs;
}

std::vector<Need> operator+(std::vector<Need> a, const std::vector<Need>& b) {
  for (const Need& need : b) a.push_back(need);
  return a;
}

void check_facts(const core::KernelPlan& plan) {
  const Facts& f = plan.facts;
  for (const int dim : {f.key_dim, f.value_dim}) {
    if (dim <= 0 || dim > kMaxHeadDim || dim % kLanes != 0) {
      refuse(plan, fmt::format("a head dimension of {}: multiples of {} up to {} are known", dim, kLanes, kMaxHeadDim));
    }
  }
  if (f.key_heads <= 0 || f.group <= 0 || f.value_heads != f.key_heads * f.group) {
    refuse(plan, fmt::format("{} value heads are not {} key heads times {}", f.value_heads, f.key_heads, f.group));
  }
  if (f.conv_width < 1 || f.window < f.conv_width - 1) {
    refuse(plan, fmt::format("a window of {} rows can't hold {} inputs", f.window, f.conv_width - 1));
  }
}

void check_slots(const core::KernelPlan& plan) {
  const Facts& f = plan.facts;
  if (f.slots_operand < 0) refuse(plan, "the plan has no operand for slots");
  if (f.slot_dtype != DType::kInt32 && f.slot_dtype != DType::kInt64) {
    refuse(plan, fmt::format("slots are {}: int32 and int64 are known", core::to_string(f.slot_dtype)));
  }
}

void check_sequences(const core::KernelPlan& plan) {
  const Facts& f = plan.facts;
  if (f.offsets_operand < 0) refuse(plan, "the plan has no operand for the sequences' offsets");
  if (f.offset_dtype != DType::kInt32 && f.offset_dtype != DType::kInt64) {
    refuse(plan, fmt::format("offsets are {}: int32 and int64 are known", core::to_string(f.offset_dtype)));
  }
  if (f.initial_states == core::InitialStates::kFlagged && f.flags_operand < 0) {
    refuse(plan, "the plan has no operand for has_initial_state");
  }
  if (f.snapshot_rows_operand >= 0 && f.snapshot_slots_operand < 0) {
    refuse(plan, "the plan has no operand for the slots of snapshots");
  }
  check_slots(plan);
}

// Of drafts: where the scheme of roll-back keeps what undoes them.
std::vector<Need> draft_needs(const Facts& f) {
  std::vector<Need> needs = state_needs(f) + std::vector<Need>{{"conv_state of q", f.window_q, f.key_dim},
                                                               {"conv_state of k", f.window_k, f.key_dim},
                                                               {"conv_state of v", f.window_v, f.value_dim}};
  if (f.rollback == core::Rollback::kIntermediate) {
    needs.push_back({"intermediate_state", f.intermediate, f.key_dim});
  }
  if (f.rollback == core::Rollback::kReplay) {
    needs.push_back({"record_k", f.record_k, f.key_dim});
    needs.push_back({"record_u", f.record_u, f.value_dim});
    needs.push_back({"record_decay", f.record_decay, decays(f)});
  }
  return needs;
}

std::vector<Need> chunk_needs(const Facts& f) {
  return {{"handover.q", f.in_q, f.key_dim}, {"handover.k", f.in_k, f.key_dim}, {"handover.v", f.in_v, f.value_dim},
          {"handover.g", f.in_g, decays(f)}, {"handover.beta", f.in_beta, 1},   {"handover.o", f.out_o, f.value_dim}};
}

}  // namespace gdn::cpu
