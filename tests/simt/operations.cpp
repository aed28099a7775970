// The emitted GPU sources, as emitted, run on the CPU for every operation of every spec, several steps, and agree with
// the oracle in every element they write, states included. Built once for each wave: GDN_TEST_TARGET names the target.
#include <cstdio>

#include "layout/resolve.h"
#include "plan/operation.h"
#include "support/catch.h"
#include "support/specs.h"
#include "verify/verify.h"

using namespace gdn;

namespace {

void check_agrees(verify::Executor& executor, const spec::Spec& spec, const layout::Layout& layout,
                  const std::string& operation, const verify::Options& options) {
  const verify::Result result = verify::verify(executor, spec, layout, operation, options);
  INFO(oracle::describe(result.deviations));
  CHECK(!result.deviations.empty());
  CHECK(result.good);
}

void verify_all(const std::string& file, const verify::Options& options) {
  const auto executor = verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET));
  const spec::Spec spec = test::load_spec(file);
  const layout::Layout layout = layout::resolve(spec);
  for (const std::string_view operation : plan::operations_on(layout, executor->target())) {
    INFO(*spec.name << " " << operation << " on " << GDN_TEST_TARGET);
    check_agrees(*executor, spec, layout, std::string(operation), options);
  }
}

}  // namespace

TEST_CASE("fuzz geometries, three steps, rows in between that are padding") {
  for (const std::string& file : test::fuzz_specs()) {
    verify::Options options;
    options.rows = 5;
    options.padding_rows = 2;
    verify_all(file, options);
  }
}

TEST_CASE("every way to launch decode agrees with the oracle, whatever the number of rows that it is meant for") {
  const plan::Target& target = *plan::find_target(GDN_TEST_TARGET);
  const auto executor = verify::open_executor("simt", &target);
  for (const char* name : {"fuzz_gdn", "fuzz_orders", "fuzz_separate_tiled_kv_fp32_fp32"}) {
    const spec::Spec spec = test::fuzz(name);
    const layout::Layout layout = layout::resolve(spec);
    const core::Facts facts = plan::make(layout, "decode", target).kernel.facts;
    for (const plan::Band& band : plan::model_bands(target, "decode", facts)) {
      verify::Options options;
      options.rows = 3;
      options.tuning = plan::TuningTable::none();
      options.tuning.set(target.name, "decode", layout.spec, {{0, band.choices}});
      INFO(name << ", made for up to " << band.max_rows << " rows");
      check_agrees(*executor, spec, layout, "decode", options);
    }
  }
}

TEST_CASE("a launch takes the form for its edge, and each agrees with the oracle") {
  const plan::Target& target = *plan::find_target(GDN_TEST_TARGET);
  if (!target.programmatic) return;  // one form for all launches
  const auto executor = verify::open_executor("simt", &target);
  const spec::Spec spec = test::fuzz("fuzz_gdn");
  const layout::Layout layout = layout::resolve(spec);
  const std::string row = "\n" + std::string(target.name) + " decode * * ";
  verify::Options options;
  options.rows = 4;
  options.tuning = plan::TuningTable::parse("gdn-gen tuning 3" + row + "plain threads=64 head_parts=3" + row +
                                            "programmatic threads=32 head_parts=1 row_parts=2\n");
  plan::Planned planned = plan::make(layout, "decode", target, options.tuning);
  REQUIRE(planned.kernel.variants.size() == 1);
  planned.kernel.variants[0].launch.blocks_per_row = planned.kernel.variants[0].launch.cluster;  // one key head
  const auto crippled = executor->load(planned);
  for (const core::Edge edge : {core::Edge::kPlain, core::Edge::kProgrammatic}) {
    options.edge = edge;
    INFO(core::to_string(edge));
    check_agrees(*executor, spec, layout, "decode", options);
    oracle::Problem problem = oracle::make_problem(spec, "decode", {});
    const oracle::Expectation expectation = oracle::expect(problem);
    crippled->run_on(edge, problem, verify::views_of(problem, layout));
    CHECK(oracle::all_good(oracle::compare(expectation, problem)) == (edge == core::Edge::kPlain));
  }
}

// A block of one wave takes half of the value channels of a state (K, V) at a time.
TEST_CASE("blocks that begin with different slabs of a state agree with the oracle") {
  const plan::Target& target = *plan::find_target(GDN_TEST_TARGET);
  const auto executor = verify::open_executor("simt", &target);
  const spec::Spec spec = test::fuzz("fuzz_separate_tiled_kv_fp32_fp32");
  const layout::Layout layout = layout::resolve(spec);
  for (const char* operation : {"decode", "delta_update"}) {
    verify::Options options;
    options.rows = 4;
    options.tuning = plan::TuningTable::parse("gdn-gen tuning 3\n" + std::string(target.name) + " " + operation +
                                              " * * threads=" + std::to_string(target.wave) + " skew=1\n");
    const plan::Planned planned = plan::make(layout, operation, target, options.tuning);
    CHECK(plan::choice_of(planned.kernel.choices, "skew", 0) == 1);
    INFO(operation);
    check_agrees(*executor, spec, layout, operation, options);
  }
}

TEST_CASE("sums of a 16-bit state that are made at once agree with the oracle") {
  const plan::Target& target = *plan::find_target(GDN_TEST_TARGET);
  const auto executor = verify::open_executor("simt", &target);
  const spec::Spec spec = test::fuzz("fuzz_separate_tiled_vk_bf16_bf16");
  const layout::Layout layout = layout::resolve(spec);
  for (const char* parts : {"1", "2"}) {
    verify::Options options;
    options.rows = 4;
    options.tuning = plan::TuningTable::parse(
        "gdn-gen tuning 3\n" + std::string(target.name) +
        " decode * * threads=64 rows_per_pass=4 head_parts=1 at_once=1 row_parts=" + parts + "\n");
    INFO(parts << " parts");
    check_agrees(*executor, spec, layout, "decode", options);
  }
}

