// Every spec, every operation, several steps against the oracle.
#include "harness.h"
#include "support/catch.h"

using namespace gdn;

namespace {

void check(const std::string& file, const char* target, std::string_view operation, const oracle::Options& options,
           int steps) {
  const spec::Spec spec = spec::load_or_throw(file);
  const core::KernelPlan plan = test::plan_of(spec, operation, target);
  const cpu::Kernel kernel = cpu::generate(plan);
  oracle::Problem problem = oracle::make_problem(spec, operation, options);
  for (int step = 0; step < steps; ++step) {
    if (step > 0) problem.next_step();
    const auto deviations = test::judge(kernel, plan, problem);
    INFO(file << " " << operation << " " << target << " step " << step << "\n" << oracle::describe(deviations));
    for (const oracle::Deviation& deviation : deviations) {
      CHECK(deviation.error <= deviation.tolerance);
      CHECK(deviation.findings.empty());
    }
  }
}

bool pads(const std::string& file) { return *spec::load_or_throw(file).slots.padding != core::Padding::kNone; }

}  // namespace

TEST_CASE("every spec and operation agrees with the oracle over several steps") {
  if (!test::runs_here()) return;
  for (const std::string& file : test::held_specs()) {
    for (const auto& [target, operation] : test::kernels_of(spec::load_or_throw(file))) {
      oracle::Options options;
      options.rows = 3;
      const bool slots = operation == "decode" || operation == "conv_update" || operation == "delta_update";
      if (slots && pads(file)) options.padding_rows = 1;
      check(file, target, operation, options, 3);
    }
  }
}

TEST_CASE("rows and slots further apart than they are long, and odd alignments") {
  if (!test::runs_here()) return;
  for (const std::string& file : test::held_specs()) {
    for (const auto& [target, operation] : test::kernels_of(spec::load_or_throw(file))) {
      oracle::Options options;
      options.rows = 2;
      options.seed = 7;
      options.extra_stride = 3;
      check(file, target, operation, options, 1);
    }
  }
}
