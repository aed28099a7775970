// Threads of the runtime's own that share the items of one kernel launch.
#pragma once

#include <atomic>
#include <memory>

#include "workers.h"

namespace gdn::runtime {

// How long a thread that waits looks for what it waits for before it sleeps. Layers of a model follow each other faster
// than that, and a sleeper takes some 15 us to come.
constexpr int kSpinMicroseconds = 100;

// The caller of run() does the first part itself, so a pool of one thread starts none. Launches from several threads
// take turns. In a child that was forked after the threads had started, the next launch starts threads of its own.
//
// A pool as large as the process may be pins each thread to a processor of the process's mask other than the one that
// its maker runs on; a smaller one leaves its threads the whole mask, since nobody knows which part is free. $GDN_PIN=0
// pins none. The thread that calls is never pinned; the one whose processor it comes to run on goes where it came from.
class WorkerPool final : public Workers {
 public:
  // threads >= 1. Fewer are started when the system gives no more.
  explicit WorkerPool(int threads, int spin_us = kSpinMicroseconds);
  ~WorkerPool() override;

  int threads() const override;
  void run(std::int64_t items, const Work& work) override;

 private:
  class Crew;
  Crew& crew();

  int wanted_, spin_us_;
  std::atomic<Crew*> crew_;
};

}  // namespace gdn::runtime
