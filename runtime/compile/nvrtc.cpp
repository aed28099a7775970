#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "compile/compiler.h"
#include "compile/files.h"
#include "compile/library.h"
#include "error.h"

namespace gdn::runtime {
namespace {

namespace fs = std::filesystem;

// The part of nvrtc.h that is used (the same in CUDA 12 and 13).
using Program = void*;
using Result = int;
constexpr Result kSuccess = 0;
constexpr Result kInvalidOption = 5;

struct Api {
  explicit Api(const Library& library) {
    library.bind(version, "nvrtcVersion");
    library.bind(archs_count, "nvrtcGetNumSupportedArchs");
    library.bind(archs, "nvrtcGetSupportedArchs");
    library.bind(error_text, "nvrtcGetErrorString");
    library.bind(create, "nvrtcCreateProgram");
    library.bind(destroy, "nvrtcDestroyProgram");
    library.bind(compile, "nvrtcCompileProgram");
    library.bind(log_size, "nvrtcGetProgramLogSize");
    library.bind(log, "nvrtcGetProgramLog");
    library.bind(cubin_size, "nvrtcGetCUBINSize");
    library.bind(cubin, "nvrtcGetCUBIN");
  }
  Result (*version)(int*, int*) = nullptr;
  Result (*archs_count)(int*) = nullptr;
  Result (*archs)(int*) = nullptr;
  const char* (*error_text)(Result) = nullptr;
  Result (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  Result (*destroy)(Program*) = nullptr;
  Result (*compile)(Program, int, const char* const*) = nullptr;
  Result (*log_size)(Program, std::size_t*) = nullptr;
  Result (*log)(Program, char*) = nullptr;
  Result (*cubin_size)(Program, std::size_t*) = nullptr;
  Result (*cubin)(Program, char*) = nullptr;
};

constexpr const char* kNames[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};

// The NVRTC files of a folder, the names above first come first.
void add_folder(std::vector<std::string>& candidates, const fs::path& folder) {
  std::error_code ignored;
  for (const char* name : kNames) {
    if (fs::exists(folder / name, ignored)) candidates.push_back((folder / name).string());
  }
}

// Subfolders whose name begins with `prefix`, the highest name first: cuda-13.0 before cuda-12.9.
std::vector<fs::path> subfolders(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().filename().string().rfind(prefix, 0) == 0) found.push_back(entry.path());
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

// PyPI's packages nvidia-cuda-nvrtc (CUDA 13: nvidia/cu13) and nvidia-cuda-nvrtc-cu12.
void add_site(std::vector<std::string>& candidates, const fs::path& site) {
  add_folder(candidates, site / "nvidia/cu13/lib");
  add_folder(candidates, site / "nvidia/cuda_nvrtc/lib");
}

// "sm_90a" -> 90; 0 for anything else.
int number_of(std::string_view target) {
  if (target.substr(0, 3) != "sm_") return 0;
  int number = 0;
  std::size_t i = 3;
  for (; i < target.size() && target[i] >= '0' && target[i] <= '9'; ++i) number = number * 10 + (target[i] - '0');
  const std::string_view ending = target.substr(i);
  return i > 3 && number < 1000 && (ending.empty() || ending == "a" || ending == "f") ? number : 0;
}

class Nvrtc final : public Compiler {
 public:
  explicit Nvrtc(const std::vector<std::string>& candidates)
      : library_("NVRTC", candidates,
                 "Install a CUDA toolkit 12 or 13, or PyPI's nvidia-cuda-nvrtc, and point GDN_NVRTC at libnvrtc.so"),
        api_(library_) {
    api_.version(&major_, &minor_);
    // NVRTC opens its built-in headers' library by bare name. Outside of the loader's folders, as PyPI's package always
    // is, that name resolves only when the library is already in the process; it stays open, as library_ does.
    const fs::path folder = fs::path(library_.path()).parent_path();
    const fs::path builtins = folder / fmt::format("libnvrtc-builtins.so.{}.{}", major_, minor_);
    if (!folder.empty()) dlopen(builtins.c_str(), RTLD_NOW | RTLD_LOCAL);
    int count = 0;
    if (api_.archs_count(&count) == kSuccess && count > 0) {
      architectures_.resize(static_cast<std::size_t>(count));
      api_.archs(architectures_.data());
    }
  }

  std::string name() const override { return "nvrtc"; }
  std::string version() const override { return fmt::format("NVRTC {}.{} ({})", major_, minor_, library_.path()); }
  std::string fingerprint() const override {
    return fmt::format("nvrtc {}.{} {}\n{}", major_, minor_, fmt::join(kFlags, " "), file_stamp(library_.path()));
  }
  bool knows(std::string_view target) const override {
    return std::find(architectures_.begin(), architectures_.end(), number_of(target)) != architectures_.end();
  }

