#include <fmt/format.h>

#include "compile/compiler.h"
#include "compile/elf.h"
#include "compile/files.h"
#include "compile/library.h"
#include "compile/private_dir.h"
#include "compile/process.h"
#include "error.h"

namespace gdn::runtime {
namespace {

std::vector<std::string> default_candidates() {
  const std::string own = environment("GDN_HOST_CXX");
  if (!own.empty()) return {own};
  return {"g++", "clang++", "c++"};
}

class HostCompiler final : public Compiler {
 public:
  explicit HostCompiler(const std::vector<std::string>& candidates) {
    for (const std::string& candidate : candidates) {
      program_ = find_program(candidate);
      if (!program_.empty()) break;
    }
    if (program_.empty()) {
      throw Error(Code::kMissingLibrary,
                  fmt::format("no C++ compiler for this machine was found. Install g++, or point GDN_HOST_CXX at one.\n"
                              "Tried: {}",
                              fmt::join(candidates, ", ")));
    }
  }

  std::string name() const override { return "host"; }
  std::string version() const override { return fmt::format("{} ({})", version_line(program_), program_); }
  std::string fingerprint() const override {
    return fmt::format("host {}\n{}", fmt::join(kFlags, " "), file_stamp(program_));
  }
  bool knows(std::string_view target) const override {
    return target.substr(0, 3) == "sm_" || target.substr(0, 3) == "gfx";
  }

  Binary compile(const Source& source, const std::string& target, const Options& options) const override {
    if (!knows(target)) {
      throw Error(Code::kUnsupported,
                  fmt::format("the host shim runs sources of GPU targets (sm_*, gfx*), not of `{}`", target));
    }
    const PrivateDir dir;
    const std::string file = write_source(dir, source);
    std::vector<std::string> arguments = {program_};
    arguments.insert(arguments.end(), std::begin(kFlags), std::end(kFlags));
    arguments.push_back(fmt::format("-DGDN_HOST_WAVE={}", wave_of(target)));
    arguments.insert(arguments.end(), options.extra.begin(), options.extra.end());
    arguments.insert(arguments.end(), {file, "-o", "kernel.so"});
    const ProcessResult result = run_process(arguments, dir.path().string(), options.time_limit);
    Binary binary;
    binary.log = result.output + result.errors;
    binary.seconds = result.seconds;
    if (!result.ok()) {
      throw Error(result.timed_out ? Code::kTimedOut : Code::kCompileFailed,
                  fmt::format("{} failed on {} ({}):\n{}", program_, source.name, result.ending(), binary.log));
    }
    const std::string bytes = dir.has("kernel.so") ? dir.read("kernel.so") : std::string();
    binary.bytes.assign(bytes.begin(), bytes.end());
    if (!is_elf(binary.bytes, host_machine())) {
      throw Error(Code::kCompileFailed, fmt::format("{} returned {} bytes that are no shared object for {}:\n{}",
                                                    program_, bytes.size(), source.name, binary.log));
    }
    return binary;
  }

 private:
  // -O1: what -O2 saves of a run it takes in compiling, two to three times over for the sizes that are run here.
  static constexpr const char* kFlags[] = {"-x",      "c++",   "-O1", "-std=c++17",
                                           "-shared", "-fPIC", "-I.", "-DGDN_HOST_SHIM"};

  std::string program_;
};

}  // namespace

std::unique_ptr<Compiler> make_host_compiler(std::vector<std::string> candidates) {
  if (candidates.empty()) candidates = default_candidates();
  return std::make_unique<HostCompiler>(candidates);
}

}  // namespace gdn::runtime
