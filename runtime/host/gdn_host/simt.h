// The host shim: runs GPU source, as emitted, on the CPU.
//
// Compile the emitted file as C++17 with -DGDN_HOST_SHIM -DGDN_HOST_WAVE=32 (or 64) and the folders of gdn/ and
// gdn_host/ on the include path, as a shared library or into a program. gdn/config.h then maps the GPU's words to this
// header. A kernel keeps its own name as an exported symbol, `extern "C" void <symbol>(gdn::Args)`; run it with
// gdn_host_launch, which the same library exports:
//
//   auto launch = (GdnHostLaunch)dlsym(library, "gdn_host_launch");
//   auto kernel = (GdnHostKernel)dlsym(library, "gdn_qwen3_next_80b_decode_sm_90a");
//   char message[512];
//   if (launch(kernel, &args, grid_x, grid_y, threads, order, message, sizeof(message)) != 0) throw ...message...
//
// Blocks run one after the other, in an order that the caller picks; inside a block each thread is a fiber, and waves
// of GDN_HOST_WAVE consecutive threads meet in their shuffles. What is stricter than hardware, so that mistakes show:
//   - a barrier that a returned or diverged thread never reaches, and a shuffle that some lanes of a wave skip, end the
//     launch with a message instead of hanging or passing by luck; so do lanes that shuffle over different distances
//   - shared memory is filled with NaN before each block
//   - a memory access must be aligned to its size
// One launch at a time per library. The kernels' memory accesses pass through read and write, and their barriers
// through one function: a race detector has its places.
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "gdn/args.h"
#include "gdn_host/fiber.h"

#if !defined(GDN_HOST_WAVE)
#error "define GDN_HOST_WAVE: 32 as on NVIDIA and RDNA, 64 as on AMD's GCN"
#endif

// Everything is hidden: two libraries in one process, one with waves of 32 and one of 64, must not share a symbol.
#pragma GCC visibility push(hidden)
namespace gdn_host {

constexpr int kWave = GDN_HOST_WAVE;
constexpr int kMaxThreads = 1024;
constexpr std::size_t kSharedBytes = kWave == 64 ? 64 * 1024 : 48 * 1024;  // what a block may declare statically
static_assert(kWave == 32 || kWave == 64, "GDN_HOST_WAVE is 32 or 64");

template <class To, class From>
To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

enum class Wait : unsigned char { kNone, kBarrier, kShuffle, kReturned };

struct Thread {
  Fiber fiber;
  int id = 0;
  Wait wait = Wait::kNone;
};

// A wave's rendezvous. Two sets of values in turn: a lane can be one shuffle ahead of the slowest reader, never two.
struct Wave {
  int lanes = 0;
  int arrived = 0;
  int turn = 0;
  float value[2][kWave];
  int distance[2][kWave];
};

// Block orders of a launch.
enum Order : unsigned { kForward = 0, kReverse = 1 };  // any other number: shuffled by it, threads as well

class Machine {
 public:
  // Runs `kernel` for every thread of a grid. Returns 0, or 1 with a message.
  int launch(void (*kernel)(gdn::Args), const gdn::Args& args, int grid_x, int grid_y, int threads, unsigned order,
             char* message, std::size_t message_bytes) {
    message_ = message;
    message_bytes_ = message_bytes;
    failed_ = false;
    if (message_bytes_ > 0) message_[0] = '\0';
    if (running_) return report("a launch is running in this library already");
    if (grid_x < 1 || grid_y < 1) return report("a grid of %d x %d blocks is empty", grid_x, grid_y);
    if (threads < 1 || threads > kMaxThreads) return report("%d threads a block: 1 to %d", threads, kMaxThreads);
    if (!stacks_.reserve(threads)) return report("no memory for %d stacks", threads);
    running_ = true;
    kernel_ = kernel;
    args_ = &args;
    threads_.resize(static_cast<std::size_t>(threads));
    waves_.resize(static_cast<std::size_t>((threads + kWave - 1) / kWave));
    shared_.resize(kSharedBytes + kAlignment);

    std::vector<int> blocks = permutation(grid_x * grid_y, order);
    for (std::size_t i = 0; i < blocks.size() && !failed_; ++i) {
      block_x_ = blocks[i] % grid_x;
      block_y_ = blocks[i] / grid_x;
      run_block(permutation(threads, order));
    }
    running_ = false;
    return failed_ ? 1 : 0;
  }

  int thread_id() const { return current_->id; }
  int block_x() const { return block_x_; }
  int block_y() const { return block_y_; }

  void barrier() {
    const int live = static_cast<int>(threads_.size());
    if (++at_barrier_ == live) {
      at_barrier_ = 0;
      for (Thread& thread : threads_) {
        if (thread.wait == Wait::kBarrier) wake(thread);
      }
    } else {
      current_->wait = Wait::kBarrier;
      next();
    }
  }

