#include <fmt/format.h>

#include <map>
#include <mutex>

#include "compile/compiler.h"
#include "compile/elf.h"
#include "compile/files.h"
#include "compile/library.h"
#include "compile/private_dir.h"
#include "compile/process.h"
#include "error.h"

namespace gdn::runtime {
namespace {

// Newest first: a newer one knows more processors.
constexpr int kNewest = 24;
constexpr int kOldest = 17;  // the first that knows gfx942

std::vector<std::string> default_candidates() {
  const std::string own = environment("GDN_CLANG");
  if (!own.empty()) return {own};
  std::vector<std::string> candidates;
  for (int version = kNewest; version >= kOldest; --version) {
    candidates.push_back(fmt::format("clang++-{}", version));
    candidates.push_back(fmt::format("/usr/lib/llvm-{}/bin/clang++", version));
  }
  candidates.push_back("clang++");
  candidates.push_back("/opt/rocm/llvm/bin/clang++");
  return candidates;
}

bool is_amd_name(std::string_view target) {
  if (target.substr(0, 3) != "gfx" || target.size() < 6) return false;
  return target.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-:+") == std::string_view::npos;
}

class Clang final : public Compiler {
 public:
  explicit Clang(const std::vector<std::string>& candidates) {
    for (const std::string& candidate : candidates) {
      const std::string path = find_program(candidate);
      if (!path.empty()) programs_.push_back(path);
    }
    if (programs_.empty()) {
      throw Error(Code::kMissingLibrary,
                  fmt::format("no clang was found. Install clang-19 and lld-19 (gfx950: clang-22 and lld-22), or point "
                              "GDN_CLANG at a clang++.\nTried: {}",
                              fmt::join(candidates, ", ")));
    }
  }

  std::string name() const override { return "clang"; }

  // Of the first candidate; program() may take another one for a target that this one doesn't know.
  std::string version() const override { return fmt::format("{} ({})", version_line(programs_[0]), programs_[0]); }

  // Of every candidate: which of them knows a target is a process away.
  std::string fingerprint() const override {
    std::string text =
        fmt::format("clang {} {} {}", fmt::join(kFlags, " "), fmt::join(kCodeFlags, " "), kObjectVersion);
    for (const std::string& path : programs_) text += "\n" + file_stamp(path);
    return text;
  }

  bool knows(std::string_view target) const override { return !program(std::string(target)).empty(); }

  Binary compile(const Source& source, const std::string& target, const Options& options) const override {
    const std::string clang = program(target);
    if (clang.empty()) {
      throw Error(Code::kUnsupported,
                  fmt::format("no clang here knows the target `{}`: gfx950 needs clang-22, the others "
                              "clang-19, each with the lld of its version.\nTried: {}",
                              target, fmt::join(programs_, ", ")));
    }
    const PrivateDir dir;
    const std::string file = write_source(dir, source);
    Binary binary;
    // Assembly first, then the assembler: the text that a test looks at is the code that runs.
    std::vector<std::string> arguments = {clang, "-x", "hip"};
    for (const char* flag : kFlags) arguments.push_back(flag);
    arguments.insert(arguments.end(), {"--offload-arch=" + target, kObjectVersion});
    arguments.insert(arguments.end(), std::begin(kCodeFlags), std::end(kCodeFlags));
    arguments.insert(arguments.end(), options.extra.begin(), options.extra.end());
    arguments.insert(arguments.end(), {"-S", file, "-o", "kernel.s"});
    step(arguments, dir, source, options, binary);
    step({clang, "--target=amdgcn-amd-amdhsa", "-mcpu=" + target, kObjectVersion, "kernel.s", "-o", "kernel.hsaco"},
         dir, source, options, binary);
    const std::string bytes = dir.has("kernel.hsaco") ? dir.read("kernel.hsaco") : std::string();
    binary.bytes.assign(bytes.begin(), bytes.end());
    if (!is_elf(binary.bytes, Machine::kAmdGpu)) {
      throw Error(Code::kCompileFailed, fmt::format("{} returned {} bytes that are no AMD GPU code object for {}:\n{}",
                                                    clang, bytes.size(), source.name, binary.log));
    }
    if (options.assembly) binary.assembly = dir.read("kernel.s");
    return binary;
  }

 private:
  // -nogpuinc, -nogpulib: neither the ROCm headers nor its device libraries are needed.
  static constexpr const char* kFlags[] = {"--offload-device-only", "--no-gpu-bundle-output", "-nogpuinc", "-nogpulib"};
  static constexpr const char* kCodeFlags[] = {"-O3", "-std=c++17", "-I.", "-Rpass-analysis=kernel-resource-usage"};
  // The one that every ROCm from 5.0 on loads; clang 22 would write 6.
  static constexpr const char* kObjectVersion = "-mcode-object-version=5";

  static void step(const std::vector<std::string>& arguments, const PrivateDir& dir, const Source& source,
                   const Options& options, Binary& binary) {
    const ProcessResult result = run_process(arguments, dir.path().string(), options.time_limit);
    binary.log += result.output + result.errors;
    binary.seconds += result.seconds;
    if (result.ok()) return;
    const bool no_linker = binary.log.find("lld") != std::string::npos &&
                           binary.log.find("unable to execute command") != std::string::npos;
    throw Error(result.timed_out ? Code::kTimedOut : Code::kCompileFailed,
                fmt::format("{} failed on {} ({}){}:\n{}", arguments[0], source.name, result.ending(),
                            no_linker ? "; install the lld of the same version" : "", binary.log));
  }

  // The first clang that knows the target; empty when none does. Asked once for each target.
  std::string program(const std::string& target) const {
    if (!is_amd_name(target)) return {};
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto known = known_.find(target);
    if (known != known_.end()) return known->second;
    const PrivateDir dir;
    dir.write("empty.hip", "");
    std::string found;
    for (const std::string& clang : programs_) {
      std::vector<std::string> arguments = {clang, "-x", "hip"};
      for (const char* flag : kFlags) arguments.push_back(flag);
      arguments.insert(arguments.end(), {"--offload-arch=" + target, "-fsyntax-only", "empty.hip"});
      if (!run_process(arguments, dir.path().string(), std::chrono::seconds(20)).ok()) continue;
      found = clang;
      break;
    }
    known_[target] = found;
    return found;
  }

  std::vector<std::string> programs_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::string> known_;
};

}  // namespace

std::unique_ptr<Compiler> make_clang(std::vector<std::string> candidates) {
  if (candidates.empty()) candidates = default_candidates();
  return std::make_unique<Clang>(candidates);
}

}  // namespace gdn::runtime