TEST_CASE("blocks that ask for the norm's weights ahead of the state agree with the oracle") {
  const plan::Target& target = *plan::find_target(GDN_TEST_TARGET);
  const auto executor = verify::open_executor("simt", &target);
  const spec::Spec spec = test::fuzz("fuzz_separate_tiled_vk_bf16_bf16");
  const layout::Layout layout = layout::resolve(spec);
  verify::Options options;
  options.rows = 4;
  options.tuning = plan::TuningTable::parse("gdn-gen tuning 3\n" + std::string(target.name) +
                                            " decode * * threads=64 rows_per_pass=1 head_parts=1 norm_ahead=1\n");
  check_agrees(*executor, spec, layout, "decode", options);
}

// One slab of a head or several, heads one after the other or side by side, on an edge that waits for the launch ahead
// between its loads and on one that does not.
TEST_CASE("blocks whose states come to shared memory at once agree with the oracle") {
  const plan::Target& target = *plan::find_target(GDN_TEST_TARGET);
  const auto executor = verify::open_executor("simt", &target);
  int held = 0;
  for (const auto& [name, choices] :
       {std::pair{"fuzz_flat_grouped_kv_fp32_bf16", "threads=32 head_parts=1"},
        std::pair{"fuzz_interleaved_tiled_kv_fp16_fp16", "threads=256 head_parts=1 norm_ahead=1"},
        std::pair{"fuzz_separate_tiled_kv_fp32_fp32", "threads=128 head_parts=1 weights_ahead=1"},
        std::pair{"fuzz_separate_grouped_kv_bf16_fp16", "threads=64 head_parts=2 arrivals=1"},
        std::pair{"fuzz_kda_bounded", "threads=64 head_parts=1"},
        std::pair{"fuzz_gdn", "threads=64 rows_per_pass=2 head_parts=3"},
        std::pair{"fuzz_kda", "threads=128 rows_per_pass=4 head_parts=1"}}) {
    const spec::Spec spec = test::fuzz(name);
    const layout::Layout layout = layout::resolve(spec);
    verify::Options options;
    options.rows = 4;
    options.tuning = plan::TuningTable::parse("gdn-gen tuning 3\n" + std::string(target.name) + " decode * * " +
                                              choices + " inbox=1\n");
    const core::Facts facts = plan::make(layout, "decode", target).kernel.facts;
    const plan::Choices made =
        options.tuning.find(target.name, "decode", *spec.name, core::Edge::kPlain).front().choices;
    INFO(name << " " << choices);
    if (!target.clusters) {  // no requests for whole runs of memory
      CHECK(!plan::choices_fault(target, "decode", facts, made).empty());
      continue;
    }
    CHECK(plan::make(layout, "decode", target, options.tuning).kernel.launch.shared_bytes > 0);
    ++held;
    for (const core::Edge edge : {core::Edge::kPlain, core::Edge::kProgrammatic}) {
      options.edge = edge;
      INFO(core::to_string(edge));
      check_agrees(*executor, spec, layout, "decode", options);
    }
  }
  CHECK(held == (target.clusters ? 7 : 0));
}

// The shim reads what a block asks the L2 for: an address outside of the pools would be seen.
TEST_CASE("blocks that ask for their next passes agree with the oracle") {
  const plan::Target& target = *plan::find_target(GDN_TEST_TARGET);
  const auto executor = verify::open_executor("simt", &target);
  const spec::Spec spec = test::fuzz("fuzz_separate_tiled_vk_bf16_bf16");
  const layout::Layout layout = layout::resolve(spec);
  for (const char* operation : {"decode", "delta_update"}) {
    verify::Options options;
    options.rows = 4;
    options.tuning =
        plan::TuningTable::parse("gdn-gen tuning 3\n" + std::string(target.name) + " " + operation +
                                 " * * threads=" + std::to_string(target.wave) + " rows_per_pass=1 ahead=3\n");
    CHECK(plan::choice_of(plan::make(layout, operation, target, options.tuning).kernel.choices, "ahead", 0) == 3);
    INFO(operation);
    check_agrees(*executor, spec, layout, operation, options);
  }
}

// Blocks of one wave have three or six passes over a head of 48 value channels.
TEST_CASE("passes that have a head's rows in other orders agree with the oracle") {
  const plan::Target& target = *plan::find_target(GDN_TEST_TARGET);
  const auto executor = verify::open_executor("simt", &target);
  const spec::Spec spec = test::fuzz("fuzz_gdn");
  const layout::Layout layout = layout::resolve(spec);
  for (const int order : {1, 2, 3}) {
    verify::Options options;
    options.rows = 4;
    options.tuning = plan::TuningTable::parse("gdn-gen tuning 3\n" + std::string(target.name) +
                                              " decode * * threads=" + std::to_string(target.wave) +
                                              " rows_per_pass=2 row_order=" + std::to_string(order) + "\n");
    const plan::Planned planned = plan::make(layout, "decode", target, options.tuning);
    CHECK(plan::choice_of(planned.kernel.choices, "row_order", 0) == order);
    INFO(order);
    check_agrees(*executor, spec, layout, "decode", options);
  }
}

TEST_CASE("released models at their true sizes, two steps") {
  for (const std::string& file : test::released_specs()) {
    verify::Options options;
    options.rows = 2;
    options.steps = 2;
    options.lengths = {18, 3};
    verify_all(file, options);
  }
}
