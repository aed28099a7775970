#include "plan/kernel_identity.h"

#include <fmt/format.h>

#include <string>
#include <utility>

namespace gdn::plan {

using core::Facts;

core::Identity kernel_identity(const core::KernelPlan& plan) {
  const Facts& f = plan.facts;
  std::string text =
      fmt::format("{} rule={} heads={}/{} dims={}/{}", plan.operation, f.rule == core::Rule::kKda ? "kda" : "gdn",
                  f.key_heads, f.value_heads, f.key_dim, f.value_dim);
  text += fmt::format(" conv(width={} activation={} bias={} window={}) qk(norm={} eps={} at={} q_scale={} k_scale={})",
                      f.conv_width, static_cast<int>(f.conv_activation), f.conv_bias, f.window, f.qk_norm, f.qk_eps,
                      static_cast<int>(f.qk_eps_at), f.q_scale, f.k_scale);
  text += fmt::format(" decay(form={} threshold={} bound={} a_log={}) beta({})", static_cast<int>(f.decay_form),
                      f.softplus_threshold, f.decay_bound, static_cast<int>(f.a_stored), f.beta_factor);
  if (f.out.present() && !f.norm_w.present()) {
    text += " norm(none)";
  } else {
    text += fmt::format(" norm(eps={} weight={} gate={} before={})", f.norm_eps, static_cast<int>(f.norm_weight),
                        static_cast<int>(f.norm_gate), f.norm_before_gate);
  }
  text += fmt::format(" round(conv={} qk={} beta={} o={} norm={}) padded={}", core::to_string(f.round_conv),
                      core::to_string(f.round_qk), core::to_string(f.round_beta), core::to_string(f.round_o),
                      core::to_string(f.round_norm), static_cast<int>(f.padded_output));
  if (f.excess_output == core::PaddedOutput::kZero) text += " excess(zero)";
  if (f.chunk != 0) {
    text += fmt::format(" prefill(chunk={} initial={} final={} qk={})", f.chunk, static_cast<int>(f.initial_states),
                        f.final_states, core::to_string(f.round_prefill_qk));
    if (f.snapshots) text += " snapshots";
  }
  if (f.stochastic_state) text += " state(stochastic)";
  if (f.out_scale.present()) {
    text += fmt::format(" quant(group={} max={} floor_at={} floor={} ue8m0={} from={} divides={})", f.quant_group,
                        f.quant_max, static_cast<int>(f.quant_floor_at), f.quant_floor, f.quant_power_of_two,
                        core::to_string(f.quant_from), f.quant_divides);
  }
  if (f.rollback != core::Rollback::kNone) {
    text += fmt::format(" speculative(tokens={} scheme={})", f.tokens, static_cast<int>(f.rollback));
  }
  for (const core::Operand& operand : plan.operands) text += fmt::format("; {}: {}", operand.name, operand.layout.text);
  return core::make_identity(std::move(text));
}

}  // namespace gdn::plan
