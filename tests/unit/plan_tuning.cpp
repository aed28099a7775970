// The tuning table: its format, and how its rows and the written model reach a plan.
#include "core/arrivals.h"
#include "emit/source.h"
#include "layout/resolve.h"
#include "plan/candidates.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/rollback_specs.h"
#include "support/specs.h"

using namespace gdn;

namespace {

plan::TuningTable table(const std::string& rows) { return plan::TuningTable::parse("gdn-gen tuning 3\n" + rows); }

core::KernelPlan decode_plan(const char* target, const plan::TuningTable& tuning) {
  static const layout::Layout layout = layout::resolve(test::fuzz("fuzz_gdn"));
  return plan::make(layout, "decode", *plan::find_target(target), tuning).kernel;
}

// Threads of the launch for so many rows on such an edge.
int threads(const core::KernelPlan& plan, int rows, core::Edge edge = core::Edge::kPlain) {
  Args args{};
  args.rows = rows;
  const std::size_t i = core::variant_of(plan, args, edge);
  return (i < plan.variants.size() ? plan.variants[i].launch : plan.launch).threads;
}

constexpr core::Edge kEarly = core::Edge::kProgrammatic;

}  // namespace

TEST_CASE("a tuning table reads back as it was written") {
  const std::string text =
      "gdn-gen tuning 3\nsm_90a decode * 4 threads=128 rows_per_pass=8\nsm_90a decode fuzz_gdn 4 plain threads=64\n"
      "sm_90a decode fuzz_gdn * programmatic threads=32\nsm_80 decode fuzz_gdn * threads=64\n";
  CHECK(plan::TuningTable::parse(text).to_text() == text);
  CHECK(table("sm_90a decode * 4 * threads=128\n").to_text() == table("sm_90a decode * 4 threads=128\n").to_text());
}

TEST_CASE("a malformed tuning table names the line") {
  struct Case {
    const char *text, *expected;
  };
  const Case cases[] = {
      {"", "line 1: the first line must be"},
      {"gdn-gen tuning 1\n", "line 1: the first line must be"},
      {"gdn-gen tuning 2\nsm_90a decode * * threads=128\n", "line 1: a table of version 2"},
      {"gdn-gen tuning 3\nsm_90a decode * * programatic threads=1\n", "line 2: \"programatic\" is not choice=integer"},
      {"gdn-gen tuning 3\nsm_90a decode * * plain plain threads=1\n", "line 2: \"plain\" is not choice=integer"},
      {"gdn-gen tuning 3\nsm_90a decode * * threads=1 plain\n", "line 2: \"plain\" is not choice=integer"},
      {"gdn-gen tuning 3\nsm_90a decode * * plain\n", "line 2: a row without choices"},
      {"gdn-gen tuning 3\nsm_80 decode * * programmatic threads=128\n", "line 2: no launch of decode on sm_80"},
      {"gdn-gen tuning 3\nsm_90a prefill * * programmatic threads=128\n", "line 2: no launch of prefill on sm_90a"},
      {"gdn-gen tuning 3\nsm_90a decode *\n", "line 2: a row is"},
      {"gdn-gen tuning 3\nsm_90a decode * 0 threads=1\n", "line 2: \"0\" is no number of rows"},
      {"gdn-gen tuning 3\nsm_90a decode * threads=128\n", "line 2: \"threads=128\" is no number of rows"},
      {"gdn-gen tuning 3\nsm_90a decode * * threads\n", "line 2: \"threads\" is not choice=integer"},
      {"gdn-gen tuning 3\nsm_90a decode * * threads=12x\n", "line 2: \"threads=12x\" is not"},
      {"gdn-gen tuning 3\nsm_90a decode * 7\n", "line 2: a row without choices"}};
  for (const Case& c : cases) {
    INFO(c.text);
    CHECK_THROWS_WITH(plan::TuningTable::parse(c.text), Catch::Contains(c.expected));
  }
}

TEST_CASE("the spec's own row wins over the row for all, and both over the model") {
  CHECK(threads(decode_plan("sm_90a", table("")), 100000) == 512);
  CHECK(threads(decode_plan("sm_90a", table("sm_90a decode * * threads=128\n")), 100000) == 128);
  CHECK(threads(decode_plan("sm_90a", table("sm_90a decode fuzz_gdn * threads=64\nsm_90a decode * * threads=128\n")),
                100000) == 64);
  CHECK(threads(decode_plan("sm_80", table("sm_90a decode * * threads=128\n")), 100000) == 512);
}

