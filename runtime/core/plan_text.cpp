// to_text and parse_plan walk one list of fields, so that they can't disagree about order or spelling.
#include "core/plan.h"
#include "core/text_fields.h"

namespace gdn::core {
namespace {

// The functions below take `const X` with a Writer and `X` with a Reader.

template <class Visitor, class Value>
void visit_map(Visitor& visitor, std::string_view key, Value& map) {
  std::string whole;
  if constexpr (Visitor::kReading) {
    const std::string_view text = visitor.line(key);
    map = Map{};
    if (text == kAbsent) return;
    whole = std::string(text);
  } else {
    if (!map.present()) {
      visitor.line(key, kAbsent);
      return;
    }
  }
  std::string_view rest = whole;
  const auto word = [&](std::string_view name, auto& value) {
    const std::string start = std::string(name) + "=";
    if constexpr (Visitor::kReading) {
      if (rest.substr(0, start.size()) != start) {
        visitor.fail("`" + start + "` should stand before `" + std::string(rest) + "`");
      }
      rest.remove_prefix(start.size());
      const std::size_t end = std::min(rest.find(' '), rest.size());
      visitor.parse(rest.substr(0, end), name, value);
      rest.remove_prefix(std::min(end + 1, rest.size()));
    } else {
      if (!whole.empty()) whole += ' ';
      whole += start + Visitor::format(value);
    }
  };
  word("operand", map.operand);
  word("dtype", map.dtype);
  word("heads", map.heads);
  word("offset", map.offset);
  word("key_head", map.key_head_stride);
  word("group", map.group_stride);
  word("inner", map.inner_stride);
  word("outer", map.outer_stride);
  word("tap", map.tap_stride);
  word("run", map.run);
  word("align", map.align);
  if constexpr (Visitor::kReading) {
    if (!rest.empty()) visitor.fail("`" + std::string(rest) + "` after the last field of `" + std::string(key) + "`");
    if (!map.present()) visitor.fail("a part without an operand is written as `" + std::string(kAbsent) + "`");
  } else {
    visitor.line(key, whole);
  }
}

template <class Visitor, class Value>
void visit_facts(Visitor& visitor, Value& facts) {
  visitor.open("facts");
  visitor.field("rule", facts.rule);
  visitor.field("key_heads", facts.key_heads);
  visitor.field("value_heads", facts.value_heads);
  visitor.field("group", facts.group);
  visitor.field("pairing", facts.pairing);
  visitor.field("key_dim", facts.key_dim);
  visitor.field("value_dim", facts.value_dim);
  visitor.field("conv_width", facts.conv_width);
  visitor.field("conv_activation", facts.conv_activation);
  visitor.field("conv_bias", facts.conv_bias);
  visitor.field("taps_oldest_first", facts.taps_oldest_first);
  visitor.field("window", facts.window);
  visitor.field("anchor", facts.anchor);
  visitor.field("qk_norm", facts.qk_norm);
  visitor.field("qk_eps", facts.qk_eps);
  visitor.field("qk_eps_at", facts.qk_eps_at);
  visitor.field("q_scale", facts.q_scale);
  visitor.field("k_scale", facts.k_scale);
  visitor.field("decay_form", facts.decay_form);
  visitor.field("softplus_threshold", facts.softplus_threshold);
  visitor.field("decay_bound", facts.decay_bound);
  visitor.field("a_stored", facts.a_stored);
  visitor.field("g_handover", facts.g_handover);
  visitor.field("beta_factor", facts.beta_factor);
  visitor.field("norm_eps", facts.norm_eps);
  visitor.field("norm_weight", facts.norm_weight);
  visitor.field("norm_gate", facts.norm_gate);
  visitor.field("norm_before_gate", facts.norm_before_gate);
  visitor.field("quant_group", facts.quant_group);
  visitor.field("quant_max", facts.quant_max);
  visitor.field("quant_floor_at", facts.quant_floor_at);
  visitor.field("quant_floor", facts.quant_floor);
  visitor.field("quant_power_of_two", facts.quant_power_of_two);
  visitor.field("quant_from", facts.quant_from);
  visitor.field("quant_divides", facts.quant_divides);
  visitor.field("scale_group_first", facts.scale_group_first);
  visitor.field("stochastic_state", facts.stochastic_state);
  visitor.field("seed_operand", facts.seed_operand);
  visitor.field("round_conv", facts.round_conv);
  visitor.field("round_qk", facts.round_qk);
  visitor.field("round_beta", facts.round_beta);
  visitor.field("round_o", facts.round_o);
  visitor.field("round_norm", facts.round_norm);
  visitor.field("slot_dtype", facts.slot_dtype);
  visitor.field("padding", facts.padding);
  visitor.field("padded_output", facts.padded_output);
  visitor.field("excess_output", facts.excess_output);
  visitor.field("slots_operand", facts.slots_operand);
  visitor.field("offset_dtype", facts.offset_dtype);
  visitor.field("offsets_operand", facts.offsets_operand);
  visitor.field("chunk", facts.chunk);
  visitor.field("initial_states", facts.initial_states);
  visitor.field("final_states", facts.final_states);
  visitor.field("round_prefill_qk", facts.round_prefill_qk);
  visitor.field("flag_dtype", facts.flag_dtype);
  visitor.field("flags_operand", facts.flags_operand);
  visitor.field("snapshots", facts.snapshots);
  visitor.field("snapshot_rows_operand", facts.snapshot_rows_operand);
  visitor.field("snapshot_slots_operand", facts.snapshot_slots_operand);
  visitor.field("tokens", facts.tokens);
  visitor.field("rollback", facts.rollback);
  visitor.field("counts", facts.counts);
  visitor.field("accepted_dtype", facts.accepted_dtype);
  visitor.field("accepted_operand", facts.accepted_operand);
  visit_map(visitor, "in_q", facts.in_q);
  visit_map(visitor, "in_k", facts.in_k);
  visit_map(visitor, "in_v", facts.in_v);
  visit_map(visitor, "in_z", facts.in_z);
  visit_map(visitor, "in_b", facts.in_b);
  visit_map(visitor, "in_a", facts.in_a);
  visit_map(visitor, "in_g", facts.in_g);
  visit_map(visitor, "in_beta", facts.in_beta);
  visit_map(visitor, "in_o", facts.in_o);
  visit_map(visitor, "out_q", facts.out_q);
  visit_map(visitor, "out_k", facts.out_k);
  visit_map(visitor, "out_v", facts.out_v);
  visit_map(visitor, "out_z", facts.out_z);
  visit_map(visitor, "out_b", facts.out_b);
  visit_map(visitor, "out_a", facts.out_a);
  visit_map(visitor, "out_g", facts.out_g);
  visit_map(visitor, "out_beta", facts.out_beta);
  visit_map(visitor, "out_o", facts.out_o);
  visit_map(visitor, "out", facts.out);
  visit_map(visitor, "weight_q", facts.weight_q);
  visit_map(visitor, "weight_k", facts.weight_k);
  visit_map(visitor, "weight_v", facts.weight_v);
  visit_map(visitor, "bias_q", facts.bias_q);
  visit_map(visitor, "bias_k", facts.bias_k);
  visit_map(visitor, "bias_v", facts.bias_v);
  visit_map(visitor, "window_q", facts.window_q);
  visit_map(visitor, "window_k", facts.window_k);
  visit_map(visitor, "window_v", facts.window_v);
  visit_map(visitor, "state", facts.state);
  visit_map(visitor, "intermediate", facts.intermediate);
  visit_map(visitor, "record_k", facts.record_k);
  visit_map(visitor, "record_u", facts.record_u);
  visit_map(visitor, "record_decay", facts.record_decay);
  visit_map(visitor, "state_scale", facts.state_scale);
  visit_map(visitor, "a_log", facts.a_log);
  visit_map(visitor, "dt_bias", facts.dt_bias);
  visit_map(visitor, "norm_w", facts.norm_w);
  visit_map(visitor, "norm_b", facts.norm_b);
  visit_map(visitor, "out_scale", facts.out_scale);
  visitor.close();
}

template <class Visitor, class Value>
void visit_operand(Visitor& visitor, Value& operand) {
  visitor.field("operand", operand.name);
  visitor.nest();
  visitor.field("role", operand.role);
  visitor.field("access", operand.access);
  visitor.field("dtype", operand.dtype);
  visitor.field("leading", operand.leading);
  visitor.field("launch_stride", operand.launch_stride);
  visitor.field("inner", operand.inner);
  visitor.field("align", operand.align);
  visitor.field("optional", operand.optional);
  visitor.field("layout", operand.layout);
  visitor.close();
}

// The number of elements of the list that follows. A wrong number in an altered text must not become an allocation.
template <class Visitor, class List>
void visit_count(Visitor& visitor, std::string_view key, List& list) {
  constexpr std::size_t kMost = 1024;
  std::size_t count = list.size();
  visitor.field(key, count);
  if constexpr (Visitor::kReading) {
    if (count > kMost) visitor.fail("more than " + std::to_string(kMost) + " " + std::string(key));
    list.resize(count);
  }
}

template <class Visitor, class Value>
void visit_launch(Visitor& visitor, Value& launch) {
  visitor.field("threads", launch.threads);
  visitor.field("blocks_per_row", launch.blocks_per_row);
  visitor.field("shared_bytes", launch.shared_bytes);
  visitor.field("grid", launch.grid);
  visitor.field("one_dimension", launch.one_dimension);
  visitor.field("cluster", launch.cluster);
  visitor.field("rows_per_block", launch.rows_per_block);
}

template <class Visitor, class Value>
void visit_choices(Visitor& visitor, Value& choices) {
  visit_count(visitor, "choices", choices);
  visitor.nest();
  for (auto& choice : choices) {
    visitor.field("choice", choice.first);
    visitor.field("value", choice.second);
  }
  visitor.close();
}

template <class Visitor, class Value>
void visit_plan(Visitor& visitor, Value& plan) {
  int format = kPlanFormat;
  visitor.field("plan", format);
  if constexpr (Visitor::kReading) {
    if (format != kPlanFormat) {
      visitor.fail("format " + std::to_string(format) + ", and this program reads format " +
                   std::to_string(kPlanFormat) + ": make the plan again with this version of gdn-gen");
    }
  }
  visitor.field("symbol", plan.symbol);
  visitor.field("spec", plan.spec);
  visitor.field("spec_file", plan.spec_file);
  visitor.field("operation", plan.operation);
  visitor.field("target", plan.target);
  visitor.field("identity", plan.identity);
  visitor.open("launch");
  visit_launch(visitor, plan.launch);
  visitor.close();
  visit_count(visitor, "stages", plan.stages);
  visitor.nest();
  for (auto& stage : plan.stages) {
    visitor.field("stage", stage.symbol);
    visitor.nest();
    visitor.field("body", stage.body);
    visit_launch(visitor, stage.launch);
    visitor.field("resident", stage.resident);
    visitor.close();
  }
  visitor.close();
  visit_count(visitor, "operands", plan.operands);
  visitor.nest();
  for (auto& operand : plan.operands) visit_operand(visitor, operand);
  visitor.close();
  visit_choices(visitor, plan.choices);
  visit_count(visitor, "variants", plan.variants);
  visitor.nest();
  for (auto& variant : plan.variants) {
    visitor.field("variant", variant.symbol);
    visitor.nest();
    visitor.field("max_rows", variant.max_rows);
    visitor.field("edges", variant.edges);
    visit_launch(visitor, variant.launch);
    visit_choices(visitor, variant.choices);
    visitor.close();
  }
  visitor.close();
  visit_facts(visitor, plan.facts);
}

}  // namespace

std::string to_text(const KernelPlan& plan) {
  Writer writer;
  visit_plan(writer, plan);
  return writer.take();
}

KernelPlan parse_plan(std::string_view text) {
  Reader reader(text);
  KernelPlan plan;
  visit_plan(reader, plan);
  reader.finish();
  return plan;
}

}  // namespace gdn::core
