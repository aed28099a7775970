#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "core/arrivals.h"
#include "oracle/compare.h"
#include "oracle/reference.h"
#include "plan/candidates.h"
#include "verify/cuda_bench.h"

namespace gdn::verify {
namespace {

constexpr double kAsGood = 1.015;  // of the best time: choices that are as good keep the number of entry points small
constexpr double kWithinReach = 1.05;

std::string text_of(const plan::Choices& choices) {
  std::string text;
  for (const auto& [name, value] : choices) text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, value);
  return text;
}

// One way to launch, for any number of rows.
struct Candidate {
  plan::Choices choices;
  plan::TuningTable tuning;
  plan::Planned planned;
  runtime::Binary binary;
  std::unique_ptr<runtime::Kernel> kernel;
  std::string fault;  // of its compilation
};

Candidate make_candidate(const layout::Layout& layout, std::string_view operation, const plan::Target& target,
                         const plan::Choices& choices) {
  Candidate candidate;
  candidate.choices = choices;
  candidate.tuning.set(target.name, operation, layout.spec, {{0, choices}});
  candidate.planned = plan::make(layout, operation, target, candidate.tuning);
  return candidate;
}

// Side by side: a candidate takes a compiler some tenths of a second, and there are dozens.
void compile_all(const CudaBench& cuda, std::vector<Candidate>& candidates) {
  std::atomic<std::size_t> next{0};
  std::vector<std::thread> workers;
  const std::size_t count = std::min<std::size_t>(candidates.size(), std::max(1u, std::thread::hardware_concurrency()));
  for (std::size_t i = 0; i < count; ++i) {
    workers.emplace_back([&] {
      for (std::size_t j = next++; j < candidates.size(); j = next++) {
        try {
          candidates[j].binary = cuda.compile(candidates[j].planned);
        } catch (const std::exception& error) {
          candidates[j].fault = error.what();
        }
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  for (const Candidate& candidate : candidates) {
    if (!candidate.fault.empty()) {
      throw std::runtime_error(fmt::format("{}: {}", text_of(candidate.choices), candidate.fault));
    }
  }
}

// Holds candidates against the oracle, which works its problem out once for all of them.
class Judge {
 public:
  Judge(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation)
      : layout_(layout),
        problem_(oracle::make_problem(spec, operation, options(layout))),
        expectation_(oracle::expect(problem_)) {}

  // Throws std::runtime_error with what is wrong.
  void judge(const CudaBench& cuda, const Candidate& candidate) const {
    oracle::Problem problem = problem_;
    load_compiled(cuda.device(), candidate.planned, candidate.binary)->run(problem, views_of(problem, layout_));
    const std::vector<oracle::Deviation> deviations = oracle::compare(expectation_, problem);
    if (oracle::all_good(deviations)) return;
    throw std::runtime_error(fmt::format("{}: {} computes wrong results\n{}", layout_.spec, text_of(candidate.choices),
                                         oracle::describe(deviations)));
  }

 private:
  static oracle::Options options(const layout::Layout& layout) {
    oracle::Options options;
    options.rows = 3;
    options.extra_stride = 64;
    if (layout.numbers.padding != core::Padding::kNone) options.padding_rows = 1;
    return options;
  }

  const layout::Layout& layout_;
  oracle::Problem problem_;
  oracle::Expectation expectation_;
};

// Bands from the largest batch down.
std::vector<plan::Band> bands_of_trials(const std::vector<int>& batches,
                                        const std::vector<std::vector<Trial>>& trials) {
  std::vector<plan::Band> bands(batches.size());
  for (std::size_t i = batches.size(); i-- > 0;) {
    const std::vector<Trial>& mine = trials[i];
    bands[i].max_rows = i + 1 == batches.size() ? 0 : batches[i];
    bands[i].choices = mine.front().choices;
    if (i + 1 == batches.size()) continue;
    for (const Trial& trial : mine) {
      if (trial.choices == bands[i + 1].choices && trial.time_us <= kAsGood * mine.front().time_us) {
        bands[i].choices = trial.choices;
      }
    }
  }
  return bands;
}

// What a plan takes for so many rows.
const plan::Choices& choices_at(const core::KernelPlan& plan, int rows, Edge edge) {
  const std::size_t variant = core::variant_of(plan, rows, edge);
  return variant < plan.variants.size() ? plan.variants[variant].choices : plan.choices;
}

// Times each candidate, and those within reach of the best once more: the mean of both turns.
std::vector<Trial> trials_of(CudaBench& cuda, const CudaBench::Stage& stage, const std::vector<Candidate>& all,
                             const std::vector<std::size_t>& numbers, Edge edge) {
  std::vector<std::pair<double, std::size_t>> timed;
  for (const std::size_t number : numbers) timed.emplace_back(cuda.launch_us(*all[number].kernel, stage, edge), number);
  const double best = std::min_element(timed.begin(), timed.end())->first;
  for (auto& [us, number] : timed) {
    if (us <= kWithinReach * best) us = 0.5 * (us + cuda.launch_us(*all[number].kernel, stage, edge));
  }
  std::sort(timed.begin(), timed.end());
  std::vector<Trial> trials;
  for (const auto& [us, number] : timed) trials.push_back({all[number].choices, us});
  return trials;
}

}  // namespace

Tuned tune(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation, std::vector<int> batches,
           const std::vector<Edge>& edges, const std::function<void(const std::string&)>& tell,
           const plan::TuningTable& known) {
  CudaBench cuda;
  const plan::Target& target = cuda.target();
  const core::KernelPlan now = plan::make(layout, operation, target, known).kernel;
  const core::Facts& facts = now.facts;
  std::sort(batches.begin(), batches.end());
  batches.erase(std::unique(batches.begin(), batches.end()), batches.end());

  // A launch's rows are its tokens: as many of each sequence as there can be.
  const int tokens = tokens_of_row(spec, operation);
  std::vector<Candidate> all;
  std::vector<std::vector<std::size_t>> of_batch;  // numbers in `all`
  for (const int batch : batches) {
    of_batch.emplace_back();
    std::vector<plan::Choices> ways = plan::candidates(target, operation, facts, batch * tokens);
    for (const Edge edge : edges) ways.push_back(choices_at(now, batch * tokens, edge));
    for (const plan::Choices& choices : ways) {
      const auto made = std::find_if(all.begin(), all.end(), [&](const auto& c) { return c.choices == choices; });
      const auto number = static_cast<std::size_t>(made - all.begin());
      std::vector<std::size_t>& mine = of_batch.back();
      if (std::find(mine.begin(), mine.end(), number) == mine.end()) mine.push_back(number);
      if (made == all.end()) all.push_back(make_candidate(layout, operation, target, choices));
    }
  }
  tell(fmt::format("{}: compiling {} candidates", layout.spec, all.size()));
  compile_all(cuda, all);
  tell(fmt::format("{}: holding them against the oracle", layout.spec));
  const Judge judge(spec, layout, operation);
  for (Candidate& candidate : all) {
    candidate.kernel = cuda.load(candidate.planned, candidate.binary);
    judge.judge(cuda, candidate);
  }

  Tuned tuned;
  tuned.device = cuda.name();
  tuned.target = target.name;
  for (const Edge edge : edges) tuned.edges.push_back({edge, {}, {}});
  for (std::size_t i = 0; i < batches.size(); ++i) {
    tell(fmt::format("{}: batch {}, {} candidates", layout.spec, batches[i], of_batch[i].size()));
    const CudaBench::Stage stage = cuda.stage(spec, layout, operation, all.front().planned.kernel, batches[i]);
    for (Tuned::OnEdges& on : tuned.edges) {
      on.trials.push_back(trials_of(cuda, stage, all, of_batch[i], on.edge));
    }
  }
  for (Tuned::OnEdges& on : tuned.edges) {
    on.bands = bands_of_trials(batches, on.trials);
    for (plan::Band& band : on.bands) {
      band.max_rows *= tokens;
      band.edges = core::only(on.edge);
    }
  }
  return tuned;
}

}  // namespace gdn::verify
