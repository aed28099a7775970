// gdn-gen demo: the main job at a glance. Emits and compiles what this machine can, runs a decode step at the models'
// true sizes on the best thing present, and holds it against the oracle.
#include <fmt/format.h>

#include <chrono>
#include <map>
#include <memory>

#include "compile/compiler.h"
#include "compile/headers.h"
#include "emit/tree.h"
#include "error.h"
#include "tool/command.h"
#include "verify/bench.h"
#include "verify/verify.h"

namespace gdn::tool {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What is missing; where it was sought is more than this table has room for.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// The run-time compilers that are here, and why the others are not.
class Compilers {
 public:
  Compilers() {
    add(plan::Family::kCuda, "NVRTC", [] { return runtime::make_nvrtc(); });
    add(plan::Family::kHip, "clang", [] { return runtime::make_clang(); });
    add(plan::Family::kHip, "hiprtc", [] { return runtime::make_hiprtc(); });
  }

  // Null, with the reason, when nothing here compiles for the target.
  const runtime::Compiler* find(const plan::Target& target, std::string& why) const {
    for (const auto& [family, compiler] : compilers_) {
      if (family == target.family && compiler->knows(target.name)) return compiler.get();
    }
    const auto missing = missing_.find(target.family);
    why = missing != missing_.end() ? missing->second : fmt::format("no compiler here knows {}", target.name);
    return nullptr;
  }

 private:
  template <class Make>
  void add(plan::Family family, const char* name, Make make) {
    try {
      compilers_.emplace_back(family, make());
    } catch (const runtime::Error& error) {
      missing_.emplace(family, fmt::format("no {}", name));
      fmt::print("  without {}: {}\n", name, first_line(error.what()));
    }
  }

  std::vector<std::pair<plan::Family, std::unique_ptr<runtime::Compiler>>> compilers_;
  std::map<plan::Family, std::string> missing_;
};

// Emits all operations of a spec for a target and compiles decode. Prints one line.
void emit_and_compile(const Loaded& loaded, const plan::Target& target, const Compilers& compilers,
                      const std::string& out) {
  std::string why;
  const bool cpu = target.family == plan::Family::kCpu;
  const runtime::Compiler* compiler = cpu ? nullptr : compilers.find(target, why);
  if (!cpu && compiler == nullptr) {
    fmt::print("  {:<18} {:<11} skipped: {}\n", loaded.layout.spec, target.name, why);
    return;
  }
  auto start = std::chrono::steady_clock::now();
  const auto files = expected_tree({loaded}, parse_operations({}), {&target});
  emit::write(files, fmt::format("{}/{}_{}", out, loaded.layout.spec, target.name));
  const double emitted = seconds_since(start);
  if (cpu) {
    fmt::print("  {:<18} {:<11} emitted {} files in {:.2f} s, machine code included\n", loaded.layout.spec, target.name,
               files.size(), emitted);
    return;
  }
  const emit::EmittedFile decode = emit::source(plan::make(loaded.layout, "decode", target));
  const runtime::Source source{decode.path, decode.text, runtime::template_headers()};
  const runtime::Binary binary = compiler->compile(source, std::string(target.name));
  fmt::print("  {:<18} {:<11} emitted {} files in {:.2f} s, decode compiled by {} in {:.2f} s\n", loaded.layout.spec,
             target.name, files.size(), emitted, compiler->name(), binary.seconds);
  std::fflush(stdout);
}

// cuda, cpu or simt: the first that this machine has.
std::unique_ptr<verify::Executor> best_executor(std::string& place) {
  for (const char* candidate : {"cuda", "cpu", "simt"}) {
    try {
      auto executor = verify::open_executor(candidate);
      if (std::string_view(candidate) == "cpu") {
        // Whether the processor can run the target shows when a kernel is loaded.
        const Loaded probe = load("qwen3_next_80b");
        executor->load(plan::make(probe.layout, "gating", executor->target()));
      }
      place = candidate;
      return executor;
    } catch (const runtime::Error& error) {
      fmt::print("  not on {}: {}\n", candidate, first_line(error.what()));
    }
  }
  throw Failure(kCannotJudge, "nothing here can run a kernel: no CUDA GPU, no AVX512-BF16, no C++ compiler");
}

struct Line {
  std::string spec, target, where, verdict;
  double microseconds = 0, gb_per_s = 0, error = 0;
};

Line run(verify::Executor& executor, const std::string& place, const Loaded& loaded) {
  verify::Options options;
  options.rows = place == "simt" ? 2 : 16;
  options.padding_rows = 1;
  options.steps = place == "simt" ? 1 : 2;
  const auto start = std::chrono::steady_clock::now();
  const verify::Result result = verify::verify(executor, loaded.spec, loaded.layout, "decode", options);
  Line line{loaded.layout.spec, std::string(executor.target().name), executor.where(), result.good ? "right" : "WRONG"};
  line.error = result.worst_error();
  if (place == "simt") {
    line.microseconds = (seconds_since(start) - result.compile_seconds) * 1e6;
    line.verdict += ", time without meaning";
    return line;
  }
  const verify::Bench bench = verify::bench_launch(loaded.spec, loaded.layout, "decode", place, {options.rows},
                                                   {core::Edge::kPlain}, [](const auto&) {});
  line.microseconds = bench.rows.front().time_us;
  line.gb_per_s = bench.rows.front().gb_per_s;
  return line;
}

}  // namespace

void add_demo(CLI::App& program, int& exit_code) {
  auto out = std::make_shared<std::string>("build/demo");
  CLI::App* command = program.add_subcommand(
      "demo", "Emit, compile, run and check a decode step of two models on the best thing that this machine has");
  command->add_option("--out", *out, "folder for the emitted files")->capture_default_str();
  command->callback([out, &exit_code] {
    const std::vector<Loaded> specs = [] {
      std::vector<Loaded> loaded;
      for (const char* name : {"qwen3_next_80b", "qwen3_5_35b_a3b"}) loaded.push_back(load(name));
      return loaded;
    }();
    fmt::print("emit and compile, into {}:\n", *out);
    const Compilers compilers;
    for (const Loaded& loaded : specs) {
      for (const plan::Target& target : plan::targets()) emit_and_compile(loaded, target, compilers, *out);
    }
    fmt::print("run one decode step at the model's true size and compare with the fp64 oracle:\n");
    std::string place;
    const auto executor = best_executor(place);
    std::vector<Line> lines;
    for (const Loaded& loaded : specs) {
      fmt::print("  {} on {} ...\n", loaded.layout.spec, executor->where());
      std::fflush(stdout);
      lines.push_back(run(*executor, place, loaded));
      if (lines.back().verdict.rfind("right", 0) != 0) exit_code = kFinding;
    }
    fmt::print("\n{:<16} {:<11} {:<28} {:>11} {:>8} {:>9}  {}\n", "spec", "target", "where", "time", "GB/s", "error",
               "verdict");
    for (const Line& line : lines) {
      fmt::print("{:<16} {:<11} {:<28} {:>8.1f} us {:>8} {:>9.1e}  {}\n", line.spec, line.target, line.where,
                 line.microseconds, line.gb_per_s > 0 ? fmt::format("{:.0f}", line.gb_per_s) : "-", line.error,
                 line.verdict);
    }
  });
}

}  // namespace gdn::tool
