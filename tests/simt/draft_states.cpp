// Several tokens of a sequence over states of 8 bits and states rounded by chance: what a launch stores is rounded as
// decode rounds it, and from token to token nothing is.
#include <algorithm>
#include <cmath>

#include "layout/resolve.h"
#include "oracle/compare.h"
#include "oracle/convert.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/draft_states.h"
#include "verify/executor.h"
#include "verify/verify.h"

using namespace gdn;

namespace {

const char* const kByRows = "value_head, value_dim, key_dim";
const char* const kByColumns = "value_head, key_dim, value_dim";

void check(verify::Executor& executor, const std::string& scheme, const char* dtype, const char* order) {
  const spec::Spec spec = test::with_drafts(scheme, dtype, order);
  const layout::Layout layout = layout::resolve(spec);
  for (const char* operation : {"decode_spec", "state_commit"}) {
    verify::Options options;
    options.rows = 4;
    options.steps = 3;
    const verify::Result result = verify::verify(executor, spec, layout, operation, options);
    INFO(operation << " of " << scheme << ", " << dtype << " " << order << "\n" << oracle::describe(result.deviations));
    CHECK(!result.deviations.empty());
    CHECK(result.good);
  }
}

std::unique_ptr<verify::Executor> executor_of(const char* target) {
  return verify::open_executor("simt", plan::find_target(target));
}

}  // namespace

TEST_CASE("several tokens with states of 8 bits agree with the oracle, every way to roll back") {
  const auto executor = executor_of("sm_90a");
  for (const char* scheme : {"slots", "replay", "intermediate", "kda"}) {
    check(*executor, scheme, "e4m3fn", kByRows);
    check(*executor, scheme, "e4m3fn", kByColumns);
  }
  const auto wide = executor_of("gfx942");
  check(*wide, "replay", "e4m3fnuz", kByRows);
  check(*wide, "slots", "e4m3fnuz", kByColumns);
}

TEST_CASE("several tokens with states rounded by chance agree with the oracle, every way to roll back") {
  const auto executor = executor_of("sm_90a");
  check(*executor, "slots", "bf16", kByRows);
  check(*executor, "slots", "fp16", kByColumns);
  check(*executor, "replay", "fp16", kByRows);
  check(*executor, "replay", "bf16", kByColumns);
  check(*executor, "intermediate", "bf16", kByRows);
  check(*executor, "intermediate", "fp16", kByColumns);
}

// Decode multiplies the sums of an 8-bit row by its scale, a draft the row: their scales differ by roundings of fp32.
TEST_CASE("a launch of one token stores decode's numbers, bit for bit where they are rounded by chance") {
  const auto executor = executor_of("sm_90a");
  oracle::Options options;
  options.rows = 3;
  options.slots = 16;
  for (const auto& [dtype, order] : {std::pair<const char*, const char*>{"bf16", kByRows},
                                     {"fp16", kByColumns},
                                     {"e4m3fn", kByRows},
                                     {"e4m3fn", kByColumns}}) {
    const spec::Spec spec = test::with_drafts("slots", dtype, order);
    const layout::Layout layout = layout::resolve(spec);
    oracle::Problem drafts = oracle::make_problem(spec, "decode_spec", options);
    drafts.arrange({1, 1, 1}, {0, 0, 0});
    oracle::Problem plain = test::decode_of(spec, drafts, options);
    const auto run = [&](const char* operation, oracle::Problem& problem) {
      executor->load(plan::make(layout, operation, executor->target()))
          ->run(problem, verify::views_of(problem, layout));
    };
    run("decode_spec", drafts);
    run("decode", plain);
    INFO(dtype << " " << order);
    const bool scaled = dtype[0] == 'e';
    for (const char* name : {"state", "state_scale"}) {
      if (!scaled && std::string(name) == "state_scale") continue;
      const oracle::Buffer& of_drafts = drafts.buffer(name);
      const oracle::Buffer& of_plain = plain.buffer(name);
      int differing = 0;
      double furthest = 0;
      for (const oracle::TokenRun& sequence : drafts.sequences()) {
        for (std::int64_t i = 0; i < of_plain.inner; ++i) {
          const double got = oracle::load(of_drafts.dtype, of_drafts.data() + of_drafts.offset(sequence.slots[0], i));
          const double want = oracle::load(of_plain.dtype, of_plain.data() + of_plain.offset(sequence.slots[0], i));
          differing += got != want ? 1 : 0;
          furthest = std::max(furthest, std::fabs(got - want) / std::max(std::fabs(want), 1e-30));
        }
      }
      INFO(name << ": " << differing << " differ");
      if (!scaled) CHECK(differing == 0);
      // A code at the middle of two may fall to either side.
      if (of_plain.dtype == core::DType::kE4m3fn) CHECK(differing <= of_plain.inner / 1000);
      if (scaled && of_plain.dtype == core::DType::kFp32) CHECK(furthest < 1e-6);
    }
  }
}
