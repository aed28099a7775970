// gdn-gen bench: the time of decode launches beside the floor.
#include "verify/bench.h"
#include "verify/bench_prefill.h"

#include <fmt/format.h>

#include <chrono>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/plan.h"
#include "emit/tree.h"
#include "error.h"
#include "plan/operation.h"
#include "tool/command.h"

namespace gdn::tool {
namespace {

struct Options {
  std::vector<std::string> specs;
  std::vector<int> batches = {1, 4, 16, 64, 256};
  std::vector<std::string> edges = {"plain"};
  int ranks = 1;
  std::string on = "cuda", operation = "decode", tuning, json, commit = "not given";
  std::vector<std::string> lengths = {"1024x8", "8192", "8192x4", "32768"};
};

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm date{};
  gmtime_r(&now, &date);
  return fmt::format("{:04}-{:02}-{:02}", date.tm_year + 1900, date.tm_mon + 1, date.tm_mday);
}

double rounded(double value) {
  // Four significant digits are more than a timing has.
  return std::stod(fmt::format("{:.4g}", value));
}

nlohmann::ordered_json document(const verify::Bench& bench, const Options& options) {
  std::string command = "gdn-gen bench";
  for (const std::string& spec : options.specs) command += " " + spec;
  command += fmt::format(" --on {} --batch {}", options.on, fmt::join(options.batches, ","));
  if (options.operation != "decode") command += fmt::format(" --operation {}", options.operation);
  if (options.on == "cuda") command += fmt::format(" --edges {}", fmt::join(options.edges, ","));
  if (!options.tuning.empty()) command += fmt::format(" --tuning {}", options.tuning);
  if (options.ranks > 1) command += fmt::format(" --tp {}", options.ranks);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const verify::BenchRow& row : bench.rows) {
    nlohmann::ordered_json entry = {{"spec", row.spec},
                                    {"operation", row.operation},
                                    {"target", row.target},
                                    {"on", row.on},
                                    {"edges", row.edges},
                                    {"batch", row.batch},
                                    {"state_dtype", row.state_dtype},
                                    {"time_us", rounded(row.time_us)},
                                    {"bytes", row.bytes},
                                    {"gb_per_s", rounded(row.gb_per_s)},
                                    {"floor_us", rounded(row.floor_us)},
                                    {"ratio", rounded(row.ratio)}};
    if (row.scaling_us > 0) entry["scaling_us"] = rounded(row.scaling_us);
    rows.push_back(std::move(entry));
  }
  nlohmann::ordered_json file = {{"format", 2},        {"commit", options.commit},
                                 {"command", command}, {"device", bench.device},
                                 {"date", today()},    {"gb_per_s", rounded(bench.copy_gb_per_s)}};
  if (bench.fan_gb_per_s > 0) file["fan_gb_per_s"] = rounded(bench.fan_gb_per_s);
  file["rows"] = std::move(rows);
  return file;
}

nlohmann::ordered_json document(const verify::PrefillBench& bench, const Options& options) {
  std::string command = "gdn-gen bench";
  for (const std::string& spec : options.specs) command += " " + spec;
  command += fmt::format(" --on {} --operation {} --lengths {}", options.on, options.operation,
                         fmt::join(options.lengths, ","));
  if (options.ranks > 1) command += fmt::format(" --tp {}", options.ranks);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const verify::PrefillRow& row : bench.rows) {
    rows.push_back({{"spec", row.spec},
                    {"operation", row.operation},
                    {"target", row.target},
                    {"on", row.on},
                    {"lengths", verify::to_string(row.lengths)},
                    {"time_us", rounded(row.time_us)},
                    {"bytes", row.bytes},
                    {"gb_per_s", rounded(row.gb_per_s)},
                    {"floor_us", rounded(row.floor_us)},
                    {"ratio", rounded(row.ratio)}});
    if (row.form.empty()) continue;
    rows.back()["form"] = row.form;
    rows.back()["chain_estimate_us"] = rounded(row.chain_us);
    rows.back()["prepare_estimate_us"] = rounded(row.prepare_us);
  }
  return {{"format", 2},
          {"commit", options.commit},
          {"command", command},
          {"device", bench.device},
          {"date", today()},
          {"gb_per_s", rounded(bench.copy_gb_per_s)},
          {"rows", std::move(rows)}};
}

void tell(const std::string& what) { fmt::print(stderr, "measuring {}\n", what); }

// Measures spec after spec with `measure`, prints each one's rows with `print` as they come, and writes the file.
template <typename Bench, typename Measure, typename Print>
void time_specs(const Options& options, const Measure& measure, const Print& print) {
  Bench all;
  try {
    for (const std::string& name : options.specs) {
      const Loaded loaded = load(name, options.ranks);
      Bench bench = measure(loaded);
      print(bench, loaded);
      std::fflush(stdout);
      // One floor for the whole file: the first measurement of the copy bandwidth.
      if (all.rows.empty()) {
        all = std::move(bench);
        continue;
      }
      for (auto& row : bench.rows) {
        row.floor_us *= bench.copy_gb_per_s / all.copy_gb_per_s;
        row.ratio = row.time_us / row.floor_us;
        all.rows.push_back(std::move(row));
      }
    }
  } catch (const runtime::Error& error) {
    throw Failure(kCannotJudge, error.what());
  } catch (const plan::Unplannable& error) {
    throw Failure(kFinding, error.what());
  }
  fmt::print("{}; copy {:.0f} GB/s counting bytes read and written\n", all.device, all.copy_gb_per_s);
  if (!options.json.empty()) emit::write_file(options.json, document(all, options).dump(1) + "\n");
}

