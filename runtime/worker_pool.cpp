#include "worker_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string_view>
#include <system_error>
#include <thread>

#include "processors.h"

namespace gdn::runtime {
namespace {

constexpr std::size_t kLine = 64;  // bytes of a cache line

void pause_processor() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Sleeps while `word` is `expected`; may return early.
void sleep_on(std::atomic<std::uint32_t>& word, std::uint32_t expected) {
  static_assert(sizeof(word) == 4, "a futex is 4 bytes");
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void wake_all(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

// Whether `ready` became true within so many microseconds.
template <class Ready>
bool spin(int microseconds, const Ready& ready) {
  if (ready()) return true;
  if (microseconds <= 0) return false;
  constexpr int kLooks = 32;  // between two looks at the clock
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  do {
    for (int i = 0; i < kLooks; ++i) {
      if (ready()) return true;
      pause_processor();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// How often this process is a child of the one that loaded the library: threads don't follow into a child.
std::atomic<int> generation{0};
const int kCounted = ::pthread_atfork(nullptr, nullptr, [] { ++generation; });

bool pins() {
  const char* const text = std::getenv("GDN_PIN");
  return text == nullptr || std::string_view(text) != "0";
}

}  // namespace

// The threads of one process. Every word that two threads share has one writer, and stands in a line with words of that
// writer only.
class WorkerPool::Crew {
 public:
  Crew(int threads, int spin_us) : spin_us_(spin_us) {
    const std::vector<int>& all = processors();
    std::vector<int> places = all;
    pinned_ = pins() && threads == allowed_processors() && threads == static_cast<int>(all.size());
    if (pinned_) {
      const int here = current_processor();
      // Whoever makes a pool will call it: this one's processor is left alone, or the first where nobody knows.
      auto taken = std::find(places.begin(), places.end(), here);
      if (taken == places.end()) taken = places.begin();
      callers_place_ = *taken;
      places.erase(taken);
    }
    try {
      for (int i = 1; i < threads; ++i) {
        Worker& worker = workers_.emplace_back();
        worker.thread = std::thread([this, &worker] { serve(worker); });
        if (pinned_) worker.place = places[static_cast<std::size_t>(i) - 1];
        run_on(worker.thread, pinned_ ? std::vector<int>{worker.place} : places);
      }
    } catch (const std::system_error&) {
      workers_.pop_back();  // the one that has no thread; parts are cut by the number of those that have
    }
  }

  ~Crew() {
    for (Worker& worker : workers_) give(worker, 0, 0, nullptr);
    ring();
    for (Worker& worker : workers_) worker.thread.join();
  }

  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  bool of_this_process() const { return generation_ == generation.load(std::memory_order_relaxed); }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  void run(std::int64_t items, const Work& work) {
    const std::int64_t parts = std::min<std::int64_t>(items, threads());
    if (parts <= 1) {
      if (items > 0) work(0, items);
      return;
    }
    const std::lock_guard<std::mutex> turn(turn_);
    if (pinned_) make_way();
    const auto begin = [&](std::int64_t part) { return items * part / parts; };
    const auto helpers = static_cast<std::size_t>(parts) - 1;
    for (std::size_t i = 0; i < helpers; ++i) {
      const auto part = static_cast<std::int64_t>(i) + 1;
      give(workers_[i], begin(part), begin(part + 1), &work);
    }
    ring();
    work(0, begin(1));
    for (std::size_t i = 0; i < helpers; ++i) await(workers_[i]);
  }

 private:
  struct Worker {
    // Written by the caller.
    alignas(kLine) std::atomic<std::uint32_t> given{0};  // parts so far; the fields below are the latest one's
    std::atomic<std::uint32_t> awaited{0};               // 1: the caller sleeps on `done`
    std::int64_t begin = 0, end = 0;
    const Work* work = nullptr;  // null: it is over
    // Written by the worker.
    alignas(kLine) std::atomic<std::uint32_t> done{0};
    std::thread thread;
    int place = -1;  // the processor that it is pinned to, if any
  };

  // The system moves a caller, whom nobody pins, to where a worker is pinned: both would share that processor until it
  // moves the caller on, and the one left alone would idle. So the worker goes there.
  void make_way() {
    const int here = ::sched_getcpu();
    if (here == callers_place_) return;
    for (Worker& worker : workers_) {
      if (worker.place != here) continue;
      worker.place = callers_place_;
      callers_place_ = here;
      run_on(worker.thread, {worker.place});
      return;
    }
  }

  static void give(Worker& worker, std::int64_t begin, std::int64_t end, const Work* work) {
    worker.begin = begin;
    worker.end = end;
    worker.work = work;
    // Sequentially consistent like every access that a sleeper's depends on: who goes to sleep says so first and looks
    // once more then, who gives says so first and looks for sleepers then. One of the two sees the other.
    worker.given.store(worker.given.load(std::memory_order_relaxed) + 1, std::memory_order_seq_cst);
  }

  void ring() {
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    bell_.fetch_add(1, std::memory_order_seq_cst);
    wake_all(bell_);
  }

  void await(Worker& worker) const {
    const std::uint32_t wanted = worker.given.load(std::memory_order_relaxed);
    const auto done = [&] { return worker.done.load(std::memory_order_acquire) == wanted; };
    if (spin(spin_us_, done)) return;
    worker.awaited.store(1, std::memory_order_seq_cst);
    for (std::uint32_t now = 0; (now = worker.done.load(std::memory_order_seq_cst)) != wanted;) {
      sleep_on(worker.done, now);
    }
    worker.awaited.store(0, std::memory_order_relaxed);
  }

  void serve(Worker& me) {
    std::uint32_t seen = 0;
    bool worked = true;
    while (true) {
      const auto called = [&] { return me.given.load(std::memory_order_acquire) != seen; };
      // Who was woken for a launch that had no part for it sleeps on: the next may be as small.
      if (!spin(worked ? spin_us_ : 0, called)) {
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        const std::uint32_t bell = bell_.load(std::memory_order_seq_cst);
        if (me.given.load(std::memory_order_seq_cst) == seen) sleep_on(bell_, bell);
        sleepers_.fetch_sub(1, std::memory_order_seq_cst);
      }
      worked = called();
      if (!worked) continue;
      seen = me.given.load(std::memory_order_acquire);
      if (me.work == nullptr) return;
      (*me.work)(me.begin, me.end);
      me.done.store(seen, std::memory_order_seq_cst);
      if (me.awaited.load(std::memory_order_seq_cst) != 0) wake_all(me.done);
    }
  }

  const int generation_ = generation.load(std::memory_order_relaxed);
  const int spin_us_;
  bool pinned_ = false;
  int callers_place_ = -1;  // the processor with no worker, where they are pinned
  std::mutex turn_;
  std::deque<Worker> workers_;  // whose elements stay where they are
  alignas(kLine) std::atomic<std::uint32_t> bell_{0};
  alignas(kLine) std::atomic<std::uint32_t> sleepers_{0};
};

WorkerPool::WorkerPool(int threads, int spin_us)
    : wanted_(threads), spin_us_(spin_us), crew_(new Crew(threads, spin_us)) {}

WorkerPool::~WorkerPool() {
  Crew* const crew = crew_.load();
  if (crew->of_this_process()) delete crew;
  // Else its threads are the parent's: there is nothing to join, and its memory was never this process's to free twice.
}

WorkerPool::Crew& WorkerPool::crew() {
  Crew* known = crew_.load(std::memory_order_acquire);
  while (!known->of_this_process()) {
    auto fresh = std::make_unique<Crew>(wanted_, spin_us_);
    if (crew_.compare_exchange_strong(known, fresh.get())) return *fresh.release();
  }
  return *known;
}

int WorkerPool::threads() const { return crew_.load(std::memory_order_acquire)->threads(); }

void WorkerPool::run(std::int64_t items, const Work& work) { crew().run(items, work); }

}  // namespace gdn::runtime
