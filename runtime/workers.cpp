#include "workers.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "error.h"
#include "processors.h"
#include "worker_pool.h"

namespace gdn::runtime {
namespace {

// One launch, cut into parts that anybody may do.
struct Parts {
  std::int64_t items = 0;
  std::int32_t count = 0;
  const Work* work = nullptr;
  std::atomic<std::int32_t> done{0};

  void run(std::int32_t part) {
    (*work)(items* part / count, items * (part + 1) / count);
    done.fetch_add(1, std::memory_order_release);
  }
};

class CallersThreads final : public Workers {
 public:
  CallersThreads(int threads, Threading::ParallelFor parallel_for, void* user)
      : threads_(threads), parallel_for_(parallel_for), user_(user) {}

  int threads() const override { return threads_; }

  void run(std::int64_t items, const Work& work) override {
    Parts parts;
    parts.items = items;
    parts.count = static_cast<std::int32_t>(std::min<std::int64_t>(items, threads_));
    parts.work = &work;
    if (parts.count < 1) return;
    parallel_for_(
        user_, parts.count, [](void* context, std::int32_t part) { static_cast<Parts*>(context)->run(part); }, &parts);
    const std::int32_t done = parts.done.load(std::memory_order_acquire);
    if (done == parts.count) return;
    throw Error(Code::kBadArgument,
                fmt::format("parallel_for returned after {} of {} parts: it has to call the body once for each of them "
                            "and to wait for all; what this launch wrote is worthless",
                            done, parts.count));
  }

 private:
  int threads_;
  Threading::ParallelFor parallel_for_;
  void* user_;
};

// An OpenMP runtime, opened when it is asked for. GNU's entry point is one that LLVM's and Intel's have too.
class OpenMp final : public Workers {
 public:
  explicit OpenMp(int threads) : threads_(threads) {
    void* const library = open();
    parallel_ = reinterpret_cast<Parallel>(::dlsym(library, "GOMP_parallel"));
    number_ = reinterpret_cast<Number>(::dlsym(library, "omp_get_thread_num"));
    team_ = reinterpret_cast<Number>(::dlsym(library, "omp_get_num_threads"));
    if (parallel_ == nullptr || number_ == nullptr || team_ == nullptr) {
      throw Error(Code::kMissingLibrary,
                  "the OpenMP runtime that was found has no GOMP_parallel: it is none of GNU's, "
                  "LLVM's and Intel's. Take threads of the pool, or parallel_for");
    }
  }

  int threads() const override { return threads_; }

  void run(std::int64_t items, const Work& work) override {
    Launch launch{{}, this};
    launch.parts.items = items;
    launch.parts.count = static_cast<std::int32_t>(std::min<std::int64_t>(items, threads_));
    launch.parts.work = &work;
    if (launch.parts.count < 1) return;
    parallel_([](void* context) { static_cast<Launch*>(context)->run(); }, &launch,
              static_cast<unsigned>(launch.parts.count), 0);
  }

 private:
  using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
  using Number = int (*)();

  struct Launch {
    Parts parts;
    const OpenMp* openmp;
    // A team may be smaller than asked for: inside of another region it is one thread.
    void run() {
      const int team = openmp->team_();
      for (std::int32_t part = openmp->number_(); part < parts.count; part += team) parts.run(part);
    }
  };

  // The runtime that the process has already (two in one process each start threads for every processor), else an
  // installed one.
  static void* open() {
    std::string loaded;
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* found) {
          const std::string path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
          const std::string name = path.substr(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
          for (const char* const prefix : {"libgomp", "libiomp5", "libomp"}) {
            if (name.rfind(prefix, 0) == 0) {
              *static_cast<std::string*>(found) = path;
              return 1;
            }
          }
          return 0;
        },
        &loaded);
    if (!loaded.empty()) {
      if (void* const library = ::dlopen(loaded.c_str(), RTLD_NOW | RTLD_NOLOAD)) return library;
    }
    for (const char* const name : {"libgomp.so.1", "libomp.so.5", "libomp.so", "libiomp5.so"}) {
      if (void* const library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
    }
    throw Error(Code::kMissingLibrary,
                "no OpenMP runtime: neither loaded in this process nor found as libgomp.so.1, libomp.so.5, libomp.so "
                "or libiomp5.so. Install one (Debian: libgomp1), or take threads of the pool");
  }

  int threads_;
  Parallel parallel_ = nullptr;
  Number number_ = nullptr, team_ = nullptr;
};

// What was made so far, for as long as somebody holds it. Never destroyed: kernels of static storage may end later.
struct Known {
  std::mutex mutex;
  std::map<std::tuple<int, int, int>, std::weak_ptr<Workers>> workers;
};

Known& known() {
  static Known& all = *new Known;
  // A child must not inherit the lock of a thread that it does not have.
  static const int once =
      ::pthread_atfork([] { known().mutex.lock(); }, [] { known().mutex.unlock(); }, [] { known().mutex.unlock(); });
  (void)once;
  return all;
}

}  // namespace

std::shared_ptr<Workers> workers_of(const Threading& threading) {
  const int allowed = allowed_processors();
  const int wanted = threading.threads > 0 ? threading.threads : allowed;
  if (threading.kind == Threading::Kind::kCaller) {
    if (threading.parallel_for == nullptr) {
      throw Error(Code::kBadArgument, "threads of the caller without its parallel_for: there is nothing to call");
    }
    return std::make_shared<CallersThreads>(wanted, threading.parallel_for, threading.user);
  }
  const bool pool = threading.kind == Threading::Kind::kPool;
  const int threads = pool ? std::min(wanted, allowed) : wanted;
  const int spin = threading.spin_us == 0 ? kSpinMicroseconds : std::max(threading.spin_us, 0);
  Known& all = known();
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::weak_ptr<Workers>& place = all.workers[{static_cast<int>(threading.kind), threads, pool ? spin : 0}];
  std::shared_ptr<Workers> workers = place.lock();
  if (workers == nullptr) {
    if (pool) {
      workers = std::make_shared<WorkerPool>(threads, spin);
    } else {
      workers = std::make_shared<OpenMp>(threads);
    }
    place = workers;
  }
  return workers;
}

}  // namespace gdn::runtime