// Launches over whole sequences.
void time_prefill(const Options& options) {
  std::vector<verify::Lengths> lengths;
  try {
    for (const std::string& text : options.lengths) lengths.push_back(verify::parse_lengths(text));
  } catch (const std::invalid_argument& error) {
    throw Failure(kBadUsage, error.what());
  }
  const plan::TuningTable tuning = load_tuning(options.tuning);
  fmt::print("{:<18} {:<12} {:<10} {:>10} {:>11} {:>10} {:>10} {:>7}\n", "spec", "operation", "target", "lengths",
             "time us", "GB/s", "floor us", "ratio");
  time_specs<verify::PrefillBench>(
      options,
      [&](const Loaded& loaded) {
        return verify::bench_prefill(loaded.spec, loaded.layout, options.operation, options.on, lengths, tell, tuning);
      },
      [](const verify::PrefillBench& bench, const Loaded&) {
        for (const verify::PrefillRow& row : bench.rows) {
          fmt::print("{:<18} {:<12} {:<10} {:>10} {:>11.2f} {:>10.1f} {:>10.2f} {:>7.2f}\n", row.spec, row.operation,
                     row.target, verify::to_string(row.lengths), row.time_us, row.gb_per_s, row.floor_us, row.ratio);
          if (row.form.empty()) continue;
          fmt::print("{:<18} form {}: estimated {:.0f} us for the chain and {:.0f} before it\n", "", row.form,
                     row.chain_us, row.prepare_us);
        }
      });
}

// Launches of some tokens a sequence.
void time_steps(const Options& options) {
  if (!core::waits_for_previous(options.operation) && options.edges != std::vector<std::string>{"plain"}) {
    throw Failure(kBadUsage, fmt::format("{} can't begin before the launch ahead of it is through: --edges plain",
                                         options.operation));
  }
  std::vector<core::Edge> edges;
  for (const std::string& name : options.edges) {
    edges.push_back(name == "plain" ? core::Edge::kPlain : core::Edge::kProgrammatic);
  }
  const plan::TuningTable tuning = load_tuning(options.tuning);
  const bool scales = options.on == "cpu";
  fmt::print("{:<18} {:<10} {:<12} {:>6} {:>6} {:>11} {:>10} {:>10} {:>7}{}\n", "spec", "target", "edges", "state",
             "batch", "time us", "GB/s", "floor us", "ratio", scales ? "  scaling us  of scaling" : "");
  time_specs<verify::Bench>(
      options,
      [&](const Loaded& loaded) {
        return verify::bench_launch(loaded.spec, loaded.layout, options.operation, options.on, options.batches, edges,
                                    tell, tuning);
      },
      [&](const verify::Bench& bench, const Loaded& loaded) {
        if (bench.fan_gb_per_s > 0) {
          fmt::print("one read and {} writes: {:.0f} GB/s\n", *loaded.spec.speculative.tokens, bench.fan_gb_per_s);
        }
        for (const verify::BenchRow& row : bench.rows) {
          fmt::print("{:<18} {:<10} {:<12} {:>6} {:>6} {:>11.2f} {:>10.1f} {:>10.2f} {:>7.3f}", row.spec, row.target,
                     row.edges, row.state_dtype, row.batch, row.time_us, row.gb_per_s, row.floor_us, row.ratio);
          if (scales) fmt::print(" {:>11.2f} {:>11.2f}", row.scaling_us, row.scaling_us / row.time_us);
          fmt::print("\n");
        }
      });
}

}  // namespace

void add_bench(CLI::App& program, int&) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "bench", "Time launches and print them beside the floor: decode with cold states, prefill");
  command->add_option("SPEC", options->specs, "spec files or names of specs")->required();
  command->add_option("--on", options->on, "cuda (graph replay) or cpu")
      ->check(CLI::IsMember({"cuda", "cpu"}))
      ->capture_default_str();
  command->add_option("--lengths", options->lengths, "of prefill: TOKENS or TOKENSxSEQUENCES of a launch")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--batch", options->batches, "batch sizes of decode")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command->add_option("--operation", options->operation, "what is timed")
      ->check(CLI::IsMember({"decode", "decode_spec", "state_commit", "conv_prefill", "chunk_delta", "prefill"}))
      ->capture_default_str();
  command
      ->add_option(
          "--edges", options->edges,
          "how the launches of a graph follow each other: plain; programmatic, slot indices and states promised "
          "to be ready early")
      ->delimiter(',')
      ->check(CLI::IsMember({"plain", "programmatic"}))
      ->capture_default_str();
  add_tuning(*command, options->tuning);
  command->add_option("--json", options->json, "write the figures to this file too");
  command->add_option("--commit", options->commit, "the commit that is measured, for the JSON file");
  add_ranks(*command, options->ranks);
  command->callback([options] {
    if (plan::prefills(options->operation)) {
      time_prefill(*options);
    } else {
      time_steps(*options);
    }
  });
}

}  // namespace gdn::tool
