// Layers without an output norm, in the host shim: o goes straight to `out`, whatever the form of the kernel.
#include "chunked_form.h"
#include "support/norm_apart.h"

using namespace gdn;
using namespace gdn::test;

namespace {

// One kernel of a target by its own form of prefill; others as they are planned.
void run_form(const spec::Spec& spec, const std::string& operation, oracle::Problem& problem, const char* target,
              int form) {
  if (operation == "prefill") {
    const std::optional<Form> kernel = Form::make(spec, form, operation, target);
    REQUIRE(kernel);
    kernel->run(problem, 3);
    return;
  }
  const auto executor = verify::open_executor("simt", plan::find_target(target));
  const layout::Layout layout = layout::resolve(spec);
  executor->load(plan::make(layout, operation, executor->target()))->run(problem, verify::views_of(problem, layout));
}

}  // namespace

TEST_CASE("prefill without a norm, and the norm behind it, leave the bits of the whole layer") {
  struct Row {
    const char *spec, *target;
    int form;
  };
  for (const Row& row : {Row{"fuzz_gdn", "sm_90a", kOne},
                         {"fuzz_gdn", "sm_90a", kPair},
                         {"fuzz_kda", "sm_90a", kOne},
                         {"fuzz_gdn", "sm_80", kOne}}) {
    INFO(row.spec << " on " << row.target << ", form " << row.form);
    check_norm_apart(fuzz_file(row.spec), "prefill",
                     [&](const spec::Spec& spec, const std::string& operation, oracle::Problem& problem) {
                       run_form(spec, operation, problem, row.target, row.form);
                     });
  }
}

TEST_CASE("so do decode, and prefill by the plain body") {
  for (const char* operation : {"decode", "prefill"}) {
    INFO(operation);
    check_norm_apart(fuzz_file("fuzz_gdn"), operation,
                     [&](const spec::Spec& spec, const std::string& kernel, oracle::Problem& problem) {
                       const auto executor = verify::open_executor("simt", plan::find_target("gfx1100"));
                       const layout::Layout layout = layout::resolve(spec);
                       const plan::Planned planned = plan::make(layout, kernel, executor->target());
                       executor->load(planned)->run(problem, verify::views_of(problem, layout));
                     });
  }
}

TEST_CASE("value heads in parts, clusters or such that meet in memory, agree with the oracle without a norm") {
  for (const char* name : {"sm_90a", "sm_80"}) {
    const plan::Target& target = *plan::find_target(name);
    const auto executor = verify::open_executor("simt", &target);
    const spec::Spec spec = test::fuzz("fuzz_no_norm");
    const layout::Layout layout = layout::resolve(spec);
    for (const int row_parts : {1, 2}) {
      const plan::Choices choices = {{"threads", 128},         {"rows_per_pass", 4}, {"head_parts", 3},
                                     {"row_parts", row_parts}, {"heads_first", 1},   {"resident", 1}};
      verify::Options options;
      options.rows = 3;
      options.tuning = plan::TuningTable::none();
      options.tuning.set(target.name, "decode", layout.spec, {{0, choices}});
      const verify::Result result = verify::verify(*executor, spec, layout, "decode", options);
      INFO(name << ", heads in " << row_parts << " parts of rows\n" << oracle::describe(result.deviations));
      CHECK(!result.deviations.empty());
      CHECK(result.good);
    }
  }
}

TEST_CASE("rows behind the last sequence are zeroed without a norm as well, or left as they are") {
  for (const char* target : {"sm_90a", "sm_80", "gfx942"}) {
    for (const core::PaddedOutput excess : {core::PaddedOutput::kZero, core::PaddedOutput::kUntouched}) {
      spec::Spec spec = test::fuzz("fuzz_no_norm");
      spec.slots.excess_output.value = excess;
      const layout::Layout layout = layout::resolve(spec);
      const auto executor = verify::open_executor("simt", plan::find_target(target));
      const plan::Planned planned = plan::make(layout, "prefill", executor->target());
      const auto kernel = executor->load(planned);
      for (const int rows_beyond : {70, 0}) {
        oracle::Options options = with_lengths({65, 0, 4});
        options.padding_rows = 1;
        options.excess_rows = rows_beyond;
        oracle::Problem problem = oracle::make_problem(spec, "prefill", options);
        const oracle::Expectation expectation = oracle::expect(problem);
        kernel->run(problem, verify::views_of(problem, layout));
        const auto deviations = oracle::compare(expectation, problem);
        INFO(target << (excess == core::PaddedOutput::kZero ? ", zero, " : ", untouched, ") << rows_beyond << " rows\n"
                    << oracle::describe(deviations));
        CHECK(!deviations.empty());
        CHECK(oracle::all_good(deviations));
      }
    }
  }
}