TEST_CASE("rows of the table serve launches of up to their number of rows, the model those beyond") {
  const core::KernelPlan plan =
      decode_plan("sm_90a", table("sm_90a decode fuzz_gdn 8 threads=128\nsm_90a decode fuzz_gdn 3 threads=64\n"));
  CHECK(threads(plan, 3) == 64);
  CHECK(threads(plan, 4) == 128);
  CHECK(threads(plan, 8) == 128);
  CHECK(threads(plan, 100000) == 512);
  for (const core::Variant& variant : plan.variants) {
    CHECK(variant.symbol == plan.symbol + "_to_" + std::to_string(variant.max_rows));
    CHECK(variant.edges == core::Edges::kBoth);
    // What a row leaves out is the model's.
    CHECK(plan::choice_of(variant.choices, "head_parts", 0) >= 1);
  }
}

TEST_CASE("a row for one kind of edge serves launches on such edges, and a plain one those that have none") {
  const core::KernelPlan plan = decode_plan("sm_90a", table("sm_90a decode fuzz_gdn 4 plain threads=32\n"
                                                            "sm_90a decode fuzz_gdn 8 threads=64\n"
                                                            "sm_90a decode fuzz_gdn 4 programmatic threads=96\n"
                                                            "sm_90a decode fuzz_gdn 16 plain threads=128\n"
                                                            "sm_90a decode * 16 programmatic threads=160\n"
                                                            "sm_90a decode fuzz_gdn * plain threads=192\n"));
  CHECK(threads(plan, 4) == 32);
  CHECK(threads(plan, 4, kEarly) == 96);
  CHECK(threads(plan, 5) == 64);
  CHECK(threads(plan, 5, kEarly) == 64);
  CHECK(threads(plan, 9) == 128);
  CHECK(threads(plan, 9, kEarly) == 160);  // a row for any spec, but for such edges
  CHECK(threads(plan, 17, kEarly) == 192);
  CHECK(plan.variants.size() == 5);
}

TEST_CASE("a target or an operation without programmatic edges has one form for launches of as many rows") {
  plan::TuningTable tuning = table("sm_80 decode fuzz_gdn 4 plain threads=32\n");
  for (const core::Variant& variant : decode_plan("sm_80", tuning).variants) {
    CHECK(variant.edges == core::Edges::kBoth);
  }
}

TEST_CASE("equal choices are one form, whatever rows and edges they are for") {
  const char* rows =
      "sm_90a decode fuzz_gdn 4 plain threads=32\nsm_90a decode fuzz_gdn 8 plain threads=64\n"
      "sm_90a decode fuzz_gdn * plain threads=128\nsm_90a decode fuzz_gdn 2 programmatic threads=64\n"
      "sm_90a decode fuzz_gdn 4 programmatic threads=96\n"
      "sm_90a decode fuzz_gdn 16 programmatic threads=128\n"
      "sm_90a decode fuzz_gdn * programmatic threads=160\n";
  const core::KernelPlan plan = decode_plan("sm_90a", table(rows));
  std::vector<std::string> symbols;
  for (const core::Variant& variant : plan.variants) symbols.push_back(variant.symbol.substr(plan.symbol.size()));
  CHECK(symbols == std::vector<std::string>{"_to_2_programmatic", "_to_4", "_to_4_programmatic", "_to_2_programmatic",
                                            "", "_programmatic"});
  CHECK(core::distinct_forms(plan).size() == 4);
  for (const int count : {1, 4, 8, 16, 100}) {
    for (const core::Edge edge : {core::Edge::kPlain, kEarly}) {
      INFO(count << " rows on " << core::to_string(edge) << " edges");
      // A plan for such launches alone has what they take, and nothing else.
      static const layout::Layout layout = layout::resolve(test::fuzz("fuzz_gdn"));
      const core::KernelPlan narrow =
          plan::make(layout, "decode", *plan::find_target("sm_90a"), table(rows), count, core::only(edge)).kernel;
      CHECK(narrow.variants.empty());
      CHECK(narrow.launch.threads == threads(plan, count, edge));
      const core::KernelPlan of_rows =
          plan::make(layout, "decode", *plan::find_target("sm_90a"), table(rows), count).kernel;
      CHECK(threads(of_rows, 1, edge) == threads(plan, count, edge));
      CHECK(core::distinct_forms(of_rows).size() <= 1);
      const core::KernelPlan of_edges =
          plan::make(layout, "decode", *plan::find_target("sm_90a"), table(rows), 0, core::only(edge)).kernel;
      CHECK(threads(of_edges, count, core::Edge::kPlain) == threads(plan, count, edge));
      CHECK(threads(of_edges, count, kEarly) == threads(plan, count, edge));
    }
  }
}

