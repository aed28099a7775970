// gdn-gen tune: rows of the tuning table, by measurement.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "emit/tree.h"
#include "error.h"
#include "tool/command.h"
#include "verify/bench.h"

namespace gdn::tool {
namespace {

struct Options {
  std::vector<std::string> specs;
  std::vector<int> batches = {1, 2, 4, 8, 16, 64, 256};
  std::string on = "cuda", operation = "decode", edges = "plain", out, tuning;
  int shown = 3;
  int ranks = 1;
};

std::string text_of(const plan::Choices& choices) {
  std::string text;
  for (const auto& [name, value] : choices) text += fmt::format(" {}={}", name, value);
  return text;
}

void print_trials(const std::string& spec, const plan::Band& band, const std::vector<verify::Trial>& trials, int most) {
  fmt::print("{} up to {} rows on {} edges:{}\n", spec,
             band.max_rows == 0 ? "any number of" : std::to_string(band.max_rows), core::to_string(band.edges),
             text_of(band.choices));
  const auto shown = std::min(trials.size(), static_cast<std::size_t>(most));
  for (std::size_t i = 0; i < shown; ++i) {
    fmt::print("  {:>9.2f} us {}\n", trials[i].time_us, text_of(trials[i].choices));
  }
}

}  // namespace

void add_tune(CLI::App& program, int&) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "tune",
      "Time sensible ways to launch an operation, each held against the oracle, and write rows of the tuning table");
  command->add_option("SPEC", options->specs, "spec files or names of specs")->required();
  command->add_option("--on", options->on, "where")->check(CLI::IsMember({"cuda"}))->capture_default_str();
  command->add_option("--operation", options->operation, "what is tuned")
      ->check(CLI::IsMember({"decode", "decode_spec"}))
      ->capture_default_str();
  command
      ->add_option("--batch", options->batches,
                   "batch sizes, of decode_spec in sequences; the largest stands for all beyond it")
      ->delimiter(',')
      ->check(CLI::Range(1, 65535))
      ->capture_default_str();
  command
      ->add_option("--edges", options->edges,
                   "how launches follow each other, see bench; rows are written for launches on such edges")
      ->check(CLI::IsMember({"plain", "programmatic", "both"}))
      ->capture_default_str();
  command->add_option("--out", options->out, "the table's file: rows of these specs are replaced; default: print them");
  command->add_option("--shown", options->shown, "candidates to print for each batch")->capture_default_str();
  add_ranks(*command, options->ranks);
  command->callback([options] {
    plan::TuningTable table;
    if (!options->out.empty() && std::filesystem::exists(options->out)) table = load_tuning(options->out);
    std::string device;
    const auto tell = [](const std::string& what) { fmt::print(stderr, "{}\n", what); };
    std::vector<core::Edge> edges;
    for (const core::Edge edge : {core::Edge::kPlain, core::Edge::kProgrammatic}) {
      if (options->edges == "both" || options->edges == core::to_string(edge)) edges.push_back(edge);
    }
    try {
      for (const std::string& name : options->specs) {
        const Loaded loaded = load(name, options->ranks);
        const verify::Tuned tuned =
            verify::tune(loaded.spec, loaded.layout, options->operation, options->batches, edges, tell);
        device = tuned.device;
        for (const verify::Tuned::OnEdges& on : tuned.edges) {
          for (std::size_t i = 0; i < on.trials.size(); ++i) {
            print_trials(loaded.layout.spec, on.bands[i], on.trials[i], options->shown);
          }
        }
        std::fflush(stdout);
        for (const verify::Tuned::OnEdges& on : tuned.edges) {
          table.set(tuned.target, options->operation, loaded.layout.spec, on.bands, on.edge);
        }
      }
    } catch (const runtime::Error& error) {
      throw Failure(kCannotJudge, error.what());
    } catch (const plan::Unplannable& error) {
      throw Failure(kFinding, error.what());
    }
    const std::string text = table.to_text();
    const std::size_t header = text.find('\n') + 1;
    const std::string commented = text.substr(0, header) +
                                  "# <target> <operation> <spec or *> <most rows or *> [plain, programmatic or *] "
                                  "<choice>=<integer> ...      rows are added by measurement, never by guess\n" +
                                  fmt::format("# by gdn-gen tune on {}, {} edges\n", device,
                                              options->edges == "both" ? "both kinds of" : options->edges) +
                                  text.substr(header);
    if (options->out.empty()) {
      fmt::print("{}", commented);
    } else {
      emit::write_file(options->out, commented);
    }
  });
}

}  // namespace gdn::tool
