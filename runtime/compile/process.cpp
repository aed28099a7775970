#include "compile/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <string_view>

#include "compile/library.h"
#include "error.h"

extern char** environ;

namespace gdn::runtime {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostOutput = std::size_t{16} << 20;

[[noreturn]] void fail(const std::string& what, int error) {
  throw Error(Code::kSystem, fmt::format("{}: {}", what, strerror(error)));
}

// Both ends close on exec, so that no other child inherits them and keeps them open.
class Pipe {
 public:
  Pipe() {
    if (pipe2(ends_.data(), O_CLOEXEC) != 0) fail("can't make a pipe", errno);
  }
  ~Pipe() {
    close_read();
    close_write();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }
  void close_read() { close(0); }
  void close_write() { close(1); }

 private:
  void close(std::size_t end) {
    if (ends_[end] >= 0) ::close(ends_[end]);
    ends_[end] = -1;
  }
  std::array<int, 2> ends_ = {-1, -1};
};

// Whether the child ended. Does not reap it: its number must stay its own until its group was killed.
bool ended(pid_t child) {
  siginfo_t info = {};
  const int result = waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT);
  return result == 0 ? info.si_pid == child : errno != EINTR;
}

// Reads both pipes until the child closed them or the time is over, then takes the child's status.
ProcessResult collect(pid_t child, Pipe& output, Pipe& errors, Clock::time_point start,
                      std::chrono::milliseconds time_limit) {
  ProcessResult result;
  output.close_write();
  errors.close_write();
  const Clock::time_point deadline = start + time_limit;
  std::array<pollfd, 2> polled = {pollfd{output.read_end(), POLLIN, 0}, pollfd{errors.read_end(), POLLIN, 0}};
  std::array<std::string*, 2> texts = {&result.output, &result.errors};
  std::array<char, 65536> buffer;
  bool gone = false;
  while (polled[0].fd >= 0 || polled[1].fd >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) {
      result.timed_out = true;
      break;
    }
    // A grandchild may outlive the child and keep the pipes open: look for the child's end now and then.
    const int ready = poll(polled.data(), polled.size(), static_cast<int>(left < 200 ? left : 200));
    if (ready < 0 && errno != EINTR) break;
    if (ready == 0) {
      if (gone) break;
      gone = ended(child);
      continue;
    }
    for (std::size_t i = 0; ready > 0 && i < polled.size(); ++i) {
      if (polled[i].fd < 0 || polled[i].revents == 0) continue;
      const ssize_t count = read(polled[i].fd, buffer.data(), buffer.size());
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (count <= 0) {
        polled[i].fd = -1;
        continue;
      }
      const std::size_t room = kMostOutput - std::min(kMostOutput, texts[i]->size());
      texts[i]->append(buffer.data(), std::min(room, static_cast<std::size_t>(count)));
    }
  }
  // Closed pipes do not mean an ended process.
  while (!result.timed_out && !ended(child)) {
    result.timed_out = Clock::now() >= deadline;
    usleep(500);
  }
  // The child leads a process group of its own: what it left running dies with it.
  if (kill(-child, SIGKILL) != 0) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (WIFSIGNALED(status)) {
    result.status = -1;
    result.signal = WTERMSIG(status);
  } else {
    result.status = WEXITSTATUS(status);
  }
  return result;
}

void write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(file, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

// Spawn attributes and file actions have C life cycles.
struct SpawnSetup {
  SpawnSetup() {
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&actions);
  }
  ~SpawnSetup() {
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;
};

}  // namespace

std::string ProcessResult::ending() const {
  if (timed_out) return fmt::format("killed after {:.1f} s", seconds);
  if (signal != 0) return fmt::format("killed by signal {} ({})", signal, strsignal(signal));
  return fmt::format("exit status {}", status);
}

ProcessResult run_process(const std::vector<std::string>& arguments, const std::string& directory,
                          std::chrono::milliseconds time_limit) {
  if (arguments.empty()) throw Error(Code::kBadArgument, "no program to run");
  Pipe output, errors;
  SpawnSetup setup;
  sigset_t none, usual;
  sigemptyset(&none);
  sigfillset(&usual);
  posix_spawnattr_setflags(&setup.attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup(&setup.attributes, 0);
  posix_spawnattr_setsigmask(&setup.attributes, &none);
  posix_spawnattr_setsigdefault(&setup.attributes, &usual);
  posix_spawn_file_actions_addopen(&setup.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&setup.actions, output.write_end(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&setup.actions, errors.write_end(), STDERR_FILENO);
  if (!directory.empty()) posix_spawn_file_actions_addchdir_np(&setup.actions, directory.c_str());
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const Clock::time_point start = Clock::now();
  pid_t child = -1;
  const int error = posix_spawn(&child, argv[0], &setup.actions, &setup.attributes, argv.data(), environ);
  if (error != 0) fail("can't start " + arguments[0], error);
  return collect(child, output, errors, start, time_limit);
}

ProcessResult run_forked(const std::function<std::string()>& body, std::chrono::milliseconds time_limit) {
  Pipe output, errors;
  const Clock::time_point start = Clock::now();
  const pid_t child = fork();
  if (child < 0) fail("can't fork", errno);
  if (child == 0) {
    setpgid(0, 0);
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    // The parent may have handlers (a test framework, an engine); here an abort just ends the process.
    for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTERM, SIGINT}) signal(number, SIG_DFL);
    // What a library prints must not mix with the result.
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
      dup2(null, STDIN_FILENO);
      dup2(null, STDOUT_FILENO);
    }
    dup2(errors.write_end(), STDERR_FILENO);
    int status = 0;
    try {
      write_all(output.write_end(), body());
    } catch (const std::exception& error) {
      write_all(STDERR_FILENO, error.what());
      status = 1;
    }
    _exit(status);
  }
  setpgid(child, child);  // whichever of the two comes first
  return collect(child, output, errors, start, time_limit);
}

std::string find_program(const std::string& name, const std::vector<std::string>& folders) {
  const auto executable = [](const std::string& path) { return access(path.c_str(), X_OK) == 0; };
  if (name.find('/') != std::string::npos) return executable(name) ? name : std::string();
  std::string search = environment("PATH");
  for (const std::string& folder : folders) search += ":" + folder;
  std::size_t begin = 0;
  while (begin <= search.size()) {
    const std::size_t end = std::min(search.find(':', begin), search.size());
    const std::string folder = search.substr(begin, end - begin);
    begin = end + 1;
    // An empty or relative entry means the current directory, from which a program should not be picked up.
    if (folder.empty() || folder[0] != '/') continue;
    std::string path = fmt::format("{}/{}", folder, name);
    if (executable(path)) return path;
  }
  return {};
}

}  // namespace gdn::runtime
