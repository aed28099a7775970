// The pool does every item once, whatever the number of items and threads, and launches take turns.
#include "worker_pool.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <thread>
#include <vector>

#include "error.h"
#include "processors.h"
#include "support/catch.h"

namespace {

using gdn::runtime::WorkerPool;

TEST_CASE("every item is done once, in parts as even as they can be") {
  for (const int threads : {1, 2, 3, 7}) {
    WorkerPool pool(threads);
    CHECK(pool.threads() == threads);
    for (const std::int64_t items : {0, 1, 2, 5, 7, 100}) {
      std::vector<std::atomic<int>> done(static_cast<std::size_t>(items));
      std::atomic<std::int64_t> calls{0}, longest{0}, shortest{items};
      pool.run(items, [&](std::int64_t begin, std::int64_t end) {
        ++calls;
        for (std::int64_t size = end - begin, old = longest; size > old && !longest.compare_exchange_weak(old, size);) {
        }
        for (std::int64_t size = end - begin, old = shortest;
             size < old && !shortest.compare_exchange_weak(old, size);) {
        }
        for (std::int64_t i = begin; i < end; ++i) ++done[static_cast<std::size_t>(i)];
      });
      INFO(threads << " threads, " << items << " items");
      int wrong = 0;
      for (const auto& count : done) wrong += count != 1;
      CHECK(wrong == 0);
      CHECK(calls == std::min<std::int64_t>(items, threads));
      if (items >= threads && items > 0) CHECK(longest - shortest <= 1);
    }
  }
}

TEST_CASE("many short launches, with pauses in which the workers fall asleep") {
  WorkerPool pool(3);
  std::atomic<std::int64_t> sum{0};
  for (int i = 0; i < 2000; ++i) {
    pool.run(6, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
    if (i % 500 == 0) usleep(5000);
  }
  CHECK(sum == 12000);
}

TEST_CASE("launches from several threads take turns") {
  WorkerPool pool(2);
  std::atomic<int> inside{0}, most{0};
  std::atomic<std::int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        pool.run(2, [&](std::int64_t begin, std::int64_t end) {
          const int now = ++inside;
          for (int old = most; now > old && !most.compare_exchange_weak(old, now);) {
          }
          sum += end - begin;
          --inside;
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(sum == 4 * 200 * 2);
  CHECK(most <= 2);
}

TEST_CASE("threads that never wait awake, and threads that wait awake for long") {
  for (const int spin_us : {0, 1, 20000}) {
    WorkerPool pool(3, spin_us);
    std::atomic<std::int64_t> sum{0};
    for (int i = 0; i < 200; ++i) {
      pool.run(i % 4 + 1, [&](std::int64_t begin, std::int64_t end) {
        if (i % 50 == 0) usleep(1000);
        sum += end - begin;
      });
    }
    CHECK(sum == 500);
  }
}

// What `run` returns in a child process; -1 where it does not come to an end.
template <class Run>
int in_child(const Run& run) {
  std::fflush(nullptr);
  std::cout.flush();
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    std::exit(run());  // with the static destructors of a process that ends
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

int sum_of(gdn::runtime::Workers& workers, std::int64_t items) {
  std::atomic<std::int64_t> sum{0};
  workers.run(items, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) sum += i;
  });
  return static_cast<int>(sum);
}

TEST_CASE("a child that is forked after the first use has threads of its own") {
  for (const int threads : {1, 2, 4}) {
    WorkerPool pool(threads);
    REQUIRE(sum_of(pool, 10) == 45);
    CHECK(in_child([&] { return sum_of(pool, 20) == 190 ? 7 : 8; }) == 7);
    // The child's child too, several threads of it at once, and a child that never launches.
    CHECK(in_child([&] {
            return in_child([&] {
                     std::atomic<int> right{0};
                     std::vector<std::thread> callers;
                     for (int i = 0; i < 4; ++i) {
                       callers.emplace_back([&] {
                         for (int j = 0; j < 50; ++j) right += sum_of(pool, 20) == 190 ? 1 : 0;
                       });
                     }
                     for (std::thread& caller : callers) caller.join();
                     return right == 200 ? 7 : 8;
                   }) == 7
                       ? 9
                       : 10;
          }) == 9);
    CHECK(in_child([] { return 11; }) == 11);
    CHECK(sum_of(pool, 10) == 45);
  }
}

TEST_CASE("a fork in the middle of another thread's launch") {
  WorkerPool pool(2);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) sum_of(pool, 100);
  });
  int good = 0;
  for (int i = 0; i < 20; ++i) good += in_child([&] { return sum_of(pool, 20) == 190 ? 7 : 8; }) == 7 ? 1 : 0;
  stop = true;
  busy.join();
  CHECK(good == 20);
}

