// gdn-gen build: every kernel of some specs, compiled ahead of time into one bundle.
#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <memory>
#include <optional>

#include "bundle/bundle.h"
#include "cache/cached_compiler.h"
#include "compile/compile_all.h"
#include "compile/headers.h"
#include "emit/tree.h"
#include "error.h"
#include "tool/command.h"
#include "tool/names.h"

namespace gdn::tool {
namespace {

struct Options {
  std::vector<std::string> specs, targets, operations;
  std::string bundle, depfile, depfile_target;
  int ranks = 1;
  int jobs = 0;
  int time_limit = 600;
  bool no_cache = false;
  bool allow_unverified = false;
  bool quiet = false;
};

// The compilers that this machine has, each opened when the first kernel needs it.
class Compilers {
 public:
  explicit Compilers(bool cached) {
    if (!cached) return;
    runtime::CacheSettings settings = runtime::CacheSettings::from_environment();
    settings.jit = true;  // this command is what GDN_JIT=off asks for
    settings.warn = [](const std::string& text) { fmt::print(stderr, "gdn-gen: warning: {}\n", text); };
    cache_ = std::make_shared<runtime::DiskCache>(std::move(settings));
  }

  std::shared_ptr<const runtime::Compiler> find(const plan::Target& target) {
    const std::string name(target.name);
    if (target.family == plan::Family::kCuda) return open("nvrtc", name);
    // clang takes every AMD target that its version knows; hiprtc is there where ROCm is and clang is not.
    std::string failures;
    for (const char* compiler : {"clang", "hiprtc"}) {
      try {
        return open(compiler, name);
      } catch (const runtime::Error& error) {
        failures += fmt::format("\n{}: {}", compiler, error.what());
      }
    }
    throw Failure(kCannotJudge, fmt::format("nothing here compiles for {}:{}", name, failures));
  }

 private:
  std::shared_ptr<const runtime::Compiler> open(const std::string& name, const std::string& target) {
    std::shared_ptr<const runtime::Compiler>& known = known_[name];
    if (known == nullptr) {
      known = name == "nvrtc"   ? runtime::make_nvrtc()
              : name == "clang" ? runtime::make_clang()
                                : runtime::make_hiprtc();
      if (cache_ != nullptr) known = std::make_shared<runtime::CachedCompiler>(known, cache_);
    }
    if (!known->knows(target)) {
      throw runtime::Error(runtime::Code::kUnsupported, fmt::format("{} does not know {}", known->version(), target));
    }
    return known;
  }

