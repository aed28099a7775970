// Threads that share the items of one kernel launch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace gdn::runtime {

// The caller of run() is worker 0, so a pool of one thread starts none. Launches from several threads take turns.
class WorkerPool {
 public:
  // threads >= 1. Fewer are started when the system gives no more.
  explicit WorkerPool(int threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int threads() const;

  // Calls work(begin, end) on each worker with its part of [0, items): contiguous parts whose sizes differ by at most
  // one, none for a worker without items. Returns when all are done. `work` must not throw and must not call run().
  void run(std::int64_t items, const std::function<void(std::int64_t, std::int64_t)>& work);

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

// The pool of this many threads that all who ask share: kernels of a model follow each other. It ends with the last who
// holds it.
std::shared_ptr<WorkerPool> shared_pool(int threads);

// Processors that this process may run on.
int allowed_processors();

}  // namespace gdn::runtime