TEST_CASE("a process ends while its workers wait, awake or asleep") {
  for (const int pause_us : {0, 5000}) {
    CHECK(in_child([&] {
            static WorkerPool pool(3);          // ends in a static destructor
            auto& leaked = *new WorkerPool(2);  // never ends
            const int sum = sum_of(pool, 20) + sum_of(leaked, 20);
            usleep(static_cast<useconds_t>(pause_us));
            return sum == 380 ? 7 : 8;
          }) == 7);
  }
}

cpu_set_t mask_of_this_thread() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  sched_getaffinity(0, sizeof(mask), &mask);
  return mask;
}

// Else both share one processor, and another idles: each launch takes twice as long until the system moves the caller.
TEST_CASE("a caller who has come to a worker's processor has it for itself") {
  const std::vector<int>& all = gdn::runtime::processors();
  const int threads = static_cast<int>(all.size());
  if (threads < 2 || gdn::runtime::allowed_processors() != threads) {
    std::puts("[SKIP] no two processors, or a quota, and then no thread is pinned");
    return;
  }
  WorkerPool pool(threads);
  for (int round = 0; round < 2; ++round) {
    for (const int place : all) {
      std::thread([&] {
        gdn::runtime::run_on({place});
        std::vector<int> used(all.size(), -1);
        for (int launch = 0; launch < 3; ++launch) {
          pool.run(threads,
                   [&](std::int64_t begin, std::int64_t) { used[static_cast<std::size_t>(begin)] = sched_getcpu(); });
          INFO("caller on " << place << ", launch " << launch);
          CHECK(used[0] == place);
          std::vector<int> sorted = used;
          std::sort(sorted.begin(), sorted.end());
          CHECK(sorted == all);
        }
      }).join();
    }
  }
}

TEST_CASE("the mask is the process's, not that of a caller who was pinned since; the caller is never pinned") {
  const std::vector<int>& all = gdn::runtime::processors();
  REQUIRE(!all.empty());
  CHECK(std::is_sorted(all.begin(), all.end()));
  CHECK(gdn::runtime::allowed_processors() >= 1);
  CHECK(gdn::runtime::allowed_processors() <= static_cast<int>(all.size()));
  const cpu_set_t before = mask_of_this_thread();
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(all.back()), &one);
    REQUIRE(sched_setaffinity(0, sizeof(one), &one) == 0);
    CHECK(gdn::runtime::processors() == all);
    const int threads = static_cast<int>(all.size());
    WorkerPool pool(threads);
    std::vector<cpu_set_t> masks(all.size());
    pool.run(threads,
             [&](std::int64_t begin, std::int64_t) { masks[static_cast<std::size_t>(begin)] = mask_of_this_thread(); });
    CHECK(CPU_EQUAL(&masks[0], &one));
    // The workers have the other processors, each one of its own, or all of them where a quota forbids to choose.
    const bool pinned = gdn::runtime::allowed_processors() == threads;
    for (std::size_t i = 1; i < masks.size(); ++i) {
      CHECK(CPU_COUNT(&masks[i]) == (pinned ? 1 : threads));
      if (pinned) CHECK(CPU_ISSET(static_cast<std::size_t>(all[i - 1]), &masks[i]));
    }
  }).join();
  const cpu_set_t after = mask_of_this_thread();
  CHECK(CPU_EQUAL(&before, &after));
}

