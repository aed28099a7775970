// Many compilations side by side, bounded by the machine.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compile/compiler.h"
#include "error.h"

namespace gdn::runtime {

struct CompileJob {
  std::shared_ptr<const Compiler> compiler;
  Source source;
  std::string target;
  Options options;
};

// A binary or the reason why there is none.
struct CompileResult {
  Binary binary;
  std::optional<Error> error;
};

struct CompileProgress {
  std::size_t done = 0;  // this one included
  std::size_t total = 0;
  const CompileJob& job;
  const CompileResult& result;
};

struct CompileLimits {
  int threads = 0;                                       // 0: compile_threads()
  std::size_t bytes_per_job = std::size_t{512} << 20;    // memory that a compilation may take
  std::chrono::milliseconds time_limit{600000};          // of all of them together
  std::function<void(const CompileProgress&)> progress;  // after each, on the calling thread; may be empty
};

// As many as this process has processors and the machine and its control group have memory for; at least 1.
int compile_threads(std::size_t bytes_per_job);

// One result a job, in the order of the jobs. Failures are results; it throws only kSystem when no thread can be
// started, and what the progress callback throws.
// Compilers that are processes are killed at the limit. One that is a library in this process and hangs can't be: its
// thread is left behind with all that it needs, and its job is kTimedOut like those that had not begun.
std::vector<CompileResult> compile_all(std::vector<CompileJob> jobs, const CompileLimits& limits = {});

}  // namespace gdn::runtime
