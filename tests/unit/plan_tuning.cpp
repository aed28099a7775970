// The tuning table: its format, and how its rows reach a plan.
#include "layout/resolve.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;

TEST_CASE("a tuning table reads back as it was written") {
  const std::string text =
      "gdn-gen tuning 1\nsm_90a decode * threads=128 rows_per_pass=8\nsm_80 decode fuzz_gdn threads=64\n";
  CHECK(plan::TuningTable::parse(text).to_text() == text);
}

TEST_CASE("a malformed tuning table names the line") {
  struct Case {
    const char *text, *expected;
  };
  const Case cases[] = {{"", "line 1: the first line must be"},
                        {"gdn-gen tuning 2\n", "line 1: the first line must be"},
                        {"gdn-gen tuning 1\nsm_90a decode\n", "line 2: a row is"},
                        {"gdn-gen tuning 1\nsm_90a decode * threads\n", "line 2: \"threads\" is not choice=integer"},
                        {"gdn-gen tuning 1\nsm_90a decode * threads=12x\n", "line 2: \"threads=12x\" is not"},
                        {"gdn-gen tuning 1\nsm_90a decode *\n", "line 2: a row without choices"}};
  for (const Case& c : cases) {
    INFO(c.text);
    CHECK_THROWS_WITH(plan::TuningTable::parse(c.text), Catch::Contains(c.expected));
  }
}

TEST_CASE("the spec's own row wins over the row for all, and both over the model") {
  const layout::Layout layout = layout::resolve(test::fuzz("fuzz_gdn"));
  const plan::Target& target = *plan::find_target("sm_90a");
  const auto threads = [&](const char* rows) {
    const auto table = plan::TuningTable::parse(std::string("gdn-gen tuning 1\n") + rows);
    return plan::make(layout, "decode", target, table).kernel.launch.threads;
  };
  CHECK(threads("") == 512);
  CHECK(threads("sm_90a decode * threads=128\n") == 128);
  CHECK(threads("sm_90a decode fuzz_gdn threads=64\nsm_90a decode * threads=128\n") == 64);
  CHECK(threads("sm_80 decode * threads=128\n") == 512);
}

TEST_CASE("a choice that the target cannot hold is a diagnostic of the plan") {
  const layout::Layout layout = layout::resolve(test::fuzz("fuzz_gdn"));
  const auto table = plan::TuningTable::parse("gdn-gen tuning 1\ngfx942 decode * threads=96\n");
  CHECK_THROWS_WITH(plan::make(layout, "decode", *plan::find_target("gfx942"), table),
                    Catch::Contains("multiple of 64"));
}
