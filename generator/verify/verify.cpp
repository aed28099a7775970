#include "verify/verify.h"

#include <algorithm>

namespace gdn::verify {
namespace {

bool has_slots(const core::KernelPlan& plan) { return plan.facts.slots_operand >= 0; }

void keep_worst(const std::vector<oracle::Deviation>& step, std::vector<oracle::Deviation>& all) {
  for (const oracle::Deviation& deviation : step) {
    const auto known = std::find_if(all.begin(), all.end(), [&](const auto& d) { return d.name == deviation.name; });
    if (known == all.end()) {
      all.push_back(deviation);
      continue;
    }
    std::vector<std::string> findings = known->findings;
    findings.insert(findings.end(), deviation.findings.begin(), deviation.findings.end());
    // Written so that a NaN, which compares false with everything, counts as worse.
    if (!(deviation.error <= known->error)) *known = deviation;
    known->findings = std::move(findings);
  }
}

}  // namespace

double Result::worst_error() const {
  double worst = 0;
  for (const oracle::Deviation& deviation : deviations) {
    if (!(deviation.error <= worst)) worst = deviation.error;
  }
  return worst;
}

Result verify(Executor& executor, const spec::Spec& spec, const layout::Layout& layout, const std::string& operation,
              const Options& options) {
  const plan::Planned planned = plan::make(layout, operation, executor.target(), options.tuning);
  const std::unique_ptr<Loaded> kernel = executor.load(planned);

  oracle::Options problem_options;
  problem_options.seed = options.seed;
  problem_options.rows = options.rows;
  problem_options.lengths = options.lengths;
  problem_options.extra_stride = options.extra_stride;
  problem_options.excess_rows = options.excess_rows;
  if (executor.target().family == plan::Family::kCpu) problem_options.products = core::DType::kBf16;
  const bool all_lengths = planned.kernel.facts.chunk != 0 && !options.lengths.empty();  // named by the caller
  if (!all_lengths && has_slots(planned.kernel) && planned.kernel.facts.padding != core::Padding::kNone &&
      options.rows > 1) {
    problem_options.padding_rows = options.padding_rows;
  }
  oracle::Problem problem = oracle::make_problem(spec, operation, problem_options);

  Result result;
  result.operation = operation;
  result.compile_seconds = kernel->compile_seconds();
  for (int step = 0; step < options.steps; ++step) {
    if (step != 0) problem.next_step();
    const oracle::Expectation expectation = oracle::expect(problem);
    kernel->run_on(options.edge, problem, views_of(problem, layout));
    keep_worst(oracle::compare(expectation, problem), result.deviations);
  }
  result.good = oracle::all_good(result.deviations);
  return result;
}

}  // namespace gdn::verify
