// Drafts that are rejected leave no trace: speculative decoding through the host shim against plain decoding.
#include "support/rollback_cases.h"

std::unique_ptr<gdn::verify::Executor> gdn::test::rollback_executor() {
  return verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET));
}

// A row of a state with the key channel innermost is 8 lanes of decode here: threads that stand for several of them add
// up in the same order. Parts of a key head meet before one of them writes what all have read.
TEST_CASE("every way to launch decode_spec is plain decoding to the bit") {
  const auto executor = test::rollback_executor();
  for (const char* name : {"fuzz_spec_slots", "fuzz_spec_replay", "fuzz_spec_kda", "fuzz_spec_slots_kv"}) {
    const spec::Spec spec = test::with_fp32_states(name);
    const layout::Layout layout = layout::resolve(spec);
    const core::Facts facts = plan::make(layout, "decode_spec", executor->target()).kernel.facts;
    const char* const rows = facts.state.inner_stride == 1 ? " ahead=2 interleave=1" : "";
    int held = 0;
    for (const char* choices :
         {"threads=64 rows_per_pass=2 row_lanes=1 head_parts=1", "threads=128 row_lanes=4 head_parts=2",
          "threads=64 rows_per_pass=3 row_lanes=2 head_parts=3", "threads=128 row_lanes=0 head_parts=3",
          "threads=64 rows_per_pass=2 row_lanes=2 head_parts=1 inbox=1",
          "threads=64 rows_per_pass=1 row_lanes=8 head_parts=1 inbox=2",
          "threads=128 rows_per_pass=3 row_lanes=4 head_parts=1 inbox=2"}) {
      const auto row = [&](const char* operation, const std::string& made) {
        return std::string(executor->target().name) + " " + operation + " * * " + made + "\n";
      };
      // A block of state_commit goes over a head's state in several turns.
      const auto tuning = plan::TuningTable::parse(
          "gdn-gen tuning 3\n" + row("decode_spec", std::string(choices) + rows) +
          row("state_commit", "threads=64 head_parts=1 row_parts=" + std::to_string(1 + held % 2)));
      const plan::Choices made =
          tuning.find(executor->target().name, "decode_spec", *spec.name, core::Edge::kPlain).front().choices;
      if (!plan::choices_fault(executor->target(), "decode_spec", facts, made).empty()) continue;
      ++held;
      INFO(name << " " << choices);
      test::Rollback rollback(*executor, spec, 7, 4, tuning);
      rollback.random_launches(5);
      CHECK(rollback.compared_outputs() > 5);
      CHECK(rollback.differing_outputs() == 0);
    }
    CHECK(held >= (executor->target().clusters ? 3 : 1));  // a target without clusters has whole key heads
  }
}