TEST_CASE("rows of one kind of edge are replaced without a change for the other") {
  const std::vector<plan::Band> narrow = {{4, {{"threads", 64}}}, {0, {{"threads", 128}}}};
  plan::TuningTable tuning = table(
      "sm_80 decode * * threads=32\nsm_90a decode a 4 threads=64\n"
      "sm_90a decode a * threads=256\nsm_90a decode b * threads=32\n");
  tuning.set("sm_90a", "decode", "a", narrow, kEarly);
  CHECK(tuning.to_text() ==
        "gdn-gen tuning 3\nsm_80 decode * * threads=32\nsm_90a decode a 4 threads=64\n"
        "sm_90a decode a * plain threads=256\nsm_90a decode a * programmatic threads=128\n"
        "sm_90a decode b * threads=32\n");
  tuning.set("sm_90a", "decode", "a", {{2, {{"threads", 32}}}, {0, {{"threads", 128}}}}, core::Edge::kPlain);
  CHECK(tuning.to_text() ==
        "gdn-gen tuning 3\nsm_80 decode * * threads=32\nsm_90a decode a 2 plain threads=32\n"
        "sm_90a decode a 4 programmatic threads=64\nsm_90a decode a * threads=128\n"
        "sm_90a decode b * threads=32\n");
  tuning.set("sm_90a", "decode", "a", narrow);
  CHECK(tuning.to_text() ==
        "gdn-gen tuning 3\nsm_80 decode * * threads=32\nsm_90a decode a 4 threads=64\n"
        "sm_90a decode a * threads=128\nsm_90a decode b * threads=32\n");
}

TEST_CASE("the model splits a key head over a cluster only where few rows leave multiprocessors idle") {
  const core::KernelPlan plan = decode_plan("sm_90a", plan::TuningTable::none());
  REQUIRE(plan.variants.size() >= 2);
  int before = 0;
  for (const core::Variant& variant : plan.variants) {
    CHECK(variant.max_rows > before);
    before = variant.max_rows;
    CHECK(variant.launch.cluster > 1);
    CHECK(variant.launch.blocks_per_row == plan.facts.key_heads * variant.launch.cluster);
  }
  // Fewer rows, more blocks a row; as many blocks as there are multiprocessors at most, where channels are split.
  CHECK(plan.variants[0].launch.blocks_per_row > plan.variants.back().launch.blocks_per_row);
  CHECK(plan.variants[0].launch.blocks_per_row * plan.variants[0].max_rows <= 132);
  CHECK(plan.launch.cluster == 1);
  CHECK(core::arrivals_operand(plan) < 0);
}

