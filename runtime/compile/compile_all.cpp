#include "compile/compile_all.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <limits>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "processors.h"

namespace gdn::runtime {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Between the limit and giving a thread up: a killed child still has to be waited for.
constexpr milliseconds kGrace{2000};

// What workers and caller share. Workers own it too: one that hangs outlives the caller.
struct Shared {
  std::vector<CompileJob> jobs;
  Clock::time_point deadline;
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t next = 0;  // the first job that nobody took
  bool stop = false;     // no further job is begun
  std::vector<CompileResult> results;
  std::deque<std::size_t> finished;  // not reported yet
  std::size_t running = 0;           // workers
};

std::optional<std::size_t> number_in(const char* file, std::string_view name) {
  std::ifstream stream(file);
  std::string word;
  while (stream >> word) {
    if (!name.empty() && word != name) continue;
    if (!name.empty()) stream >> word;
    if (word.empty() || word.find_first_not_of("0123456789") != std::string::npos || word.size() > 18) break;
    return std::stoull(word);
  }
  return std::nullopt;
}

// Memory that this process can still have.
std::size_t available_bytes() {
  std::size_t bytes = std::numeric_limits<std::size_t>::max();
  if (const auto kib = number_in("/proc/meminfo", "MemAvailable:")) bytes = std::min(bytes, *kib << 10);
  const auto most = number_in("/sys/fs/cgroup/memory.max", "");  // "max" where there is no bound
  const auto used = number_in("/sys/fs/cgroup/memory.current", "");
  if (most && used) bytes = std::min(bytes, *most > *used ? *most - *used : 0);
  return bytes;
}

Error timed_out(const CompileJob& job, const char* how) {
  return Error(Code::kTimedOut, fmt::format("{} for {} {} when the time for all compilations was over", job.source.name,
                                            job.target, how));
}

CompileResult compile_one(const CompileJob& job, Clock::time_point deadline) {
  CompileResult result;
  try {
    Options options = job.options;
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    options.time_limit = std::max(milliseconds(1), std::min(options.time_limit, left));
    result.binary = job.compiler->compile(job.source, job.target, options);
  } catch (const Error& error) {
    result.error = error;
  } catch (const std::bad_alloc&) {
    result.error = Error(Code::kSystem, fmt::format("no memory to compile {}", job.source.name));
  } catch (const std::exception& error) {
    result.error = Error(Code::kCompileFailed, fmt::format("{}: {}", job.source.name, error.what()));
  }
  return result;
}

void work(const std::shared_ptr<Shared>& shared) {
  std::unique_lock<std::mutex> lock(shared->mutex);
  while (!shared->stop && shared->next < shared->jobs.size() && Clock::now() < shared->deadline) {
    const std::size_t index = shared->next++;
    lock.unlock();
    CompileResult result = compile_one(shared->jobs[index], shared->deadline);
    lock.lock();
    if (shared->stop) break;  // too late: the caller has its answer, or takes none
    shared->results[index] = std::move(result);
    shared->finished.push_back(index);
    shared->changed.notify_all();
  }
  --shared->running;
  shared->changed.notify_all();
}

// Lets workers end when the caller leaves, whichever way. They are not waited for beyond the grace.
class Workers {
 public:
  explicit Workers(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  ~Workers() {
    std::unique_lock<std::mutex> lock(shared_->mutex);
    shared_->stop = true;
    shared_->changed.wait_for(lock, kGrace, [this] { return shared_->running == 0; });
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // False: the system has no further thread.
  bool add() {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    try {
      std::thread(work, shared_).detach();
    } catch (const std::system_error&) {
      return false;
    }
    ++shared_->running;
    return true;
  }

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace

int compile_threads(std::size_t bytes_per_job) {
  const std::size_t by_memory =
      bytes_per_job == 0 ? std::numeric_limits<int>::max() : available_bytes() / bytes_per_job;
  return std::max(1,
                  static_cast<int>(std::min<std::size_t>(by_memory, static_cast<std::size_t>(allowed_processors()))));
}

std::vector<CompileResult> compile_all(std::vector<CompileJob> jobs, const CompileLimits& limits) {
  const auto shared = std::make_shared<Shared>();
  shared->deadline = Clock::now() + limits.time_limit;
  shared->jobs = std::move(jobs);
  const std::size_t total = shared->jobs.size();
  shared->results.resize(total);
  std::vector<bool> reported(total, false);
  std::size_t done = 0;
  const auto report = [&](std::size_t index, const CompileResult& result) {
    reported[index] = true;
    ++done;
    if (limits.progress) limits.progress({done, total, shared->jobs[index], result});
  };

  std::vector<CompileResult> results(total);
  Workers workers(shared);
  const int threads = limits.threads > 0 ? limits.threads : compile_threads(limits.bytes_per_job);
  for (std::size_t i = 0; i < std::min(total, static_cast<std::size_t>(threads)); ++i) {
    if (workers.add()) continue;
    if (i == 0) throw Error(Code::kSystem, "no thread to compile on could be started");
    break;
  }

  std::unique_lock<std::mutex> lock(shared->mutex);
  while (done < total) {
    // The grace lets a child that was killed at the limit report what the compiler had said.
    shared->changed.wait_until(lock, shared->deadline + kGrace,
                               [&] { return !shared->finished.empty() || shared->running == 0; });
    if (shared->finished.empty()) break;
    const std::size_t index = shared->finished.front();
    shared->finished.pop_front();
    results[index] = std::move(shared->results[index]);
    lock.unlock();
    report(index, results[index]);
    lock.lock();
  }
  shared->stop = true;
  const std::size_t begun = shared->next;
  lock.unlock();
  for (std::size_t i = 0; i < total; ++i) {
    if (reported[i]) continue;
    results[i].error = timed_out(shared->jobs[i], i < begun ? "was still being compiled" : "had not begun");
    report(i, results[i]);
  }
  return results;
}

}  // namespace gdn::runtime