  Binary compile(const Source& source, const std::string& target, const Options& options) const override {
    if (number_of(target) == 0 || !knows(target)) {
      throw Error(Code::kUnsupported, fmt::format("{} can't compile for `{}`: it knows sm_{}", version(), target,
                                                  fmt::join(architectures_, ", sm_")));
    }
    std::vector<std::string> arguments = {"--gpu-architecture=" + target};
    arguments.insert(arguments.end(), std::begin(kFlags), std::end(kFlags));
    arguments.insert(arguments.end(), options.extra.begin(), options.extra.end());
    if (options.no_cache && !no_cache_unknown()) arguments.push_back("--no-cache");
    return run(source, arguments);
  }

 private:
  // ptxas -v puts registers, spills and stack into the log.
  static constexpr const char* kFlags[] = {"--std=c++17", "--ptxas-options=-v"};

  // Older versions have no cache and refuse the option.
  bool no_cache_unknown() const { return major_ < 12 || (major_ == 12 && minor_ < 9); }

  Binary run(const Source& source, std::vector<std::string> arguments) const {
    std::vector<const char*> texts, names;
    for (const auto& [name, text] : source.headers) {
      names.push_back(name.c_str());
      texts.push_back(text.c_str());
    }
    const auto start = std::chrono::steady_clock::now();
    Program program = nullptr;
    expect(api_.create(&program, source.text.c_str(), source.name.c_str(), static_cast<int>(names.size()), texts.data(),
                       names.data()),
           "nvrtcCreateProgram", source);
    const auto destroy = [this](Program* owned) { api_.destroy(owned); };
    const std::unique_ptr<Program, decltype(destroy)> owner(&program, destroy);
    Result result = compile_program(program, arguments);
    if (result == kInvalidOption && arguments.back() == "--no-cache") {
      arguments.pop_back();
      result = compile_program(program, arguments);
    }
    Binary binary;
    binary.log = log(program);
    if (result != kSuccess) {
      throw Error(Code::kCompileFailed,
                  fmt::format("{} refused {} ({}):\n{}", version(), source.name, api_.error_text(result), binary.log));
    }
    std::size_t size = 0;
    expect(api_.cubin_size(program, &size), "nvrtcGetCUBINSize", source);
    binary.bytes.resize(size);
    expect(api_.cubin(program, reinterpret_cast<char*>(binary.bytes.data())), "nvrtcGetCUBIN", source);
    binary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return binary;
  }

  Result compile_program(Program program, const std::vector<std::string>& arguments) const {
    std::vector<const char*> pointers;
    for (const std::string& argument : arguments) pointers.push_back(argument.c_str());
    return api_.compile(program, static_cast<int>(pointers.size()), pointers.data());
  }

  std::string log(Program program) const {
    std::size_t size = 0;
    if (api_.log_size(program, &size) != kSuccess || size <= 1) return {};
    std::string text(size, '\0');
    api_.log(program, text.data());
    text.resize(text.find('\0') == std::string::npos ? size : text.find('\0'));
    return text;
  }

  void expect(Result result, const char* call, const Source& source) const {
    if (result == kSuccess) return;
    throw Error(Code::kCompileFailed,
                fmt::format("{}: {} failed on {}: {}", version(), call, source.name, api_.error_text(result)));
  }

  Library library_;
  Api api_;
  int major_ = 0;
  int minor_ = 0;
  std::vector<int> architectures_;
};

}  // namespace

std::vector<std::string> nvrtc_candidates() {
  const std::string own = environment("GDN_NVRTC");
  if (!own.empty()) return {own};
  std::vector<std::string> candidates(std::begin(kNames), std::end(kNames));
  std::vector<fs::path> toolkits = subfolders("/usr/local", "cuda");
  for (const char* variable : {"CUDA_PATH", "CUDA_HOME"}) {
    const std::string toolkit = environment(variable);
    if (!toolkit.empty()) toolkits.insert(toolkits.begin(), toolkit);
  }
  for (const fs::path& toolkit : toolkits) {
    add_folder(candidates, toolkit / "lib64");
    add_folder(candidates, toolkit / "lib");
  }
  const std::string site = environment("GDN_PYTHON_SITE");
  if (!site.empty()) add_site(candidates, site);
  const std::string toolchain = environment("GDN_TOOLCHAIN_DIR");
  if (!toolchain.empty()) {
    // A plain unpacked package, or a Python environment, in the folder or one below it.
    std::vector<fs::path> roots = subfolders(toolchain, "");
    roots.insert(roots.begin(), toolchain);
    for (const fs::path& root : roots) {
      add_folder(candidates, root);
      add_folder(candidates, root / "lib");
      add_folder(candidates, root / "lib64");
      add_site(candidates, root);
      for (const fs::path& python : subfolders(root / "lib", "python")) add_site(candidates, python / "site-packages");
    }
  }
  return candidates;
}

std::unique_ptr<Compiler> make_nvrtc(std::vector<std::string> candidates) {
  if (candidates.empty()) candidates = nvrtc_candidates();
  return std::make_unique<Nvrtc>(candidates);
}

}  // namespace gdn::runtime
