// Who does the items of a launch on this CPU: threads of the runtime, of the caller, or of OpenMP.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace gdn::runtime {

// Does items [begin, end). Must not throw and must not call run() of the workers that it came from.
using Work = std::function<void(std::int64_t begin, std::int64_t end)>;

class Workers {
 public:
  virtual ~Workers() = default;
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Into how many parts run() cuts its items at most. At least 1.
  virtual int threads() const = 0;

  // Calls work(begin, end) for contiguous parts of [0, items) whose sizes differ by at most one, as many as there are
  // threads and items for. Returns when all are done. May be called from several threads at once.
  virtual void run(std::int64_t items, const Work& work) = 0;

 protected:
  Workers() = default;
};

// How a kernel on the CPU gets its threads.
struct Threading {
  enum class Kind : std::uint8_t { kPool, kCaller, kOpenMp };
  // Calls body(context, part) once for every part in [0, parts), in any order, on any threads, side by side or one by
  // one, and returns when all have returned.
  using ParallelFor = void (*)(void* user, std::int32_t parts, void (*body)(void* context, std::int32_t part),
                               void* context);

  Kind kind = Kind::kPool;
  int threads = 0;                     // 0: as many as this process may use; of kPool never more than that
  int spin_us = 0;                     // of kPool: 0: kSpinMicroseconds, negative: none
  ParallelFor parallel_for = nullptr;  // of kCaller
  void* user = nullptr;
};

// Shared by all who ask for the same. Throws Error: kMissingLibrary where no OpenMP runtime is to be had, kBadArgument
// for kCaller without a function.
std::shared_ptr<Workers> workers_of(const Threading& threading);

}  // namespace gdn::runtime
