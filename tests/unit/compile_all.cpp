// Many compilations at once: order, bounds, failures, and compilers that hang.
#include "compile/compile_all.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>

#include "compile/private_dir.h"
#include "processors.h"
#include "support/catch.h"
#include "support/thrown.h"

namespace {

using namespace gdn::runtime;
using gdn::test::thrown_by;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Does what it is told; counts how many of its compilations run at once.
class Told final : public Compiler {
 public:
  using Body = std::function<Binary(const Source&, const Options&)>;
  explicit Told(Body body) : body_(std::move(body)) {}
  std::string name() const override { return "told"; }
  std::string version() const override { return "1"; }
  std::string fingerprint() const override { return "told 1"; }
  bool knows(std::string_view) const override { return true; }
  Binary compile(const Source& source, const std::string&, const Options& options) const override {
    const int now = ++running_;
    for (int seen = most_; now > seen && !most_.compare_exchange_weak(seen, now);) {
    }
    const struct Leave {
      std::atomic<int>& count;
      ~Leave() { --count; }
    } leave{running_};
    return body_(source, options);
  }
  int most() const { return most_; }

 private:
  Body body_;
  mutable std::atomic<int> running_{0}, most_{0};
};

Binary binary_of(const std::string& text) {
  Binary binary;
  binary.bytes.assign(text.begin(), text.end());
  return binary;
}

std::vector<CompileJob> jobs_of(const std::shared_ptr<const Compiler>& compiler, int count) {
  std::vector<CompileJob> jobs;
  for (int i = 0; i < count; ++i) jobs.push_back({compiler, {std::to_string(i), "text", {}}, "sm_90a", {}});
  return jobs;
}

double seconds_since(Clock::time_point time) { return std::chrono::duration<double>(Clock::now() - time).count(); }

TEST_CASE("results stand in the order of the jobs, whatever order they end in") {
  const auto compiler = std::make_shared<Told>([](const Source& source, const Options&) {
    std::this_thread::sleep_for(milliseconds(source.name == "0" ? 200 : 5));
    return binary_of("code " + source.name);
  });
  CompileLimits limits;
  limits.threads = 3;
  std::vector<std::string> order;
  std::size_t last = 0;
  const auto caller = std::this_thread::get_id();
  limits.progress = [&](const CompileProgress& progress) {
    CHECK(std::this_thread::get_id() == caller);
    CHECK(progress.done == ++last);
    CHECK(progress.total == 12);
    CHECK_FALSE(progress.result.error);
    CHECK(progress.result.binary.bytes == binary_of("code " + progress.job.source.name).bytes);
    order.push_back(progress.job.source.name);
  };
  const std::vector<CompileResult> results = compile_all(jobs_of(compiler, 12), limits);
  REQUIRE(results.size() == 12);
  for (int i = 0; i < 12; ++i) CHECK(results[i].binary.bytes == binary_of("code " + std::to_string(i)).bytes);
  CHECK(order.size() == 12);
  CHECK(order.front() != "0");
  CHECK(compiler->most() > 1);
  CHECK(compiler->most() <= 3);
}

TEST_CASE("no more at once than allowed") {
  for (const int threads : {1, 2, 5}) {
    const auto compiler = std::make_shared<Told>([](const Source&, const Options&) {
      std::this_thread::sleep_for(milliseconds(20));
      return binary_of("x");
    });
    CompileLimits limits;
    limits.threads = threads;
    compile_all(jobs_of(compiler, 10), limits);
    CHECK(compiler->most() <= threads);
    if (threads == 1) CHECK(compiler->most() == 1);
  }
  CHECK(compile_all({}).empty());
}

TEST_CASE("threads follow the processors and the memory") {
  CHECK(compile_threads(0) == allowed_processors());
  CHECK(compile_threads(1) == allowed_processors());
  CHECK(compile_threads(std::size_t{1} << 60) == 1);
}

TEST_CASE("a failure is the result of its job alone") {
  const auto compiler = std::make_shared<Told>([](const Source& source, const Options&) -> Binary {
    if (source.name == "1") throw Error(Code::kUnsupported, "not this target");
    if (source.name == "2") throw std::bad_alloc();
    if (source.name == "3") throw std::runtime_error("odd");
    return binary_of("fine");
  });
  const std::vector<CompileResult> results = compile_all(jobs_of(compiler, 5));
  const struct {
    std::size_t job;
    Code code;
    const char* word;
  } cases[] = {
      {1, Code::kUnsupported, "not this target"}, {2, Code::kSystem, "memory"}, {3, Code::kCompileFailed, "odd"}};
  for (const auto& test : cases) {
    REQUIRE(results[test.job].error);
    CHECK(results[test.job].error->code() == test.code);
    CHECK_THAT(results[test.job].error->what(), Catch::Contains(test.word));
  }
  for (const std::size_t job : {0, 4}) {
    CHECK_FALSE(results[job].error);
    CHECK(results[job].binary.bytes.size() == 4);
  }
}

TEST_CASE("a library that hangs holds its caller no longer than the limit") {
  struct Gate {
    std::mutex mutex;
    std::condition_variable changed;
    bool open = false;
  };
  const auto gate = std::make_shared<Gate>();
  const auto compiler = std::make_shared<Told>([gate](const Source& source, const Options&) {
    std::unique_lock<std::mutex> lock(gate->mutex);
    if (source.name == "1") gate->changed.wait(lock, [&] { return gate->open; });
    return binary_of("late");
  });
  CompileLimits limits;
  limits.threads = 1;
  limits.time_limit = milliseconds(300);
  int reported = 0;
  limits.progress = [&](const CompileProgress&) { ++reported; };
  const Clock::time_point begin = Clock::now();
  const std::vector<CompileResult> results = compile_all(jobs_of(compiler, 3), limits);
  CHECK(seconds_since(begin) < 30);
  CHECK(reported == 3);
  CHECK_FALSE(results[0].error);
  REQUIRE((results[1].error && results[2].error));
  CHECK(results[1].error->code() == Code::kTimedOut);
  CHECK(results[2].error->code() == Code::kTimedOut);
  CHECK_THAT(results[1].error->what(), Catch::Contains("still being compiled"));
  CHECK_THAT(results[2].error->what(), Catch::Contains("had not begun"));
  const std::lock_guard<std::mutex> lock(gate->mutex);
  gate->open = true;
  gate->changed.notify_all();
}

TEST_CASE("a process that hangs is killed at the limit of all") {
  const PrivateDir dir;
  std::filesystem::permissions(dir.write("compiler", "#!/bin/sh\nexec sleep 100\n"), std::filesystem::perms::owner_all);
  const std::shared_ptr<const Compiler> compiler = make_host_compiler({(dir.path() / "compiler").string()});
  CompileLimits limits;
  limits.threads = 2;
  limits.time_limit = milliseconds(300);
  const Clock::time_point begin = Clock::now();
  const std::vector<CompileResult> results = compile_all(jobs_of(compiler, 2), limits);
  CHECK(seconds_since(begin) < 30);
  for (const CompileResult& result : results) {
    REQUIRE(result.error);
    CHECK(result.error->code() == Code::kTimedOut);
    CHECK_THAT(result.error->what(), Catch::Contains("killed after"));
  }
}

TEST_CASE("a job's own limit holds where it is the shorter one") {
  std::vector<milliseconds> seen(2);
  const auto compiler = std::make_shared<Told>([&](const Source& source, const Options& options) {
    seen[source.name == "0" ? 0 : 1] = options.time_limit;
    return binary_of("x");
  });
  std::vector<CompileJob> jobs = jobs_of(compiler, 2);
  jobs[0].options.time_limit = milliseconds(7);
  jobs[1].options.time_limit = std::chrono::hours(1);
  CompileLimits limits;
  limits.time_limit = std::chrono::seconds(100);
  compile_all(std::move(jobs), limits);
  CHECK(seen[0] == milliseconds(7));
  CHECK(seen[1] <= std::chrono::seconds(100));
  CHECK(seen[1] > std::chrono::seconds(10));
}

TEST_CASE("what the progress callback throws arrives, and no thread goes on for it") {
  std::atomic<int> compiled{0};
  const auto compiler = std::make_shared<Told>([&](const Source&, const Options&) {
    ++compiled;
    std::this_thread::sleep_for(milliseconds(30));
    return binary_of("x");
  });
  CompileLimits limits;
  limits.threads = 2;
  limits.progress = [](const CompileProgress&) { throw Error(Code::kBadArgument, "enough"); };
  CHECK(thrown_by([&] { compile_all(jobs_of(compiler, 50), limits); }).has("enough"));
  const int then = compiled;
  CHECK(then < 50);
  std::this_thread::sleep_for(milliseconds(100));
  CHECK(compiled == then);
}

}  // namespace