// One row of 16 key heads of group 2 leaves three quarters of an A100's multiprocessors idle with a block a key head.
TEST_CASE("without clusters the model splits a key head over blocks that meet in memory, where that pays") {
  struct Case {
    const char *target, *spec;
    int first_rows, first_parts;  // launches of up to so many rows split value heads and channels
    bool channels;
  };
  // 64 KB of state a value head in fp32, 32 KB in bf16: the second streams for 1 us, less than handing o over takes.
  const Case cases[] = {{"sm_80", "qwen3_next_80b", 1, 8, true},  {"sm_120a", "qwen3_next_80b", 2, 8, true},
                        {"gfx942", "qwen3_next_80b", 4, 8, true}, {"gfx1200", "qwen3_next_80b", 1, 2, false},
                        {"sm_80", "qwen3_5_27b", 2, 3, false},    {"gfx942", "qwen3_5_27b", 6, 3, false}};
  for (const Case& c : cases) {
    INFO(c.target << " " << c.spec);
    const plan::Target& target = *plan::find_target(c.target);
    const layout::Layout layout = layout::resolve(test::released(c.spec));
    const core::KernelPlan plan = plan::make(layout, "decode", target, plan::TuningTable::none()).kernel;
    REQUIRE(!plan.variants.empty());
    CHECK(plan.variants[0].max_rows == c.first_rows);
    CHECK(plan.variants[0].launch.blocks_per_row == plan.facts.key_heads * c.first_parts);
    CHECK((plan::choice_of(plan.variants[0].choices, "row_parts", 0) > 1) == c.channels);
    for (const core::Variant& variant : plan.variants) {
      CHECK(variant.launch.cluster == 1);
      CHECK(core::meets_in_memory(plan, variant.launch, variant.choices));
      // No more blocks than fit side by side: two a multiprocessor.
      CHECK(variant.max_rows * variant.launch.blocks_per_row <= 2 * target.processors);
    }
    CHECK(plan.launch.blocks_per_row == plan.facts.key_heads);
    CHECK_FALSE(core::meets_in_memory(plan, plan.launch, plan.choices));
    CHECK(core::arrivals_operand(plan) == static_cast<int>(plan.operands.size()) - 1);
    CHECK(plan.operands.back().optional);

    // A launch with the memory takes the split form, one without it the form of any number of rows.
    Args args{};
    args.rows = 1;
    CHECK(core::variant_of(plan, args) == plan.variants.size());
    args.operand[core::arrivals_operand(plan)] = &args;
    CHECK(core::variant_of(plan, args) == 0);
    args.rows = plan.variants.back().max_rows + 1;
    CHECK(core::variant_of(plan, args) == plan.variants.size());
  }
}

TEST_CASE("a plan for launches of so many rows has their form alone, over the same operands") {
  const auto form = [](const core::KernelPlan& plan, int rows) {
    const std::size_t i = core::variant_of(plan, rows, core::Edge::kPlain);
    return i < plan.variants.size() ? plan.variants[i].choices : plan.choices;
  };
  int narrowed = 0;
  for (const char* name : {"sm_80", "sm_90a", "gfx942", "avx512bf16"}) {
    const plan::Target& target = *plan::find_target(name);
    const layout::Layout layout = layout::resolve(test::released("qwen3_next_80b"));
    const core::KernelPlan all = plan::make(layout, "decode", target).kernel;
    for (const int rows : {1, 2, 5, 1000}) {
      INFO(name << " " << rows);
      const core::KernelPlan plan =
          plan::make(layout, "decode", target, plan::TuningTable::built_in(), rows, core::Edges::kPlain).kernel;
      CHECK(plan.identity == all.identity);
      REQUIRE(plan.operands.size() == all.operands.size());
      CHECK(plan.symbol == all.symbol);
      CHECK(form(plan, rows) == form(all, rows));
      if (all.variants.empty()) continue;
      CHECK(plan.variants.size() < all.variants.size() + (rows == 1 ? 1 : 0));
      // Beyond its rows: the same form, or, where its blocks need memory of the launch, the one that does without.
      if (plan.variants.empty()) continue;
      ++narrowed;
      REQUIRE(plan.variants.size() == 1);
      CHECK(core::meets_in_memory(plan, plan.variants[0].launch, plan.variants[0].choices));
      CHECK(plan.choices == all.choices);
    }
  }
  CHECK(narrowed > 0);
}

TEST_CASE("a tuning row may have blocks meet in memory on a target with clusters too") {
  const core::KernelPlan plan =
      decode_plan("sm_90a", table("sm_90a decode * 4 threads=128 head_parts=3 row_parts=4 arrivals=1\n"));
  CHECK(plan.variants[0].launch.cluster == 1);
  CHECK(plan.variants[0].launch.blocks_per_row == plan.facts.key_heads * 12);
  REQUIRE(core::arrivals_operand(plan) >= 0);
  CHECK(plan.operands.back().optional);
  const core::KernelPlan always =
      decode_plan("sm_90a", table("sm_90a decode * * threads=128 head_parts=3 row_parts=4 arrivals=1\n"));
  CHECK_FALSE(always.operands.back().optional);
}

