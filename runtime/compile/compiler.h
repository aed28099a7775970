// A run-time compiler: source text and a target in, a binary or an Error out.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gdn::runtime {

// A file's name and its text.
using Header = std::pair<std::string, std::string>;

struct Source {
  std::string name;  // as diagnostics show it: "qwen3_next_80b_decode.cu"
  std::string text;
  std::vector<Header> headers;  // found by `#include "name"`; compilers that read files get them in a private directory
};

struct Options {
  std::vector<std::string> extra;  // further arguments of the compiler, in order, after this project's own
  bool no_cache = false;           // measure a true compilation: leave the compiler's own cache out
  bool assembly = false;           // fill Binary::assembly where the compiler can
  std::chrono::milliseconds time_limit{120000};  // of a compiler in a process of its own; it is killed then
};

struct Binary {
  std::vector<std::uint8_t> bytes;  // cubin, AMD code object (both ELF), or shared object of the host
  std::string log;                  // everything that the compiler said
  std::string assembly;             // with Options::assembly
  double seconds = 0;               // wall time of the compilation
  bool cached = false;              // no compilation: it was in a disk cache
};

// Thread-safe: several threads may compile through one object.
class Compiler {
 public:
  virtual ~Compiler() = default;
  virtual std::string name() const = 0;     // "nvrtc", "hiprtc", "clang", "host"
  virtual std::string version() const = 0;  // with where it was found
  // Everything that decides the bytes besides source, target and options: which files the compiler is, in which
  // version, and the arguments that it is given by this project. Part of every cache key; starts no process.
  virtual std::string fingerprint() const = 0;
  // Whether it can make code for the target. Compiles nothing.
  virtual bool knows(std::string_view target) const = 0;
  // Throws Error: kUnsupported for a target it doesn't know, kCompileFailed with the compiler's own words, kTimedOut.
  virtual Binary compile(const Source& source, const std::string& target, const Options& options = {}) const = 0;
};

// NVRTC of CUDA 12 or 13 by dlopen. `candidates` are tried in order: file names that the dynamic loader resolves, or
// paths. Empty: $GDN_NVRTC alone where set; else the loader's, lib64 of $CUDA_HOME, $CUDA_PATH and /usr/local/cuda*,
// and the lib folders of PyPI's packages below $GDN_PYTHON_SITE and $GDN_TOOLCHAIN_DIR. Throws kMissingLibrary naming
// everything it tried. Options::time_limit does not apply: the compiler is a library in this process.
std::unique_ptr<Compiler> make_nvrtc(std::vector<std::string> candidates = {});

// What make_nvrtc() tries.
std::vector<std::string> nvrtc_candidates();

// hiprtc by dlopen in a child process for each compilation, since it aborts its process on an architecture that it
// doesn't know. Empty candidates: $GDN_HIPRTC alone where set; else libhiprtc.so and libamdhip64.so with the endings
// .7, .6, .5 and none. Throws kMissingLibrary.
std::unique_ptr<Compiler> make_hiprtc(std::vector<std::string> candidates = {});

// clang as a subprocess, for HIP without ROCm. Empty candidates: $GDN_CLANG alone where set; else clang++-NN from the
// newest known down, then clang++, on PATH and in the usual folders. Each target gets the first that knows it. Throws
// kMissingLibrary when none is there.
std::unique_ptr<Compiler> make_clang(std::vector<std::string> candidates = {});

// The host's C++ compiler as a subprocess: a GPU source becomes a shared object that runs it on the CPU, through the
// host shim. The target is a GPU target: sm_* runs with waves of 32 threads, gfx9* with 64, other gfx* with 32. Empty
// candidates: $GDN_HOST_CXX alone where set; else g++, clang++, c++ on PATH. Throws kMissingLibrary.
std::unique_ptr<Compiler> make_host_compiler(std::vector<std::string> candidates = {});

// Threads of a wave on a target: 32, or 64 for gfx9*.
int wave_of(std::string_view target);

}  // namespace gdn::runtime
