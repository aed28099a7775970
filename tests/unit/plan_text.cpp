// to_text and parse_plan are inverse, field by field, and refuse what is not a plan.
#include <string>
#include <vector>

#include "core/arrivals.h"
#include "core/plan.h"
#include "support/catch.h"

namespace {

using namespace gdn::core;

// A new field must get its line in plan.cpp and its value below: these numbers say that somebody looked.
static_assert(sizeof(Map) == 72, "Map has another field: see plan.cpp and this test");
static_assert(sizeof(Facts) == 232 + 39 * sizeof(Map), "Facts has another field: see plan.cpp and this test");
static_assert(sizeof(LaunchRule) == 24, "LaunchRule has another field: see plan.cpp and this test");

std::vector<Map*> maps_of(Facts& f) {
  return {&f.in_q,     &f.in_k,         &f.in_v,      &f.in_z,       &f.in_b,         &f.in_a,     &f.in_g,
          &f.in_beta,  &f.in_o,         &f.out_q,     &f.out_k,      &f.out_v,        &f.out_z,    &f.out_b,
          &f.out_a,    &f.out_g,        &f.out_beta,  &f.out_o,      &f.out,          &f.weight_q, &f.weight_k,
          &f.weight_v, &f.bias_q,       &f.bias_k,    &f.bias_v,     &f.window_q,     &f.window_k, &f.window_v,
          &f.state,    &f.intermediate, &f.record_k,  &f.record_u,   &f.record_decay, &f.a_log,    &f.dt_bias,
          &f.norm_w,   &f.norm_b,       &f.out_scale, &f.state_scale};
}

// Every field differs from its default, and no two numbers are alike.
KernelPlan full_plan() {
  KernelPlan plan;
  plan.symbol = "gdn_small_decode_sm_90a";
  plan.spec = "small";
  plan.spec_file = "specs/small.yaml";
  plan.operation = "decode";
  plan.target = "sm_90a";
  plan.identity = make_identity("decode\nwith a second line, a \\ and a\rreturn");
  plan.launch = {256, 16, 4096, Grid::kSequences, true, 8, 16};
  plan.stages = {{"norm", "gdn_a_norm", {64, 2, 0, Grid::kTokens, true, 1, 4}, 3},
                 {"last", "gdn_a_last", {128, 3, 16, Grid::kSequences, false, 2, 1}}};
  plan.choices = {{"threads", 256}, {"rows_per_pass", -4}};
  plan.variants = {
      {3, "gdn_small_decode_sm_90a_to_3", {64, 32, 128, Grid::kTokens, false, 2}, {{"threads", 64}}, Edges::kPlain},
      {3,
       "gdn_small_decode_sm_90a_to_3_programmatic",
       {32, 32, 128, Grid::kTokens, false, 4},
       {},
       Edges::kProgrammatic},
      {9, "gdn_small_decode_sm_90a_to_9", {128, 8, 0, Grid::kSequences, true, 1}, {}}};
  for (int i = 0; i < 3; ++i) {
    Operand operand;
    operand.name = "operand " + std::to_string(i);
    operand.role = static_cast<Role>(i + 1);
    operand.access = static_cast<Access>(i);
    operand.dtype = static_cast<DType>(i + 1);
    operand.leading = static_cast<Leading>(i);
    operand.launch_stride = i != 1;
    operand.inner = (std::int64_t{1} << 40) + i;
    operand.align = 16 + i;
    operand.optional = i == 1;
    if (i != 2) operand.layout = make_identity("layout " + std::to_string(i));
    plan.operands.push_back(operand);
  }
  Facts& f = plan.facts;
  f.rule = Rule::kKda;
  f.key_heads = 2;
  f.value_heads = 6;
  f.group = 3;
  f.pairing = Pairing::kTiled;
  f.key_dim = 32;
  f.value_dim = 48;
  f.conv_width = 4;
  f.conv_activation = Activation::kSigmoid;
  f.conv_bias = true;
  f.taps_oldest_first = false;
  f.window = 5;
  f.anchor = Anchor::kLast;
  f.qk_norm = false;
  f.qk_eps = 1e-6;
  f.qk_eps_at = EpsAt::kMax;
  f.q_scale = 0.1;
  f.k_scale = -1.0 / 3;
  f.decay_form = DecayForm::kBounded;
  f.softplus_threshold = 20;
  f.decay_bound = -5.5;
  f.a_stored = AStored::kNegativeExp;
  f.g_handover = Domain::kLog2;
  f.beta_factor = 2;
  f.norm_eps = 5e-324;
  f.norm_weight = NormWeight::kTwiceOnePlusW;
  f.norm_gate = Activation::kSilu;
  f.norm_before_gate = false;
  f.round_conv = DType::kBf16;
  f.round_qk = DType::kFp16;
  f.round_beta = DType::kE4m3fn;
  f.round_o = DType::kE4m3fnuz;
  f.round_norm = DType::kBf16;
  f.stochastic_state = true;
  f.seed_operand = 11;
  f.quant_group = 48;
  f.quant_max = 224;
  f.quant_floor_at = FloorAt::kReplace;
  f.quant_floor = 1e-10;
  f.quant_power_of_two = true;
  f.quant_from = DType::kBf16;
  f.quant_divides = true;
  f.scale_group_first = true;
  f.slot_dtype = DType::kInt64;
  f.padding = Padding::kZeroOrNegative;
  f.padded_output = PaddedOutput::kUntouched;
  f.excess_output = PaddedOutput::kZero;
  f.slots_operand = 7;
  f.offset_dtype = DType::kInt64;
  f.offsets_operand = 9;
  f.chunk = 64;
  f.initial_states = InitialStates::kFlagged;
  f.final_states = true;
  f.round_prefill_qk = DType::kFp16;
  f.flag_dtype = DType::kInt32;
  f.flags_operand = 11;
  f.snapshots = true;
  f.snapshot_rows_operand = 12;
  f.snapshot_slots_operand = 13;
  f.tokens = 8;
  f.rollback = Rollback::kReplay;
  f.counts = Counts::kDrafts;
  f.accepted_dtype = DType::kInt64;
  f.accepted_operand = 10;
  std::int64_t number = 100;
  for (Map* map : maps_of(f)) {
    map->operand = static_cast<int>(number % 32);
    map->dtype = DType::kFp16;
    map->heads = number % 2 == 0 ? HeadKind::kKey : HeadKind::kValue;
    for (std::int64_t* field : {&map->offset, &map->key_head_stride, &map->group_stride, &map->inner_stride,
                                &map->outer_stride, &map->tap_stride, &map->run, &map->align}) {
      *field = ++number;
    }
  }
  return plan;
}

TEST_CASE("a plan comes back from its text with every field") {
  KernelPlan plan = full_plan();
  const std::string text = to_text(plan);
  KernelPlan back = parse_plan(text);
  CHECK(to_text(back) == text);

  CHECK(back.symbol == plan.symbol);
  CHECK(back.spec == plan.spec);
  CHECK(back.spec_file == plan.spec_file);
  CHECK(back.operation == plan.operation);
  CHECK(back.target == plan.target);
  CHECK(back.identity.id == plan.identity.id);
  CHECK(back.identity.text == plan.identity.text);
  CHECK(back.launch.threads == plan.launch.threads);
  CHECK(back.launch.blocks_per_row == plan.launch.blocks_per_row);
  CHECK(back.launch.shared_bytes == plan.launch.shared_bytes);
  CHECK(back.launch.grid == plan.launch.grid);
  CHECK(back.launch.one_dimension == plan.launch.one_dimension);
  CHECK(back.launch.cluster == plan.launch.cluster);
  CHECK(back.launch.rows_per_block == plan.launch.rows_per_block);
  REQUIRE(back.stages.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(back.stages[i].body == plan.stages[i].body);
    CHECK(back.stages[i].symbol == plan.stages[i].symbol);
    CHECK(back.stages[i].launch.threads == plan.stages[i].launch.threads);
    CHECK(back.stages[i].launch.blocks_per_row == plan.stages[i].launch.blocks_per_row);
    CHECK(back.stages[i].launch.shared_bytes == plan.stages[i].launch.shared_bytes);
    CHECK(back.stages[i].launch.grid == plan.stages[i].launch.grid);
    CHECK(back.stages[i].launch.rows_per_block == plan.stages[i].launch.rows_per_block);
    CHECK(back.stages[i].resident == plan.stages[i].resident);
  }
  CHECK(back.choices == plan.choices);
  REQUIRE(back.variants.size() == plan.variants.size());
  for (std::size_t i = 0; i < plan.variants.size(); ++i) {
    const Variant &a = plan.variants[i], &b = back.variants[i];
    CHECK(a.max_rows == b.max_rows);
    CHECK(a.symbol == b.symbol);
    CHECK(a.edges == b.edges);
    CHECK(a.choices == b.choices);
    CHECK(a.launch.threads == b.launch.threads);
    CHECK(a.launch.blocks_per_row == b.launch.blocks_per_row);
    CHECK(a.launch.shared_bytes == b.launch.shared_bytes);
    CHECK(a.launch.grid == b.launch.grid);
    CHECK(a.launch.one_dimension == b.launch.one_dimension);
    CHECK(a.launch.cluster == b.launch.cluster);
  }
  REQUIRE(back.operands.size() == plan.operands.size());
  for (std::size_t i = 0; i < plan.operands.size(); ++i) {
    const Operand &a = plan.operands[i], &b = back.operands[i];
    CHECK(a.name == b.name);
    CHECK(a.role == b.role);
    CHECK(a.access == b.access);
    CHECK(a.dtype == b.dtype);
    CHECK(a.leading == b.leading);
    CHECK(a.launch_stride == b.launch_stride);
    CHECK(a.inner == b.inner);
    CHECK(a.align == b.align);
    CHECK(a.optional == b.optional);
    CHECK(a.layout.id == b.layout.id);
    CHECK(a.layout.text == b.layout.text);
  }
  Facts &a = plan.facts, &b = back.facts;
  CHECK(a.qk_eps == b.qk_eps);  // to the bit
  CHECK(a.q_scale == b.q_scale);
  CHECK(a.k_scale == b.k_scale);
  CHECK(a.norm_eps == b.norm_eps);
  CHECK(a.decay_bound == b.decay_bound);
  CHECK(a.slot_dtype == b.slot_dtype);
  const std::vector<Map*> before = maps_of(a), after = maps_of(b);
  for (std::size_t i = 0; i < before.size(); ++i) {
    CHECK(before[i]->operand == after[i]->operand);
    CHECK(before[i]->heads == after[i]->heads);
    CHECK(before[i]->tap_stride == after[i]->tap_stride);
    CHECK(before[i]->align == after[i]->align);
  }
}

// A field that the text left out would not change it.
TEST_CASE("each byte of the facts that means something shows in the text") {
  const KernelPlan plan = full_plan();
  const std::string text = to_text(plan);
  const auto differs = [&](auto change) {
    KernelPlan changed = plan;
    change(changed);
    return to_text(changed) != text;
  };
  CHECK(differs([](KernelPlan& p) { p.facts.rule = Rule::kGdn; }));
  CHECK(differs([](KernelPlan& p) { p.facts.pairing = Pairing::kGrouped; }));
  CHECK(differs([](KernelPlan& p) { p.facts.conv_bias = false; }));
  CHECK(differs([](KernelPlan& p) { p.facts.taps_oldest_first = true; }));
  CHECK(differs([](KernelPlan& p) { p.facts.anchor = Anchor::kFirst; }));
  CHECK(differs([](KernelPlan& p) { p.facts.qk_norm = true; }));
  CHECK(differs([](KernelPlan& p) { p.facts.g_handover = Domain::kExp; }));
  CHECK(differs([](KernelPlan& p) { p.facts.norm_before_gate = true; }));
  CHECK(differs([](KernelPlan& p) { p.facts.round_o = DType::kFp32; }));
  CHECK(differs([](KernelPlan& p) { p.facts.stochastic_state = false; }));
  CHECK(differs([](KernelPlan& p) { p.facts.seed_operand = -1; }));
  CHECK(differs([](KernelPlan& p) { p.facts.quant_group = 0; }));
  CHECK(differs([](KernelPlan& p) { p.facts.quant_max = 240; }));
  CHECK(differs([](KernelPlan& p) { p.facts.quant_floor_at = FloorAt::kScale; }));
  CHECK(differs([](KernelPlan& p) { p.facts.quant_floor = 0; }));
  CHECK(differs([](KernelPlan& p) { p.facts.quant_power_of_two = false; }));
  CHECK(differs([](KernelPlan& p) { p.facts.quant_from = DType::kFp32; }));
  CHECK(differs([](KernelPlan& p) { p.facts.quant_divides = false; }));
  CHECK(differs([](KernelPlan& p) { p.facts.scale_group_first = false; }));
  CHECK(differs([](KernelPlan& p) { p.facts.offset_dtype = DType::kInt32; }));
  CHECK(differs([](KernelPlan& p) { p.facts.rollback = Rollback::kSlots; }));
  CHECK(differs([](KernelPlan& p) { p.facts.counts = Counts::kTokens; }));
  CHECK(differs([](KernelPlan& p) { p.facts.accepted_dtype = DType::kInt32; }));
  CHECK(differs([](KernelPlan& p) { p.facts.padded_output = PaddedOutput::kZero; }));
  CHECK(differs([](KernelPlan& p) { p.facts.excess_output = PaddedOutput::kUntouched; }));
  for (std::size_t i = 0; i < 39; ++i) {
    CHECK(differs([i](KernelPlan& p) { maps_of(p.facts)[i]->outer_stride = 7; }));
    CHECK(differs([i](KernelPlan& p) { maps_of(p.facts)[i]->operand = -1; }));
  }
}

TEST_CASE("an empty plan and absent parts come back too") {
  const KernelPlan plan;
  const std::string text = to_text(plan);
  CHECK(text.find("in_q: absent\n") != std::string::npos);
  KernelPlan back = parse_plan(text);
  CHECK(to_text(back) == text);
  CHECK_FALSE(back.facts.state.present());
}

std::string refusal(const std::string& text) {
  try {
    parse_plan(text);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "accepted";
}

TEST_CASE("what is no plan is refused with its line") {
  const std::string good = to_text(full_plan());
  REQUIRE(refusal(good) == "accepted");
  const auto with = [&good](const std::string& old_text, const std::string& new_text) {
    std::string text = good;
    const std::size_t at = text.find(old_text);
    REQUIRE(at != std::string::npos);
    return refusal(text.replace(at, old_text.size(), new_text));
  };
  CHECK_THAT(refusal(""), Catch::Contains("line 1"));
  CHECK_THAT(with("plan: 6", "plan: 1"), Catch::Contains("line 1: format 1"));
  CHECK_THAT(with("symbol:", "simbol:"), Catch::Contains("line 2"));
  CHECK_THAT(with("threads: 256", "threads: 256x"), Catch::Contains("no number"));
  CHECK_THAT(with("threads: 256", "threads: 99999999999"), Catch::Contains("no number"));
  CHECK_THAT(with("pairing: tiled", "pairing: tilde"), Catch::Contains("no value of `pairing`"));
  CHECK_THAT(with("round_conv: bf16", "round_conv: bf17"), Catch::Contains("no dtype"));
  CHECK_THAT(with("layout 0", "layout 9"), Catch::Contains("altered"));
  CHECK_THAT(with("operands: 3", "operands: 2"), Catch::Contains("choices"));
  CHECK_THAT(with("operands: 3", "operands: 4000000000"), Catch::Contains("more than"));
  CHECK_THAT(with("tap=", "tip="), Catch::Contains("tap="));
  CHECK_THAT(with("\\nwith", "\\twith"), Catch::Contains("escape"));
  CHECK_THAT(refusal(good + "more\n"), Catch::Contains("after the end"));
  // Cut anywhere, it is no plan: no cut reads as a shorter one.
  for (std::size_t length = 0; length < good.size(); length += 7) {
    INFO(length);
    CHECK(refusal(good.substr(0, length)) != "accepted");
  }
}

TEST_CASE("a launch takes the first variant that its rows fit, and the plan's own entry point beyond them") {
  const KernelPlan plan = full_plan();
  const auto variant = [&](int rows, Edge edge = Edge::kPlain) {
    gdn::Args args{};
    args.rows = rows;
    return variant_of(plan, args, edge);
  };
  CHECK(variant(1) == 0);
  CHECK(variant(3) == 0);
  CHECK(variant(4) == 2);
  CHECK(variant(9) == 2);
  CHECK(variant(10) == 3);
  CHECK(variant(3, Edge::kProgrammatic) == 1);
  CHECK(variant(4, Edge::kProgrammatic) == 2);
  CHECK(distinct_forms(plan).size() == 3);
}

}  // namespace
