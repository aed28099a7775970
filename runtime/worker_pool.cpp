#include "worker_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace gdn::runtime {
namespace {

// A waiting thread looks this often before it sleeps: some 20 us, about what waking a thread costs. Layers of a model
// follow each other faster than that.
constexpr int kSpins = 500;

void pause_processor() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct WorkerPool::Shared {
  std::mutex turn;  // one launch at a time

  // Workers wait for `launch` to change; the caller waits for `running` to fall to 0. Both are written before the
  // mutex is taken to wake sleepers, and read again under it, so that no wake-up is lost.
  std::atomic<std::uint64_t> launch{0};
  std::atomic<int> running{0};
  std::atomic<bool> stop{false};
  std::mutex sleep;
  std::condition_variable woken, done;

  std::int64_t items = 0;
  const std::function<void(std::int64_t, std::int64_t)>* work = nullptr;
  std::vector<std::thread> workers;

  void part(std::int64_t worker, std::int64_t count) const {
    const std::int64_t begin = items * worker / count;
    const std::int64_t end = items * (worker + 1) / count;
    if (begin < end) (*work)(begin, end);
  }

  void serve(int worker) {
    std::uint64_t seen = 0;
    while (true) {
      for (int i = 0; i < kSpins && launch.load(std::memory_order_acquire) == seen; ++i) pause_processor();
      if (launch.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(sleep);
        woken.wait(lock, [&] { return launch.load(std::memory_order_acquire) != seen; });
      }
      seen = launch.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      part(worker, static_cast<std::int64_t>(workers.size()) + 1);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const std::lock_guard<std::mutex> lock(sleep);
        done.notify_one();
      }
    }
  }

  void wake() {
    {
      const std::lock_guard<std::mutex> lock(sleep);
      launch.fetch_add(1, std::memory_order_acq_rel);
    }
    woken.notify_all();
  }
};

WorkerPool::WorkerPool(int threads) : shared_(std::make_unique<Shared>()) {
  // No thread may see the vector grow: they read its size, so all start behind the gate.
  const std::lock_guard<std::mutex> gate(shared_->sleep);
  try {
    for (int i = 1; i < threads; ++i) {
      shared_->workers.emplace_back([shared = shared_.get(), i] {
        {
          const std::lock_guard<std::mutex> open(shared->sleep);
        }
        shared->serve(i);
      });
    }
  } catch (const std::system_error&) {
    // The parts are cut by the number of workers there are.
  }
}

WorkerPool::~WorkerPool() {
  shared_->stop.store(true, std::memory_order_release);
  shared_->wake();
  for (std::thread& worker : shared_->workers) worker.join();
}

int WorkerPool::threads() const { return static_cast<int>(shared_->workers.size()) + 1; }

void WorkerPool::run(std::int64_t items, const std::function<void(std::int64_t, std::int64_t)>& work) {
  Shared& shared = *shared_;
  if (items < 1) return;
  if (shared.workers.empty() || items == 1) {
    work(0, items);
    return;
  }
  const std::lock_guard<std::mutex> turn(shared.turn);
  shared.items = items;
  shared.work = &work;
  shared.running.store(static_cast<int>(shared.workers.size()), std::memory_order_release);
  shared.wake();
  shared.part(0, static_cast<std::int64_t>(shared.workers.size()) + 1);
  for (int i = 0; i < kSpins && shared.running.load(std::memory_order_acquire) != 0; ++i) pause_processor();
  if (shared.running.load(std::memory_order_acquire) != 0) {
    std::unique_lock<std::mutex> lock(shared.sleep);
    shared.done.wait(lock, [&] { return shared.running.load(std::memory_order_acquire) == 0; });
  }
}

std::shared_ptr<WorkerPool> shared_pool(int threads) {
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<WorkerPool>> pools;
  const std::lock_guard<std::mutex> lock(mutex);
  std::weak_ptr<WorkerPool>& known = pools[threads];
  std::shared_ptr<WorkerPool> pool = known.lock();
  if (pool == nullptr) {
    pool = std::make_shared<WorkerPool>(threads);
    known = pool;
  }
  return pool;
}

int allowed_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // Fails on machines with more than 1024 processors; the standard library asks differently.
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

}  // namespace gdn::runtime