  float shuffle_xor(float value, int distance) {
    Wave& wave = waves_[static_cast<std::size_t>(current_->id / kWave)];
    const int lane = current_->id % kWave;
    const int turn = wave.turn;
    wave.value[turn][lane] = value;
    wave.distance[turn][lane] = distance;
    if (++wave.arrived == wave.lanes) {
      wave.arrived = 0;
      wave.turn = 1 - turn;
      const std::size_t first = static_cast<std::size_t>(current_->id - lane);
      for (std::size_t i = first; i < first + static_cast<std::size_t>(wave.lanes); ++i) {
        if (threads_[i].wait == Wait::kShuffle) wake(threads_[i]);
      }
    } else {
      current_->wait = Wait::kShuffle;
      next();
    }
    const int other = lane ^ distance;
    if (other >= wave.lanes) fail("shuffle over distance %d: lane %d has no partner", distance, lane);
    if (wave.distance[turn][other] != distance) {
      fail("lanes %d and %d of a wave meet in different shuffles, over distances %d and %d", lane, other, distance,
           wave.distance[turn][other]);
    }
    return wave.value[turn][other];
  }

  // The block's copy of the shared variable `tag`, the same for all its threads.
  void* shared(int tag, std::size_t bytes, std::size_t alignment) {
    for (const Variable& variable : variables_) {
      if (variable.tag == tag) return shared_base() + variable.offset;
    }
    const std::size_t offset = (shared_used_ + alignment - 1) / alignment * alignment;
    if (offset + bytes > kSharedBytes) {
      fail("%zu bytes of shared memory in one block: a block has %zu", offset + bytes, kSharedBytes);
    }
    variables_.push_back({tag, offset});
    shared_used_ = offset + bytes;
    return shared_base() + offset;
  }

  void check_access(const void* address, std::size_t bytes) {
    if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0) {
      fail("an access of %zu bytes at %p, which is not a multiple of its size", bytes, address);
    }
  }

  // Ends the launch from inside a thread. The other fibers are left where they stand: kernels own nothing.
  [[noreturn]] __attribute__((format(printf, 2, 3))) void fail(const char* format, ...) {
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    report("block (%d, %d), thread %d: %s", block_x_, block_y_, current_->id, what);
    leave();
  }

 private:
  static constexpr std::size_t kAlignment = 128;
  struct Variable {
    int tag;
    std::size_t offset;
  };

  __attribute__((format(printf, 2, 3))) int report(const char* format, ...) {
    failed_ = true;
    if (message_bytes_ == 0) return 1;
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message_, message_bytes_, format, arguments);
    va_end(arguments);
    return 1;
  }

  char* shared_base() {
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(shared_.data());
    return shared_.data() + (kAlignment - address % kAlignment) % kAlignment;
  }

  // 0 .. count - 1 forward, backward, or shuffled (a linear congruential generator: the same on every machine).
  static std::vector<int> permutation(int count, unsigned order) {
    std::vector<int> numbers(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
      numbers[static_cast<std::size_t>(i)] = order == kReverse ? count - 1 - i : i;
    }
    if (order == kForward || order == kReverse) return numbers;
    std::uint64_t random = order;
    for (std::size_t i = numbers.size(); i > 1; --i) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      const std::size_t j = static_cast<std::size_t>((random >> 33) % i);
      const int kept = numbers[i - 1];
      numbers[i - 1] = numbers[j];
      numbers[j] = kept;
    }
    return numbers;
  }

  void run_block(const std::vector<int>& thread_order) {
    std::memset(shared_.data(), 0xff, shared_.size());  // NaN as fp32, bf16 and fp16
    variables_.clear();
    shared_used_ = 0;
    at_barrier_ = 0;
    returned_ = 0;
    const int threads = static_cast<int>(threads_.size());
    for (std::size_t w = 0; w < waves_.size(); ++w) {
      const int rest = threads - static_cast<int>(w) * kWave;
      waves_[w].lanes = rest < kWave ? rest : kWave;
      waves_[w].arrived = waves_[w].turn = 0;
    }
    ready_.resize(threads_.size() + 1);
    ready_first_ = ready_last_ = 0;
    for (const int id : thread_order) {
      Thread& thread = threads_[static_cast<std::size_t>(id)];
      thread.id = id;
      thread.fiber.prepare(stacks_.stack(id), Stacks::kBytes, &Machine::enter);
      wake(thread);
    }
    current_ = take_ready();
    main_.switch_to(current_->fiber);
  }

  static void enter();

  void run_thread() {
    kernel_(*args_);
    current_->wait = Wait::kReturned;
    if (++returned_ == static_cast<int>(threads_.size())) leave();
    next();
  }

  void wake(Thread& thread) {
    thread.wait = Wait::kNone;
    ready_[ready_last_] = &thread;
    ready_last_ = ready_last_ + 1 == ready_.size() ? 0 : ready_last_ + 1;
  }

  Thread* take_ready() {
    Thread* thread = ready_[ready_first_];
    ready_first_ = ready_first_ + 1 == ready_.size() ? 0 : ready_first_ + 1;
    return thread;
  }

  // Gives the processor to the next thread that can run.
  void next() {
    if (ready_first_ == ready_last_) {
      report_deadlock();
      leave();
    }
    Thread* before = current_;
    current_ = take_ready();
    if (current_ != before) before->fiber.switch_to(current_->fiber);
  }

  [[noreturn]] void leave() {
    Fiber abandoned;
    abandoned.switch_to(main_);
    __builtin_unreachable();
  }

  void report_deadlock() {
    int count[4] = {};
    int first[4] = {-1, -1, -1, -1};
    for (const Thread& thread : threads_) {
      const std::size_t w = static_cast<std::size_t>(thread.wait);
      if (count[w]++ == 0) first[w] = thread.id;
    }
    const std::size_t barrier = static_cast<std::size_t>(Wait::kBarrier);
    const std::size_t shuffle = static_cast<std::size_t>(Wait::kShuffle);
    const std::size_t done = static_cast<std::size_t>(Wait::kReturned);
    report(
        "block (%d, %d) is deadlocked: %d threads wait at a barrier (first: %d), %d in a shuffle (first: %d), %d have "
        "returned (first: %d); some threads skip a barrier or a shuffle that others wait in",
        block_x_, block_y_, count[barrier], first[barrier], count[shuffle], first[shuffle], count[done], first[done]);
  }

  void (*kernel_)(gdn::Args) = nullptr;
  const gdn::Args* args_ = nullptr;
  char* message_ = nullptr;
  std::size_t message_bytes_ = 0;
  bool failed_ = false;
  bool running_ = false;

  Stacks stacks_;
  Fiber main_;
  std::vector<Thread> threads_;
  std::vector<Wave> waves_;
  std::vector<Thread*> ready_;  // a ring of the threads that can run
  std::size_t ready_first_ = 0;
  std::size_t ready_last_ = 0;
  Thread* current_ = nullptr;
  int block_x_ = 0;
  int block_y_ = 0;
  int at_barrier_ = 0;
  int returned_ = 0;

  std::vector<char> shared_;
  std::vector<Variable> variables_;
  std::size_t shared_used_ = 0;
};

