// gdn-gen verify: run a spec's kernels and hold every element they write against the fp64 oracle.
#include "verify/verify.h"

#include <fmt/format.h>

#include <memory>

#include "error.h"
#include "tool/command.h"

namespace gdn::tool {
namespace {

struct Options {
  std::vector<std::string> specs, operations;
  std::string on = "cpu", target, tuning, edges = "plain";
  int ranks = 1;
  verify::Options run;
};

ExitCode verify_spec(verify::Executor& executor, const std::string& file, const Options& options) {
  const Loaded loaded = load(file, options.ranks);
  fmt::print("{} on {} ({})\n", loaded.layout.spec, executor.where(), executor.target().name);
  fmt::print("  {:<13} {:<13} {:>10} {:>10}  {}\n", "operation", "operand", "error", "limit", "verdict");
  ExitCode code = kGood;
  for (const std::string& operation : chosen(parse_operations(options.operations), loaded.layout, executor.target())) {
    const verify::Result result = verify::verify(executor, loaded.spec, loaded.layout, operation, options.run);
    for (const oracle::Deviation& deviation : result.deviations) {
      fmt::print("  {:<13} {:<13} {:>10.2e} {:>10.0e}  {}\n", operation, deviation.name, deviation.error,
                 deviation.tolerance, deviation.good() ? "good" : "WRONG");
    }
    std::fflush(stdout);
    if (!result.good) {
      fmt::print(stderr, "{}", oracle::describe(result.deviations));
      code = kFinding;
    }
  }
  return code;
}

}  // namespace

void add_verify(CLI::App& program, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "verify", "Run a spec's kernels and compare every element they write, states included, with the fp64 oracle");
  command->add_option("SPEC", options->specs, "spec files or names of specs")->required();
  command->add_option("--on", options->on, "cpu (just in time), simt (the GPU source on the CPU), cuda (a GPU)")
      ->check(CLI::IsMember({"cpu", "simt", "cuda"}))
      ->capture_default_str();
  command->add_option(
      "--target", options->target,
      "whose kernels run: on simt a GPU target (default sm_90a), on cpu a CPU target (default: the best one here)");
  command->add_option("--operation", options->operations, "decode,unpack,...; default: all")->delimiter(',');
  command->add_option("--seed", options->run.seed, "seed of the inputs")->capture_default_str();
  command->add_option("--steps", options->run.steps, "decode steps, each from the state of the one before")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--rows", options->run.rows, "rows of the batch, one of them padding where the spec has any")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command
      ->add_option("--edges", options->edges,
                   "whose forms run where they differ by the edge of a launch; nothing is ahead of these launches")
      ->check(CLI::IsMember({"plain", "programmatic"}))
      ->capture_default_str();
  add_ranks(*command, options->ranks);
  add_tuning(*command, options->tuning);
  command->callback([options, &exit_code] {
    options->run.tuning = load_tuning(options->tuning);
    if (options->edges == "programmatic") options->run.edge = core::Edge::kProgrammatic;
    const plan::Target* target = options->target.empty() ? nullptr : parse_targets({options->target}).front();
    try {
      const auto executor = verify::open_executor(options->on, target);
      for (const std::string& spec : options->specs) {
        const ExitCode code = verify_spec(*executor, spec, *options);
        if (code != kGood) exit_code = code;
      }
    } catch (const runtime::Error& error) {
      switch (error.code()) {
        case runtime::Code::kMissingLibrary:
        case runtime::Code::kUnsupported:
          throw Failure(kCannotJudge, error.what());
        default:
          throw Failure(kFinding, error.what());
      }
    }
  });
}

}  // namespace gdn::tool
