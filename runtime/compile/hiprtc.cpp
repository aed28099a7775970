#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <stdexcept>
#include <system_error>

#include "compile/compiler.h"
#include "compile/elf.h"
#include "compile/files.h"
#include "compile/library.h"
#include "compile/process.h"
#include "error.h"

namespace gdn::runtime {
namespace {

// The part of hiprtc.h that is used.
using Program = void*;
using Result = int;

struct Api {
  explicit Api(const Library& library) {
    library.bind(version, "hiprtcVersion");
    library.bind_optional(runtime_version, "hipRuntimeGetVersion");
    library.bind(error_text, "hiprtcGetErrorString");
    library.bind(create, "hiprtcCreateProgram");
    library.bind(compile, "hiprtcCompileProgram");
    library.bind(log_size, "hiprtcGetProgramLogSize");
    library.bind(log, "hiprtcGetProgramLog");
    library.bind(code_size, "hiprtcGetCodeSize");
    library.bind(code, "hiprtcGetCode");
  }
  Result (*version)(int*, int*) = nullptr;
  Result (*runtime_version)(int*) = nullptr;
  const char* (*error_text)(Result) = nullptr;
  Result (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  Result (*compile)(Program, int, const char* const*) = nullptr;
  Result (*log_size)(Program, std::size_t*) = nullptr;
  Result (*log)(Program, char*) = nullptr;
  Result (*code_size)(Program, std::size_t*) = nullptr;
  Result (*code)(Program, char*) = nullptr;
};

struct Known {
  std::string_view target;
  int since;  // HIP version: 100 * major + minor
};

// An architecture that is not here, or came later than the library, is not tried: the library would abort.
constexpr std::array<Known, 9> kKnown = {{{"gfx906", 500},
                                          {"gfx908", 500},
                                          {"gfx90a", 500},
                                          {"gfx1030", 500},
                                          {"gfx1100", 505},
                                          {"gfx942", 600},
                                          {"gfx1200", 604},
                                          {"gfx1201", 604},
                                          {"gfx950", 700}}};

std::vector<std::string> default_candidates() {
  const std::string own = environment("GDN_HIPRTC");
  if (!own.empty()) return {own};
  std::vector<std::string> candidates;
  for (const char* name : {"libhiprtc.so", "libamdhip64.so"}) {
    for (const char* ending : {".7", ".6", ".5", ""}) candidates.push_back(std::string(name) + ending);
  }
  return candidates;
}

Library open_library(const std::vector<std::string>& candidates) {
  return Library("hiprtc", candidates,
                 "Install ROCm's hiprtc or Debian's libamdhip64-5, or point GDN_HIPRTC at libhiprtc.so");
}

// 100 * major + minor. Before ROCm 6, hiprtcVersion answers 9.0 whatever the version; then the runtime in the same
// library knows, and without it the oldest is assumed.
int hip_version(const Api& api) {
  int number = 0;
  if (api.runtime_version != nullptr && api.runtime_version(&number) == 0 && number > 0) return number / 100000;
  int major = 0, minor = 0;
  api.version(&major, &minor);
  return major == 9 && minor == 0 ? 500 : 100 * major + minor;
}

// What a child sends home: numbers and texts, each with its length before it.
void pack(std::string& message, std::string_view text) { message += fmt::format("{}:{}", text.size(), text); }

std::string unpack(std::string_view& message) {
  std::size_t size = 0;
  const auto [end, error] = std::from_chars(message.data(), message.data() + message.size(), size);
  const auto used = static_cast<std::size_t>(end - message.data());
  if (error != std::errc() || used >= message.size() || message[used] != ':' || size > message.size() - used - 1) {
    throw Error(Code::kCompileFailed, "hiprtc's child process ended before its answer was whole");
  }
  std::string text(message.substr(used + 1, size));
  message.remove_prefix(used + 1 + size);
  return text;
}

class Hiprtc final : public Compiler {
 public:
  explicit Hiprtc(std::vector<std::string> candidates) : candidates_(std::move(candidates)) {
    // The library is not opened in this process at all: its constructors look for devices and start threads.
    const ProcessResult result = run_forked(
        [this] {
          const Library library = open_library(candidates_);
          std::string message;
          pack(message, std::to_string(hip_version(Api(library))));
          pack(message, library.path());
          return message;
        },
        std::chrono::seconds(60));
    if (result.status == 1) throw Error(Code::kMissingLibrary, result.errors);
    if (!result.ok()) {
      throw Error(Code::kMissingLibrary,
                  fmt::format("hiprtc could not be opened ({}): {}", result.ending(), result.errors));
    }
    std::string_view message = result.output;
    version_ = std::stoi(unpack(message));
    path_ = unpack(message);
    candidates_ = {path_};
  }

