// The disk cache between processes: many at once, killed ones, stopped ones.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "cache/disk_cache.h"
#include "support/cache.h"
#include "support/catch.h"

namespace {

namespace fs = std::filesystem;
using namespace gdn::runtime;
using gdn::test::cache_source;
using gdn::test::CacheFixture;
using gdn::test::CountingCompiler;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// A child that runs `body` and ends with its result, without exit handlers.
pid_t start(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    int status = 99;
    try {
      status = body();
    } catch (...) {
    }
    _exit(status);
  }
  return child;
}

int status_of(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

double seconds_since(Clock::time_point time) { return std::chrono::duration<double>(Clock::now() - time).count(); }

TEST_CASE("64 processes that start at once on one kernel: one compiles, all get it") {
  CacheFixture fixture;
  fixture.compiler = std::make_shared<CountingCompiler>(fixture.dir.path() / "compilations", milliseconds(300), 50000);
  const Binary expected = fixture.compiler->expected(cache_source(), "sm_90a");
  int gate[2];
  REQUIRE(pipe(gate) == 0);
  const Clock::time_point begin = Clock::now();
  std::vector<pid_t> children;
  for (int i = 0; i < 64; ++i) {
    children.push_back(start([&] {
      close(gate[1]);
      char byte = 0;
      if (read(gate[0], &byte, 1) != 0) return 2;  // the gate opens when its last writer closes it
      return fixture.cached().compile(cache_source(), "sm_90a").bytes == expected.bytes ? 0 : 1;
    }));
    REQUIRE(children.back() > 0);
  }
  close(gate[0]);
  close(gate[1]);
  for (const pid_t child : children) CHECK(status_of(child) == 0);
  CHECK(fixture.compiler->compilations() == 1);
  CHECK(seconds_since(begin) < 60);
  CHECK(fixture.names().size() == 1);
}

TEST_CASE("threads of one process share a compilation too") {
  CacheFixture fixture;
  fixture.compiler = std::make_shared<CountingCompiler>(fixture.dir.path() / "compilations", milliseconds(100));
  const CachedCompiler cached = fixture.cached();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([&] { cached.compile(cache_source(), "sm_90a"); });
  for (std::thread& thread : threads) thread.join();
  CHECK(fixture.compiler->compilations() == 1);
}

TEST_CASE("a lock has one holder, although its file goes with each of them") {
  const CacheFixture fixture;
  const auto cache = fixture.cache();
  const CacheKey key = make_key(*fixture.compiler, cache_source(), "sm_90a", {});
  std::atomic<int> inside{0}, taken{0}, wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const Clock::time_point end = Clock::now() + milliseconds(1500);
      while (Clock::now() < end) {
        CacheLock lock;
        cache->load_or_lock(key, lock);
        if (!lock.held() || ++inside != 1) ++wrong;
        ++taken;
        std::this_thread::yield();
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(taken > 100);
  CHECK(wrong == 0);
}

TEST_CASE("many processes with many kernels in a cache that is too small get what they asked for") {
  CacheFixture fixture;
  fixture.compiler = std::make_shared<CountingCompiler>(fixture.dir.path() / "compilations", milliseconds(0), 5000);
  fixture.settings.max_bytes = 20000;
  std::vector<pid_t> children;
  for (unsigned i = 0; i < 12; ++i) {
    children.push_back(start([&, i] {
      std::mt19937 random(i);
      const CachedCompiler cached = fixture.cached();
      for (int round = 0; round < 30; ++round) {
        const Source source = cache_source(std::to_string(random() % 6));
        if (cached.compile(source, "sm_90a").bytes != fixture.compiler->expected(source, "sm_90a").bytes) return 1;
      }
      return fixture.warnings.empty() ? 0 : 3;
    }));
  }
  for (const pid_t child : children) CHECK(status_of(child) == 0);
  for (const std::string& name : fixture.names()) CHECK(name[0] != '.');
}

TEST_CASE("a process killed at any point leaves a cache that works") {
  CacheFixture fixture;
  fixture.compiler = std::make_shared<CountingCompiler>(fixture.dir.path() / "compilations", milliseconds(0), 300000);
  std::mt19937 random(1);
  int hits = 0, killed = 0;
  for (int round = 0; round < 60; ++round) {
    const pid_t child = start([&] {
      const CachedCompiler cached = fixture.cached();
      for (int i = 0;; ++i) cached.compile(cache_source(std::to_string(i % 50)), "sm_90a");
      return 0;
    });
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 15000));
    kill(child, SIGKILL);
    killed += status_of(child) == -SIGKILL;
    // Whatever is there is whole, and a lock of the dead holds nobody.
    const Clock::time_point begin = Clock::now();
    for (int i = 0; i < 3; ++i) {
      const Source source = cache_source(std::to_string(i));
      const Binary binary = fixture.cached().compile(source, "sm_90a");
      REQUIRE(binary.bytes == fixture.compiler->expected(source, "sm_90a").bytes);
      hits += binary.cached;
    }
    CHECK(seconds_since(begin) < 20);
    if (round % 10 == 9) fs::remove_all(fixture.settings.root);
  }
  CHECK(killed == 60);
  CHECK(hits > 30);
  CHECK(fixture.warnings.empty());
}

TEST_CASE("behind a process that was stopped while it compiles the others go on after the limit") {
  CacheFixture fixture;
  const fs::path begun = fixture.dir.path() / "compilations";
  const auto slow = std::make_shared<CountingCompiler>(begun, std::chrono::minutes(5));
  const pid_t child = start([&] {
    CachedCompiler(slow, fixture.cache()).compile(cache_source(), "sm_90a");
    return 0;
  });
  for (int i = 0; i < 1000 && slow->compilations() == 0; ++i) std::this_thread::sleep_for(milliseconds(10));
  REQUIRE(slow->compilations() == 1);
  kill(child, SIGSTOP);
  fixture.settings.lock_limit = milliseconds(300);
  const Clock::time_point begin = Clock::now();
  CHECK_FALSE(fixture.cached().compile(cache_source(), "sm_90a").cached);
  CHECK(seconds_since(begin) >= 0.3);
  CHECK(seconds_since(begin) < 20);
  CHECK(fixture.cached().compile(cache_source(), "sm_90a").cached);
  kill(child, SIGKILL);
  status_of(child);
}

}  // namespace
