// The pool does every item once, whatever the number of items and threads, and launches take turns.
#include "worker_pool.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

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

TEST_CASE("a process may use at least one processor") { CHECK(gdn::runtime::allowed_processors() >= 1); }

}  // namespace