  std::string name() const override { return "hiprtc"; }
  std::string version() const override {
    return fmt::format("hiprtc of HIP {}.{} ({})", version_ / 100, version_ % 100, path_);
  }
  std::string fingerprint() const override {
    return fmt::format("hiprtc {} {}\n{}", version_, fmt::join(kFlags, " "), file_stamp(path_));
  }
  bool knows(std::string_view target) const override {
    for (const Known& known : kKnown) {
      if (known.target == target) return version_ >= known.since;
    }
    return false;
  }

  Binary compile(const Source& source, const std::string& target, const Options& options) const override {
    if (!knows(target)) {
      std::vector<std::string_view> names;
      for (const Known& known : kKnown) {
        if (version_ >= known.since) names.push_back(known.target);
      }
      throw Error(Code::kUnsupported,
                  fmt::format("{} can't compile for `{}`: it knows {}. Use a newer ROCm, or clang-19 (gfx942) or "
                              "clang-22 (gfx950)",
                              version(), target, fmt::join(names, ", ")));
    }
    const ProcessResult result = run_forked([&] { return compile_here(source, target, options); }, options.time_limit);
    if (!result.ok()) {
      throw Error(result.timed_out ? Code::kTimedOut : Code::kCompileFailed,
                  fmt::format("{} failed on {} for {} ({}):\n{}", version(), source.name, target, result.ending(),
                              result.errors));
    }
    std::string_view message = result.output;
    Binary binary;
    binary.log = unpack(message) + result.errors;
    const std::string bytes = unpack(message);
    binary.bytes.assign(bytes.begin(), bytes.end());
    binary.seconds = result.seconds;
    if (!is_elf(binary.bytes, Machine::kAmdGpu)) {
      throw Error(Code::kCompileFailed, fmt::format("{} returned {} bytes that are no AMD GPU code object for {}",
                                                    version(), bytes.size(), source.name));
    }
    return binary;
  }

 private:
  static constexpr const char* kFlags[] = {"-O3", "-std=c++17"};

  // Runs in the child. The program is not destroyed: the process ends.
  std::string compile_here(const Source& source, const std::string& target, const Options& options) const {
    const Library library = open_library(candidates_);
    const Api api(library);
    std::vector<const char*> texts, names, pointers;
    for (const auto& [name, text] : source.headers) {
      names.push_back(name.c_str());
      texts.push_back(text.c_str());
    }
    std::vector<std::string> arguments = {"--offload-arch=" + target};
    arguments.insert(arguments.end(), std::begin(kFlags), std::end(kFlags));
    arguments.insert(arguments.end(), options.extra.begin(), options.extra.end());
    for (const std::string& argument : arguments) pointers.push_back(argument.c_str());
    Program program = nullptr;
    expect(api, api.create(&program, source.text.c_str(), source.name.c_str(), static_cast<int>(names.size()),
                           texts.data(), names.data()));
    const Result result = api.compile(program, static_cast<int>(pointers.size()), pointers.data());
    std::size_t size = 0;
    std::string log;
    if (api.log_size(program, &size) == 0 && size > 0) {
      log.resize(size);
      api.log(program, log.data());
      log.resize(std::min(log.find('\0'), size));
    }
    if (result != 0) throw std::runtime_error(log.empty() ? api.error_text(result) : log);
    expect(api, api.code_size(program, &size));
    std::string code(size, '\0');
    expect(api, api.code(program, code.data()));
    std::string message;
    pack(message, log);
    pack(message, code);
    return message;
  }

  static void expect(const Api& api, Result result) {
    if (result != 0) throw std::runtime_error(api.error_text(result));
  }

  std::vector<std::string> candidates_;
  std::string path_;
  int version_ = 0;
};

}  // namespace

std::unique_ptr<Compiler> make_hiprtc(std::vector<std::string> candidates) {
  if (candidates.empty()) candidates = default_candidates();
  return std::make_unique<Hiprtc>(std::move(candidates));
}

}  // namespace gdn::runtime
