// A child process with a time limit: no shell, all output caught.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace gdn::runtime {

struct ProcessResult {
  int status = 0;          // exit status; -1 when a signal ended it
  int signal = 0;          // the signal, where one did
  bool timed_out = false;  // killed at the limit, with all its children
  std::string output;      // stdout
  std::string errors;      // stderr
  double seconds = 0;

  bool ok() const { return status == 0 && !timed_out; }
  // "exit status 1", "killed by signal 6 (Aborted)", "killed after 3.0 s".
  std::string ending() const;
};

// Runs arguments[0] (a path) with these arguments in `directory` (empty: the current one). Output beyond 16 MiB a
// stream is dropped. Throws kSystem when the program can't be started.
ProcessResult run_process(const std::vector<std::string>& arguments, const std::string& directory,
                          std::chrono::milliseconds time_limit);

// Runs `body` in a forked child: what it returns is `output`, and what it or a library prints to stderr is `errors`. An
// exception in it becomes exit status 1 with its text in `errors`. The child has only the calling thread, so the body
// must not wait for another thread of this process, and it ends without exit handlers.
ProcessResult run_forked(const std::function<std::string()>& body, std::chrono::milliseconds time_limit);

// The executable `name` on PATH and then in `folders`; a name with a slash is taken as it is. Empty when there is none.
std::string find_program(const std::string& name, const std::vector<std::string>& folders = {});

}  // namespace gdn::runtime