TEST_CASE("a tuner tries parts that meet in memory too, where there are few rows") {
  const core::Facts facts = decode_plan("sm_90a", plan::TuningTable::none()).facts;
  const plan::Target& target = *plan::find_target("sm_90a");
  const auto count = [&](int rows, int most_parts) {
    int found = 0;
    for (const plan::Choices& choices : plan::candidates(target, "decode", facts, rows)) {
      CHECK(plan::choices_fault(target, "decode", facts, choices).empty());
      const std::int64_t parts = plan::choice_of(choices, "head_parts", 1) * plan::choice_of(choices, "row_parts", 1);
      found += plan::choice_of(choices, "arrivals", 0) == 1 && parts > most_parts ? 1 : 0;
    }
    return found;
  };
  CHECK(count(1, 1) > 0);
  CHECK(count(1, 8) > 0);  // more than a cluster has
  CHECK(count(1000, 1) == 0);
}

TEST_CASE("constant value heads and passes in turns are for blocks that have equally many heads") {
  const core::Facts facts = decode_plan("sm_90a", plan::TuningTable::none()).facts;
  const plan::Target& target = *plan::find_target("sm_90a");
  REQUIRE(facts.group == 3);
  for (const std::string name : {"fixed_heads", "in_turns"}) {
    const auto fault = [&](int parts, int chosen) {
      return plan::choices_fault(target, "decode", facts, {{"threads", 128}, {"head_parts", parts}, {name, chosen}});
    };
    INFO(name);
    CHECK(fault(1, 1).empty());
    CHECK(fault(3, 1).empty());
    CHECK(fault(2, 0).empty());
    CHECK(fault(2, 1).rfind(name + " = 1", 0) == 0);
    CHECK(fault(1, 2).rfind(name + " = 2", 0) == 0);
  }
}

TEST_CASE("sums are made at once where the plan says so of 16-bit states alone") {
  const plan::Target& target = *plan::find_target("sm_90a");
  const plan::Choices choices = {{"threads", 128}, {"at_once", 1}};
  const auto fault = [&](const char* name, const char* operation) {
    const layout::Layout layout = layout::resolve(test::fuzz(name));
    const core::Facts facts = plan::make(layout, operation, target, plan::TuningTable::none()).kernel.facts;
    return plan::choices_fault(target, operation, facts, choices);
  };
  CHECK(fault("fuzz_separate_tiled_vk_bf16_bf16", "decode").empty());
  CHECK(fault("fuzz_separate_tiled_vk_bf16_bf16", "delta_update").rfind("at_once = 1", 0) == 0);
  CHECK(fault("fuzz_separate_tiled_kv_fp32_fp32", "decode").rfind("at_once = 1", 0) == 0);
  CHECK(fault("fuzz_gdn", "decode").rfind("at_once = 1", 0) == 0);
}

TEST_CASE("a form for few rows has no choice that only the plan's own makes") {
  static const layout::Layout layout = layout::resolve(test::fuzz("fuzz_gdn"));
  const std::string text =
      emit::source(plan::make(layout, "decode", *plan::find_target("sm_90a"),
                              table("sm_90a decode * 4 threads=64\nsm_90a decode * * threads=128 fixed_heads=1\n")))
          .text;
  const std::size_t few = text.find("struct DecodeTo4");
  REQUIRE(few != std::string::npos);
  CHECK(text.find("kFixedHeads = 0", few) != std::string::npos);
  CHECK(text.find("kFixedHeads = 1", few) == std::string::npos);
}

TEST_CASE("other orders of a head's rows are for decode over a state with the key channel innermost") {
  const plan::Target& target = *plan::find_target("sm_90a");
  core::Facts facts = decode_plan("sm_90a", plan::TuningTable::none()).facts;
  REQUIRE(facts.state.inner_stride == 1);
  const auto fault = [&](const char* operation, int order, int ahead) {
    return plan::choices_fault(target, operation, facts, {{"threads", 128}, {"row_order", order}, {"ahead", ahead}});
  };
  CHECK(fault("decode", 0, 1).empty());
  CHECK(fault("decode", 3, 0).empty());
  CHECK(fault("decode", 4, 0).rfind("row_order = 4", 0) == 0);
  CHECK(fault("decode", -1, 0).rfind("row_order = -1", 0) == 0);
  CHECK(fault("decode", 1, 1).rfind("ahead is of passes", 0) == 0);
  CHECK(fault("delta_update", 1, 0).rfind("row_order = 1", 0) == 0);
  facts.state.inner_stride = 16;
  CHECK(fault("decode", 1, 0).rfind("row_order = 1", 0) == 0);
}