TEST_CASE("quotas of control groups") {
  using gdn::runtime::quota_of;
  CHECK(quota_of("max 100000") == 0);
  CHECK(quota_of("200000 100000") == 2);
  CHECK(quota_of("250000 100000\n") == 2);
  CHECK(quota_of("50000 100000") == 1);
  CHECK(quota_of("") == 0);
  CHECK(quota_of("-1 100000") == 0);
  CHECK(quota_of("100000 0") == 0);
}

using gdn::runtime::Threading;
using gdn::runtime::workers_of;

TEST_CASE("the pool never has more threads than processors, and all who ask for as many share one") {
  Threading threading;
  threading.threads = 1000;
  const auto pool = workers_of(threading);
  CHECK(pool->threads() == gdn::runtime::allowed_processors());
  CHECK(workers_of({}) == pool);
  threading.spin_us = -1;
  CHECK(workers_of(threading) != pool);
  CHECK(sum_of(*workers_of(threading), 20) == 190);
}

TEST_CASE("the caller's own threads, in whatever order they come") {
  using Body = void (*)(void*, std::int32_t);
  const auto with = [](int threads, Threading::ParallelFor parallel_for, void* user = nullptr) {
    Threading threading;
    threading.kind = Threading::Kind::kCaller;
    threading.threads = threads;
    threading.parallel_for = parallel_for;
    threading.user = user;
    return workers_of(threading);
  };
  const auto forward = with(3, [](void*, std::int32_t parts, Body body, void* context) {
    for (std::int32_t i = 0; i < parts; ++i) body(context, i);
  });
  const auto backward = with(7, [](void*, std::int32_t parts, Body body, void* context) {
    for (std::int32_t i = parts; i-- > 0;) body(context, i);
  });
  std::atomic<int> calls{0};
  const auto at_once = with(
      5,
      [](void* user, std::int32_t parts, Body body, void* context) {
        ++*static_cast<std::atomic<int>*>(user);
        std::vector<std::thread> threads;
        for (std::int32_t i = 0; i < parts; ++i) threads.emplace_back([=] { body(context, i); });
        for (std::thread& thread : threads) thread.join();
      },
      &calls);
  for (const auto& workers : {forward, backward, at_once}) {
    CHECK(sum_of(*workers, 20) == 190);
    CHECK(sum_of(*workers, 2) == 1);
    CHECK(sum_of(*workers, 1) == 0);
    CHECK(sum_of(*workers, 0) == 0);
  }
  CHECK(calls == 3);
  CHECK(forward->threads() == 3);
  const auto lazy = with(4, [](void*, std::int32_t parts, Body body, void* context) {
    for (std::int32_t i = 1; i < parts; ++i) body(context, i);
  });
  CHECK_THROWS_WITH(sum_of(*lazy, 20), Catch::Contains("3 of 4 parts"));
  CHECK_THROWS_WITH(with(4, nullptr), Catch::Contains("parallel_for"));
}

TEST_CASE("threads of OpenMP") {
  Threading threading;
  threading.kind = Threading::Kind::kOpenMp;
  threading.threads = 3;
  std::shared_ptr<gdn::runtime::Workers> workers;
  try {
    workers = workers_of(threading);
  } catch (const gdn::runtime::Error& error) {
    CHECK(error.code() == gdn::runtime::Code::kMissingLibrary);
    std::printf("[SKIP] %s\n", error.what());
    return;
  }
  CHECK(workers->threads() == 3);
  for (int i = 0; i < 20; ++i) CHECK(sum_of(*workers, 20) == 190);
  CHECK(sum_of(*workers, 1) == 0);
  // More parts than a team has threads: inside of a launch a team is one thread.
  std::atomic<int> inner{0};
  workers->run(3, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) inner += sum_of(*workers_of(threading), 20);
  });
  CHECK(inner == 3 * 190);
}

}  // namespace