  std::map<std::string, std::shared_ptr<const runtime::Compiler>> known_;
  std::shared_ptr<const runtime::DiskCache> cache_;
};

// Loading has warned of each by name and place.
void refuse_unverified(const Loaded& loaded) {
  if (loaded.spec.unverified.empty()) return;
  throw Failure(kFinding,
                fmt::format("{}: {} values are unverified and would be compiled in: read them in the model's own "
                            "files and take them off the list, or pass --allow-unverified",
                            loaded.spec.file, loaded.spec.unverified.size()));
}

// A name as make and ninja read it in a dependency file.
std::string escaped(const std::string& name) {
  std::string text;
  for (const char letter : name) {
    if (letter == ' ' || letter == '#') text += '\\';
    text += letter;
    if (letter == '$') text += '$';
  }
  return text;
}

void write_depfile(const Options& options) {
  std::string text = escaped(options.depfile_target.empty() ? options.bundle : options.depfile_target) + ":";
  for (const std::string& spec : options.specs) {
    for (const std::string& file : find_spec(spec).files) {
      text += " \\\n  " + escaped(std::filesystem::absolute(file).lexically_normal().string());
    }
  }
  emit::write_file(options.depfile, text + "\n");
}

void build(const Options& options) {
  const std::vector<const plan::Target*> targets = parse_targets(options.targets);
  const std::vector<std::string> operations = parse_operations(options.operations);
  std::vector<runtime::BundleKernel> kernels;
  std::vector<runtime::CompileJob> jobs;
  std::vector<std::size_t> kernel_of_job;
  Compilers compilers(!options.no_cache);
  for (const std::string& name : options.specs) {
    const Loaded loaded = load(name, options.ranks);
    if (!options.allow_unverified) refuse_unverified(loaded);
    for (const plan::Target* target : targets) {
      for (const std::string& operation : chosen(operations, loaded.layout, *target)) {
        plan::Planned planned;
        try {
          planned = plan::make(loaded.layout, operation, *target);
        } catch (const plan::Unplannable& error) {
          throw Failure(kFinding, fmt::format("{}: {}", loaded.spec.file, error.what()));
        }
        runtime::BundleKernel kernel;
        kernel.plan = planned.kernel;
        if (target->family != plan::Family::kCpu) {
          emit::EmittedFile file = emit::source(planned);
          runtime::CompileJob job;
          job.compiler = compilers.find(*target);
          job.source = {std::move(file.path), std::move(file.text), runtime::template_headers()};
          job.target = target->name;
          kernel.compiler = job.compiler->version();
          kernel_of_job.push_back(kernels.size());
          jobs.push_back(std::move(job));
        }
        kernels.push_back(std::move(kernel));
      }
    }
  }

  runtime::CompileLimits limits;
  limits.threads = options.jobs;
  limits.time_limit = std::chrono::seconds(options.time_limit);
  if (!options.quiet) {
    limits.progress = [](const runtime::CompileProgress& progress) {
      const std::string how = progress.result.error           ? "failed"
                              : progress.result.binary.cached ? "cached"
                                                              : fmt::format("{:.2f} s", progress.result.binary.seconds);
      fmt::print(stderr, "[{}/{}] {} {}\n", progress.done, progress.total, progress.job.source.name, how);
    };
  }
  std::vector<runtime::CompileResult> results = runtime::compile_all(std::move(jobs), limits);
  int failed = 0;
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (const std::optional<runtime::Error>& error = results[i].error) {
      fmt::print(stderr, "gdn-gen: {}\n", error->what());
      ++failed;
    }
    kernels[kernel_of_job[i]].binary = std::move(results[i].binary.bytes);
  }
  if (failed > 0) {
    throw Failure(kFinding, fmt::format("{} of {} kernels could not be compiled: {} was not written", failed,
                                        results.size(), options.bundle));
  }

  const std::string bytes = runtime::make_bundle(kernels);
  emit::write_file(options.bundle, bytes);
  if (!options.depfile.empty()) write_depfile(options);
  if (!options.quiet) fmt::print("{}: {} kernels, {} bytes\n", options.bundle, kernels.size(), bytes.size());
}

}  // namespace

void add_build(CLI::App& program, int&) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("build", "Compile the kernels of specs ahead of time into one bundle");
  command->add_option("SPEC", options->specs, "spec files or names of specs")->required();
  command->add_option("--target", options->targets, "sm_90a,gfx942,avx512bf16,...; all: every target")
      ->delimiter(',')
      ->required();
  command->add_option("--operation", options->operations, "decode,unpack,...; default: all operations")->delimiter(',');
  command->add_option("--bundle", options->bundle, "the file to write")->required();
  command->add_option("--depfile", options->depfile, "write the files that the bundle depends on, for make and ninja");
  command->add_option("--depfile-target", options->depfile_target, "what depends on them; default: the bundle");
  command->add_option("--jobs", options->jobs, "compilations at once; default: by processors and memory")
      ->check(CLI::PositiveNumber);
  command->add_option("--time-limit", options->time_limit, "seconds for all compilations together")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--no-cache", options->no_cache, "compile everything, whatever the disk cache holds");
  command->add_flag("--allow-unverified", options->allow_unverified,
                    "build specs with values that nobody has read in a primary source");
  command->add_flag("--quiet", options->quiet, "print warnings and errors only");
  add_ranks(*command, options->ranks);
  command->callback([options] { build(*options); });
}

}  // namespace gdn::tool