TEST_CASE("weights are asked for early by decode") {
  const core::Facts facts = decode_plan("sm_90a", plan::TuningTable::none()).facts;
  for (const std::string name : {"weights_ahead", "norm_ahead"}) {
    const auto fault = [&](const char* operation, int chosen) {
      return plan::choices_fault(*plan::find_target("sm_90a"), operation, facts, {{"threads", 128}, {name, chosen}});
    };
    CHECK(fault("decode", 1).empty());
    CHECK(fault("decode", 2).rfind(name + " = 2", 0) == 0);
    CHECK(fault("delta_update", 1).rfind(name + " = 1", 0) == 0);
  }
}

TEST_CASE("few replays are committed by parts of a value head, many by whole ones") {
  for (const spec::Spec& spec : test::drafting_models()) {
    INFO(*spec.name);
    const plan::Target& target = *plan::find_target("sm_90a");
    const core::KernelPlan plan =
        plan::make(layout::resolve(spec), "state_commit", target, plan::TuningTable::none()).kernel;
    if (plan.facts.rollback != core::Rollback::kReplay) {  // what only moves is as fast in parts
      CHECK(plan.variants.empty());
      continue;
    }
    REQUIRE(plan.variants.size() == 1);
    const core::Variant& few = plan.variants[0];
    CHECK(plan::choice_of(few.choices, "row_parts", 1) > 1);
    CHECK(few.launch.blocks_per_row >= target.processors / 2);  // one sequence keeps half of a GPU busy
    CHECK(plan::choice_of(plan.choices, "row_parts", 0) == 1);
    // Where larger blocks begin there are enough of them.
    CHECK((few.max_rows + 1) * plan.launch.blocks_per_row >= 2 * target.processors);
  }
}

TEST_CASE(
    "the states of all tokens are written by a large block a multiprocessor, or two with room for what they read") {
  const plan::Target& target = *plan::find_target("sm_90a");
  spec::Spec spec = test::drafting_models().front();
  const auto planned = [&] {
    return plan::make(layout::resolve(spec), "decode_spec", target, plan::TuningTable::none()).kernel;
  };
  const core::KernelPlan wide = planned();
  REQUIRE(wide.facts.rollback == core::Rollback::kSlots);
  CHECK(plan::choice_of(wide.choices, "threads", 0) == 512);
  for (spec::Tensor& pool : spec.pools) {
    if (*pool.name == "state") pool.dtype.value = core::DType::kBf16;
  }
  const core::KernelPlan half = planned();
  for (const core::KernelPlan& plan : {wide, half}) {
    CHECK(plan::choice_of(plan.choices, "threads", 0) == 512);
    CHECK(plan::choice_of(plan.choices, "inbox", 0) == 1);
    CHECK(plan.launch.shared_bytes == plan.facts.group * plan.facts.key_dim * plan.facts.value_dim *
                                          static_cast<int>(core::size_of(plan.facts.state.dtype)));
    REQUIRE(!plan.variants.empty());
    const core::Variant& few = plan.variants.back();
    CHECK(few.max_rows / plan.facts.tokens * few.launch.blocks_per_row <= 2 * target.processors);
  }
  const core::Variant& as_wide = wide.variants.back();
  CHECK(plan::choice_of(as_wide.choices, "threads", 0) == 512);
  CHECK(as_wide.launch.shared_bytes == 0);
  // Two blocks, with all their states, of 16-bit ones.
  const core::Variant& as_half = half.variants.back();
  CHECK(plan::choice_of(as_half.choices, "threads", 0) == 256);
  CHECK(plan::choice_of(as_half.choices, "resident", 0) == 2);
  CHECK(as_half.launch.shared_bytes == half.launch.shared_bytes);
}