inline Machine machine;

inline void Machine::enter() {
  machine.run_thread();
  __builtin_unreachable();
}

// ---- what gdn/config.h maps to --------------------------------------------------------------------------------------

inline int thread_id() { return machine.thread_id(); }
inline int block_x() { return machine.block_x(); }
inline int block_y() { return machine.block_y(); }
inline void barrier() { machine.barrier(); }
inline float shuffle_xor(float value, int distance) { return machine.shuffle_xor(value, distance); }

template <class T>
T& shared(int tag) {
  return *static_cast<T*>(machine.shared(tag, sizeof(T), alignof(T)));
}

inline void read(const void* from, void* to, std::size_t bytes) {
  machine.check_access(from, bytes);
  std::memcpy(to, from, bytes);
}

inline void write(void* to, const void* from, std::size_t bytes) {
  machine.check_access(to, bytes);
  std::memcpy(to, from, bytes);
}

// fp16 by arithmetic, so that every compiler has it. Denormals included; round to nearest, ties to even.
inline float half_to_float(unsigned short half) {
  const unsigned sign = (half & 0x8000u) << 16;
  const unsigned exponent = (half >> 10) & 0x1fu;
  const unsigned mantissa = half & 0x3ffu;
  if (exponent == 0x1f) return bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return bit_cast<float>(sign | bit_cast<unsigned>(magnitude));
  }
  return bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

inline unsigned short float_to_half(float x) {
  const unsigned bits = bit_cast<unsigned>(x);
  const unsigned sign = (bits >> 16) & 0x8000u;
  const unsigned magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<unsigned short>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<unsigned short>(sign | 0x7c00u);  // 65520 and above
  if (magnitude < 0x38800000u) {
    // Below 2^-14: a multiple of 2^-24. Adding 1/2 leaves just those bits of the sum, rounded by the hardware.
    const unsigned sum = bit_cast<unsigned>(bit_cast<float>(magnitude) + 0.5f);
    return static_cast<unsigned short>(sign | (sum - 0x3f000000u));
  }
  const unsigned rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<unsigned short>(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace gdn_host
#pragma GCC visibility pop

extern "C" {

typedef void (*GdnHostKernel)(gdn::Args);
typedef int (*GdnHostLaunch)(GdnHostKernel kernel, const gdn::Args* args, int grid_x, int grid_y, int threads,
                             unsigned order, char* message, std::size_t message_bytes);

// Runs a kernel of this library for every thread of the grid. order: 0 forward, 1 blocks and threads from the last to
// the first, any other number a shuffle of both. Returns 0, or 1 with the reason in `message`.
__attribute__((weak, used, visibility("default"))) int gdn_host_launch(GdnHostKernel kernel, const gdn::Args* args,
                                                                       int grid_x, int grid_y, int threads,
                                                                       unsigned order, char* message,
                                                                       std::size_t message_bytes) {
  return gdn_host::machine.launch(kernel, *args, grid_x, grid_y, threads, order, message, message_bytes);
}

}  // extern "C"