TEST_CASE("an inbox leaves out half a head where that is whole passes") {
  const plan::Target& target = *plan::find_target("sm_90a");
  const layout::Layout layout = layout::resolve(test::drafting_models().front());
  const core::Facts facts = plan::make(layout, "decode_spec", target, plan::TuningTable::none()).kernel.facts;
  REQUIRE(facts.value_dim == 128);
  const auto fault = [&](int threads, int lanes, int inbox) {
    return plan::choices_fault(
        target, "decode_spec", facts,
        {{"threads", threads}, {"rows_per_pass", 4}, {"row_lanes", lanes}, {"resident", 1}, {"inbox", inbox}});
  };
  const std::string uneven = "inbox = 2: half a value head is no whole number of passes";
  CHECK(fault(256, 16, 2).empty());
  CHECK(fault(256, 8, 2).empty());
  CHECK(fault(512, 16, 2) == uneven);  // a pass is a whole head
  CHECK(fault(256, 0, 2) == uneven);
  CHECK(fault(256, 16, 3).rfind("inbox = 3", 0) == 0);
  CHECK(plan::choices_fault(target, "decode", facts, {{"threads", 256}, {"evict_first", 1}})
            .rfind("evict_first = 1", 0) == 0);
  core::Facts replays = facts;
  replays.rollback = core::Rollback::kReplay;
  replays.state.dtype = core::DType::kBf16;
  const auto products = [&](int evicts) {
    return plan::choices_fault(target, "decode_spec", replays,
                               {{"threads", 256}, {"products", 1}, {"evict_first", evicts}});
  };
  CHECK(products(0).empty());
  CHECK(products(1).rfind("evict_first = 1: products", 0) == 0);
  const auto tuning = plan::TuningTable::parse(
      "gdn-gen tuning 3\nsm_90a decode_spec * * threads=256 rows_per_pass=4 row_lanes=16 resident=2 inbox=2\n");
  const core::KernelPlan planned = plan::make(layout, "decode_spec", target, tuning).kernel;
  const int head = facts.key_dim * facts.value_dim * static_cast<int>(core::size_of(facts.state.dtype));
  CHECK(planned.launch.shared_bytes == facts.group * head - head / 2);
}

TEST_CASE("states of 16 bits with the value channel innermost come to shared memory, by whole value heads") {
  const plan::Target& target = *plan::find_target("sm_90a");
  const std::string file = std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml";
  const auto planned = [&](core::DType dtype, const char* order, const char* on) {
    spec::Spec spec =
        test::variant(file, "state: {dtype: fp32, dims: [slot@launch, value_head, value_dim, key_dim]}",
                      std::string("state: {dtype: fp32, dims: [slot@launch, value_head, ") + order + "]}");
    for (spec::Tensor& pool : spec.pools) {
      if (*pool.name == "state") pool.dtype.value = dtype;
    }
    return plan::make(layout::resolve(spec), "decode", *plan::find_target(on), plan::TuningTable::none()).kernel;
  };
  const core::KernelPlan half = planned(core::DType::kBf16, "key_dim, value_dim", "sm_90a");
  const core::Facts& facts = half.facts;
  CHECK(plan::choice_of(half.choices, "inbox", 0) == 1);
  CHECK(plan::choice_of(half.choices, "head_parts", 0) == facts.group);
  CHECK(half.launch.shared_bytes == facts.key_dim * facts.value_dim * 2);
  // Value channels are split for few rows, whose blocks have none of it, though what a form leaves out is the last
  // one's.
  REQUIRE(half.variants.size() >= 2);
  CHECK(plan::choice_of(half.variants.front().choices, "row_parts", 0) > 1);
  CHECK(half.variants.front().launch.shared_bytes == 0);
  CHECK(half.variants.back().launch.shared_bytes == half.launch.shared_bytes);
  CHECK(half.variants.back().max_rows * half.launch.blocks_per_row <= 2 * target.processors);
  for (const core::KernelPlan& other : {planned(core::DType::kFp32, "key_dim, value_dim", "sm_90a"),
                                        planned(core::DType::kBf16, "value_dim, key_dim", "sm_90a"),
                                        planned(core::DType::kBf16, "key_dim, value_dim", "sm_80"),
                                        planned(core::DType::kBf16, "key_dim, value_dim", "gfx942")}) {
    INFO(other.target);
    CHECK(plan::choice_of(other.choices, "inbox", 0) == 0);
    CHECK(other.launch.shared_bytes == 0);
  }

  const auto fault = [&](const core::Facts& of, const char* operation, int row_parts, int head_parts, int inbox) {
    return plan::choices_fault(
        target, operation, of,
        {{"threads", 256}, {"row_parts", row_parts}, {"head_parts", head_parts}, {"inbox", inbox}});
  };
  CHECK(fault(facts, "decode", 1, 1, 1).empty());
  CHECK(fault(facts, "decode", 2, 1, 1) == "inbox = 1: a block has parts of value heads");
  CHECK(fault(facts, "decode", 1, 1, 2).rfind("inbox = 2", 0) == 0);
  CHECK(fault(facts, "delta_update", 1, 1, 1).rfind("inbox = 1", 0) == 0);
  core::Facts rows = planned(core::DType::kBf16, "value_dim, key_dim", "sm_90a").facts;
  CHECK(fault(rows, "decode", 1, 1, 1).empty());
  for (const std::string name : {"in_turns", "at_once", "ahead"}) {
    const plan::Choices both = {{"threads", 256}, {"inbox", 1}, {name, 1}};
    CHECK(plan::choices_fault(target, "decode", rows, both) ==
          "inbox = 1: " + name + " is of states that come to registers");
  }
  core::Facts eight = facts;
  eight.state.dtype = core::DType::kE4m3fn;
  CHECK(fault(eight, "decode", 1, 1, 1).find("scales beside them") != std::string::npos);
  core::Facts large = facts;
  large.group = 8;
  CHECK(fault(large, "decode", 1, 1, 1).find("bytes of shared memory") != std::string::npos);
  CHECK(fault(large, "decode", 1, 2, 1).empty());
}

TEST_CASE("a layout under a measured one's name that can't be launched so goes without its rows") {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml";
  const plan::Target& target = *plan::find_target("sm_90a");
  const auto choices = [&](const spec::Spec& spec, const plan::TuningTable& tuning) {
    return plan::make(layout::resolve(spec), "decode", target, tuning).kernel.choices;
  };
  const spec::Spec measured = test::load_spec(file);
  CHECK(choices(measured, plan::TuningTable::built_in()) != choices(measured, plan::TuningTable::none()));
  const spec::Spec turned =
      test::variant(file, "state: {dtype: fp32, dims: [slot@launch, value_head, value_dim, key_dim]}",
                    "state: {dtype: fp32, dims: [slot@launch, value_head, key_dim, value_dim]}");
  const plan::TuningTable copy = plan::TuningTable::built_in();
  CHECK(choices(turned, copy) == choices(turned, plan::TuningTable::none()));
  // A table that somebody gives is held to what it says.
  CHECK_THROWS_WITH(choices(turned, table("sm_90a decode qwen3_next_80b * threads=512 rows_per_pass=8\n")),
                    Catch::Contains("at most 256"));
}

TEST_CASE("a choice that the target cannot hold is a diagnostic of the plan") {
  struct Case {
    const char *target, *choices, *expected;
  };
  const Case cases[] = {
      {"gfx942", "threads=96", "multiple of 64"},
      {"sm_90a", "threads=1024", "at most 512"},
      {"sm_90a", "threads=128 rows_per_pass=0", "rows_per_pass must be at least 1"},
      {"sm_90a", "threads=128 head_parts=4", "head_parts = 4 leaves a block without one of the 3 value heads"},
      {"sm_90a", "threads=128 row_parts=5", "row_parts = 5 must divide dims.value = 48"},
      {"sm_90a", "threads=128 head_parts=3 row_parts=3", "a cluster has at most 8 blocks"},
      {"sm_90a", "threads=512 resident=5", "resident = 5: a multiprocessor holds at most 2048 threads"},
      {"sm_80", "threads=128 arrivals=2", "arrivals = 2: 0 or 1"}};
  for (const Case& c : cases) {
    INFO(c.target << " " << c.choices);
    CHECK_THROWS_WITH(decode_plan(c.target, table(std::string(c.target) + " decode * * " + c.choices + "\n")),
                      Catch::Contains(c.expected));
  }
}
