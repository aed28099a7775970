// The machine of the host shim: blocks of fibers, their waves, barriers, shuffles, mailboxes and shared memory, and the
// order in which they run. simt.h says what it is stricter in than hardware; async.h and products.h have the bodies of
// its asynchronous copies and matrix instructions.
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "gdn/args.h"
#include "gdn_host/fiber.h"
#include "gdn_host/hopper_state.h"

#if !defined(GDN_HOST_WAVE)
#error "define GDN_HOST_WAVE: 32 as on NVIDIA and RDNA, 64 as on AMD's GCN"
#endif

// Everything is hidden: two libraries in one process, one with waves of 32 and one of 64, must not share a symbol.
#pragma GCC visibility push(hidden)

// With GDN_HOST_RACES a race detector hears of every access to the operands; the letters of a mailbox, which the
// machine itself delivers, are none of its business.
#if defined(GDN_HOST_RACES)
#define GDN_HOST_UNWATCHED __attribute__((no_sanitize("thread")))
void gdn_host_heard(const void* address, std::size_t bytes, bool writes);
#else
#define GDN_HOST_UNWATCHED
inline void gdn_host_heard(const void*, std::size_t, bool) {}
#endif

namespace gdn_host {

constexpr int kWave = GDN_HOST_WAVE;
constexpr int kMaxThreads = 1024;
constexpr std::size_t kSharedBytes = kWave == 64 ? 64 * 1024 : 48 * 1024;  // what a block may declare statically
static_assert(kWave == 32 || kWave == 64, "GDN_HOST_WAVE is 32 or 64");

enum class Wait : unsigned char { kNone, kBarrier, kShuffle, kCluster, kMailbox, kPhase, kReturned };
constexpr int kWaits = 7;

struct Block;

struct Thread {
  Fiber fiber;
  Block* block = nullptr;
  int id = 0;
  Wait wait = Wait::kNone;
  bool in_meeting = false;                    // between the two halves of the cluster's barrier
  int arrivals = 0;                           // at meetings of the cluster
  unsigned meeting = 0;                       // the cluster's meetings when it arrived
  int shuffles = 0;                           // and other meetings of its wave that it has passed
  int fences = 0;                             // of the device's memory that it has passed
  int fences_at_barrier = 0;                  // and had when its block passed its last barrier
  int barriers_at_fence = 0;                  // that its block had passed at its last fence
  std::size_t visits_at_fence = 0;            // and visits that there had been
  std::vector<Copy> copies;                   // of 16 bytes, that no arrival follows yet
  std::deque<std::vector<Copy>> copy_groups;  // committed, not yet landed
  std::vector<std::size_t> unfenced;          // pieces of shared memory that it wrote
  ProductsOfThread products;
};

// What the lanes of a wave bring to a meeting and take from it.
struct Exchange {
  unsigned in[kWave][10];
  unsigned out[kWave][4];
};

// A wave's rendezvous. Two sets of values in turn: a lane can be one shuffle ahead of the slowest reader, never two.
struct Wave {
  int lanes = 0;
  int arrived = 0;
  int turn = 0;
  float value[2][kWave];
  int distance[2][kWave];  // of a shuffle; of another meeting what it is for
  Exchange exchange[2];
  std::deque<Product> products;  // issued and not yet computed
  long long first_product = 0;   // number of the first of them
};

// A number on its way from one block of a cluster to another.
struct Letter {
  float* to;
  float value;
  unsigned long long* mailbox;
};

// A block's visit to a counter in memory where blocks meet that are no cluster.
struct Visit {
  const void* counter = nullptr;
  int block = 0, thread = 0;
  int barriers = 0;                    // that the block had passed
  int fences = 0;                      // that the visiting thread had
  std::vector<int> fences_at_barrier;  // of each thread of the block
};

struct Block {
  int x = 0, y = 0, rank = 0;  // rank: in its cluster
  std::vector<Thread> threads;
  std::vector<Wave> waves;
  int number = 0;  // in the launch
  int at_barrier = 0;
  int barriers = 0;  // that all threads have passed
  int returned = 0;
  std::vector<char> shared;
  struct Variable {
    int tag;
    std::size_t offset;
  };
  std::vector<Variable> variables;
  std::size_t shared_used = 0;
  std::vector<Letter> letters;
  std::vector<PhaseBarrier> phases;
  std::vector<short>
      writers;  // of each 16 bytes of dynamic shared memory, 1 + the thread that wrote it without a fence
  std::vector<std::vector<ProductShape>> product_logs;  // of each warp group
};

// Block orders of a launch.
enum Order : unsigned { kForward = 0, kReverse = 1 };  // any other number: shuffled by it, threads as well

class Machine {
 public:
  // Runs `kernel` for every thread of a grid, with so many bytes of dynamic shared memory. Returns 0, or 1 with a
  // message.
  int launch(void (*kernel)(gdn::Args), const gdn::Args& args, int grid_x, int grid_y, int threads, int cluster,
             int shared_bytes, unsigned order, char* message, std::size_t message_bytes) {
    message_ = message;
    message_bytes_ = message_bytes;
    failed_ = false;
    if (message_bytes_ > 0) message_[0] = '\0';
    if (running_) return report("a launch is running in this library already");
    if (grid_x < 1 || grid_y < 1) return report("a grid of %d x %d blocks is empty", grid_x, grid_y);
    if (threads < 1 || threads > kMaxThreads) return report("%d threads a block: 1 to %d", threads, kMaxThreads);
    if (cluster < 1 || cluster > kMaxCluster || grid_x % cluster != 0) {
      return report("clusters of %d blocks in a grid of %d: 1 to %d, and the grid is a multiple", cluster, grid_x,
                    kMaxCluster);
    }
    if (shared_bytes < 0 || shared_bytes > kMostDynamic) {
      return report("%d bytes of dynamic shared memory: 0 to %d", shared_bytes, kMostDynamic);
    }
    dynamic_bytes_ = (static_cast<std::size_t>(shared_bytes) + kAlignment - 1) / kAlignment * kAlignment;
    order_ = order;
    random_ = order;
    if (!stacks_.reserve(threads * cluster)) return report("no memory for %d stacks", threads * cluster);
    running_ = true;
    kernel_ = kernel;
    args_ = &args;
    blocks_.resize(static_cast<std::size_t>(cluster));
    for (Block& block : blocks_) {
      block.threads.resize(static_cast<std::size_t>(threads));
      block.waves.resize(static_cast<std::size_t>((threads + kWave - 1) / kWave));
      block.shared.resize(dynamic_bytes_ + kSharedBytes + kAlignment);
    }

    visits_.clear();
    const std::vector<int> clusters = permutation(grid_x / cluster * grid_y, order);
    for (std::size_t i = 0; i < clusters.size() && !failed_; ++i) {
      for (int rank = 0; rank < cluster; ++rank) {
        Block& block = blocks_[static_cast<std::size_t>(rank)];
        block.rank = rank;
        block.x = clusters[i] % (grid_x / cluster) * cluster + rank;
        block.y = clusters[i] / (grid_x / cluster);
        block.number = block.y * grid_x + block.x;
      }
      run_cluster(permutation(threads * cluster, order));
    }
    running_ = false;
    return failed_ ? 1 : 0;
  }

  // All visits to counters of the launch, in their order.
  const std::vector<Visit>& visits() const { return visits_; }

  // The thread that runs; null between launches.
  const Thread* running() const { return running_ ? current_ : nullptr; }
  // Whether an address lies in the shared memory of a block of the cluster that runs.
  bool is_shared(const void* address) const {
    for (const Block& block : blocks_) {
      const char* const at = static_cast<const char*>(address);
      if (at >= block.shared.data() && at < block.shared.data() + block.shared.size()) return true;
    }
    return false;
  }

  int thread_id() const { return current_->id; }
  int block_x() const { return current_->block->x; }
  int block_y() const { return current_->block->y; }

  void barrier() {
    Block& block = *current_->block;
    if (++block.at_barrier == static_cast<int>(block.threads.size())) {
      block.at_barrier = 0;
      ++block.barriers;
      for (Thread& thread : block.threads) thread.fences_at_barrier = thread.fences;
      wake_all(block, Wait::kBarrier);
    } else {
      current_->wait = Wait::kBarrier;
      next();
    }
  }

  void cluster_arrive() {
    if (current_->in_meeting) fail("arrives at the cluster's meeting twice");
    current_->in_meeting = true;
    ++current_->arrivals;
    current_->meeting = meetings_;
    if (++at_meeting_ < static_cast<int>(blocks_.size() * blocks_[0].threads.size())) return;
    at_meeting_ = 0;
    ++meetings_;
    for (Block& block : blocks_) wake_all(block, Wait::kCluster);
  }

  void cluster_wait() {
    if (!current_->in_meeting) fail("waits for a meeting of the cluster that it has not arrived at");
    current_->in_meeting = false;
    if (current_->meeting != meetings_) return;
    current_->wait = Wait::kCluster;
    next();
  }

  // What a counter was; it goes from blocks - 1 back to 0.
  GDN_HOST_UNWATCHED unsigned count_up(unsigned* counter, int blocks) {
    check_access(counter, sizeof(unsigned));
    if (blocks < 1 || *counter >= static_cast<unsigned>(blocks)) {
      fail("counts up from %u for %d blocks: the counter was not zero before the launch, or is not theirs", *counter,
           blocks);
    }
    const Block& block = *current_->block;
    Visit visit{counter, block.number, current_->id, block.barriers, current_->fences, {}};
    for (const Thread& thread : block.threads) visit.fences_at_barrier.push_back(thread.fences_at_barrier);
    visits_.push_back(std::move(visit));
    const unsigned was = *counter;
    *counter = was + 1 == static_cast<unsigned>(blocks) ? 0 : was + 1;
    return was;
  }

  // What was stored before can be seen by whoever learns of what comes after, through a fence of his own.
  void fence_device() {
    ++current_->fences;
    current_->barriers_at_fence = current_->block->barriers;
    current_->visits_at_fence = visits_.size();
  }

  // The state of a mailbox is the number of bytes that it still waits for.
  void mailbox_open(unsigned long long* state, int bytes) { *state = static_cast<unsigned long long>(bytes); }

  GDN_HOST_UNWATCHED void cluster_send(float* own, unsigned long long* own_mailbox, int rank, float value) {
    if (rank < 0 || rank >= static_cast<int>(blocks_.size())) fail("sends to block %d of its cluster", rank);
    Block& to = blocks_[static_cast<std::size_t>(rank)];
    if (to.returned > 0) fail("sends to block %d of its cluster, where threads have returned", rank);
    auto* const mailbox = there(own_mailbox, to);
    if (*mailbox == ~0ull || *mailbox < sizeof(value)) {
      fail("sends to block %d of its cluster, whose mailbox is not open or full", rank);
    }
    to.letters.push_back({there(own, to), value, mailbox});
    *mailbox -= sizeof(value);
    if (*mailbox > 0) return;
    for (const Letter& letter : to.letters) {
      if (letter.mailbox == mailbox) *letter.to = letter.value;
    }
    wake_all(to, Wait::kMailbox);
  }

  // A run of device memory to the block's own shared memory, which it reaches when the mailbox is full.
  GDN_HOST_UNWATCHED void bulk_fetch(void* to, const void* from, int bytes, unsigned long long* mailbox) {
    const auto places = reinterpret_cast<std::uintptr_t>(from) | reinterpret_cast<std::uintptr_t>(to);
    if (bytes % 16 != 0 || places % 16 != 0) fail("fetches %d bytes that are no pieces of 16", bytes);
    int rank = 0;
    while (&blocks_[static_cast<std::size_t>(rank)] != current_->block) ++rank;
    for (int i = 0; i < bytes; i += 16) gdn_host_heard(static_cast<const char*>(from) + i, 16, false);
    for (int i = 0; i < bytes / 4; ++i) {
      cluster_send(static_cast<float*>(to) + i, mailbox, rank, static_cast<const float*>(from)[i]);
    }
  }

  void mailbox_wait(const unsigned long long* state) {
    while (*state != 0) {
      current_->wait = Wait::kMailbox;
      next();
    }
  }

  // From the lane whose number differs in the bit `distance`.
  float shuffle_xor(float value, int distance) { return shuffle(value, distance, current_->id % kWave ^ distance); }

  // From lane `source` of the `lanes` side by side that this one is of.
  float shuffle_from(float value, int lanes, int source) {
    return shuffle(value, -(lanes * kWave + source), current_->id % kWave / lanes * lanes + source);
  }

  // From lane `other`; `which` tells the shuffles of a kernel apart: a distance, or a group and its source, negative.
  float shuffle(float value, int which, int other) {
    Wave& wave = current_->block->waves[static_cast<std::size_t>(current_->id / kWave)];
    const int lane = current_->id % kWave;
    const int turn = wave.turn;
    wave.value[turn][lane] = value;
    wave.distance[turn][lane] = which;
    if (++wave.arrived == wave.lanes) {
      release(wave);
    } else {
      current_->wait = Wait::kShuffle;
      next();
    }
    ++current_->shuffles;
    if (other >= wave.lanes) fail("shuffle over distance %d: lane %d has no partner", which, lane);
    if (wave.distance[turn][other] != which) {
      fail("lanes %d and %d of a wave meet in different shuffles, over distances %d and %d", lane, other, which,
           wave.distance[turn][other]);
    }
    return wave.value[turn][other];
  }

  // The block's copy of the shared variable `tag`, the same for all its threads.
  void* shared(int tag, std::size_t bytes, std::size_t alignment) {
    Block& block = *current_->block;
    for (const Block::Variable& variable : block.variables) {
      if (variable.tag == tag) return shared_base(block) + dynamic_bytes_ + variable.offset;
    }
    const std::size_t offset = (block.shared_used + alignment - 1) / alignment * alignment;
    if (offset + bytes > kSharedBytes) {
      fail("%zu bytes of shared memory in one block: a block has %zu", offset + bytes, kSharedBytes);
    }
    block.variables.push_back({tag, offset});
    block.shared_used = offset + bytes;
    return shared_base(block) + dynamic_bytes_ + offset;
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
    report("block (%d, %d), thread %d: %s", current_->block->x, current_->block->y, current_->id, what);
    leave();
  }

  // The running thread's block's dynamic shared memory; it begins on a multiple of 1024.
  void* dynamic_shared() { return shared_base(*current_->block); }
  Thread& current() { return *current_; }
  int cluster_rank() const { return current_->block->rank; }

  // What a meeting of a wave's lanes is for; above 0: a shuffle.
  enum Meeting : int {
    kMeetProducts = -1,
    kMeetProduct = -2,
    kMeetLoad4 = -3,
    kMeetLoad2 = -4,
    kMeetStore = -5,
    kMeetTranspose = -6,
    kMeetVote = -7,
    kMeetLargest = -8,
    kMeetLeast = -9,
    kMeetBarrier = -10,
  };

  // All lanes of the running thread's wave meet, each with a few words; the last to come does work(exchange) for all,
  // and each takes its own words out of it.
  template <class Work>
  void meet(int what, const unsigned* in, int words, Work&& work, unsigned* out = nullptr, int out_words = 0) {
    Wave& wave = current_->block->waves[static_cast<std::size_t>(current_->id / kWave)];
    const int lane = current_->id % kWave, turn = wave.turn;
    Exchange& lanes = wave.exchange[turn];
    if (words > 0) std::memcpy(lanes.in[lane], in, static_cast<std::size_t>(words) * 4);
    wave.distance[turn][lane] = what;
    if (++wave.arrived == wave.lanes) {
      for (int other = 0; other < wave.lanes; ++other) {
        if (wave.distance[turn][other] == what) continue;
        fail("lanes %d and %d of a wave meet for different things, %d and %d", lane, other, what,
             wave.distance[turn][other]);
      }
      work(lanes);
      release(wave);
    } else {
      current_->wait = Wait::kShuffle;
      next();
    }
    ++current_->shuffles;
    if (out_words > 0) std::memcpy(out, lanes.out[lane], static_cast<std::size_t>(out_words) * 4);
  }

  // ---- defined in async.h -------------------------------------------------------------------------------------------

  struct SharedPlace {
    Block* block;
    std::size_t offset;
  };
  SharedPlace shared_place(unsigned address, std::size_t bytes, std::size_t alignment);
  char* shared_pointer(unsigned address, std::size_t bytes, std::size_t alignment);
  unsigned shared_address(const void* pointer) const;
  unsigned address_in(unsigned address, int rank) const;
  void phase_init(unsigned address, int arrivals);
  void phase_expect(unsigned address, int bytes);
  void phase_arrive(unsigned address);
  void phase_wait(unsigned address, unsigned parity);
  void bulk_load(unsigned to, const char* from, int bytes, unsigned barrier);
  void bulk_store(char* to, unsigned from, int bytes);
  void bulk_wait_read();
  void copy_16(unsigned to, const char* from, bool inside);
  void arrive_after_copies(unsigned barrier);
  void copies_commit();
  void copies_wait(int pending);
  void send_words(unsigned to, const unsigned* words, int count, unsigned barrier);
  void store_shared(unsigned address, const void* from, std::size_t bytes);
  void load_shared(unsigned address, void* to, std::size_t bytes);
  void fence_async();
  void expect_fenced(Block& block, std::size_t offset, std::size_t bytes);

 private:
  static constexpr std::size_t kAlignment = 1024;
  static constexpr int kMaxCluster = 16;
  static constexpr int kMostDynamic = 227 * 1024;

  PhaseBarrier& phase_at(Block& block, std::size_t offset);
  PhaseBarrier& known_phase(unsigned address);
  void phase_complete(Block& block, PhaseBarrier& barrier);
  void phase_arrive(Block& block, PhaseBarrier& barrier);
  bool at_once();
  void start(Transfer transfer);
  void deliver_one();
  void deliver(const Transfer& transfer);
  void deliver(Block& block, const std::vector<Copy>& copies);
  void expect_idle();

  unsigned random() {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<unsigned>(random_ >> 33);
  }

  __attribute__((format(printf, 2, 3))) int report(const char* format, ...) {
    failed_ = true;
    if (message_bytes_ == 0) return 1;
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message_, message_bytes_, format, arguments);
    va_end(arguments);
    return 1;
  }

  static char* shared_base(Block& block) {
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(block.shared.data());
    return block.shared.data() + (kAlignment - address % kAlignment) % kAlignment;
  }

  // Another block's copy of a shared variable of the current one. Blocks declare their shared variables in the order in
  // which they come to them: a variable that both have lies at the same place only if that order is the same.
  template <class T>
  T* there(T* own, Block& block) {
    const std::ptrdiff_t offset = reinterpret_cast<char*>(own) - shared_base(*current_->block);
    if (offset < 0 || offset >= static_cast<std::ptrdiff_t>(dynamic_bytes_ + kSharedBytes))
      fail("sends to what is no shared memory");
    return reinterpret_cast<T*>(shared_base(block) + offset);
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

  void run_cluster(const std::vector<int>& thread_order) {
    for (Block& block : blocks_) {
      std::memset(block.shared.data(), 0xff, block.shared.size());  // NaN as fp32, bf16 and fp16
      block.variables.clear();
      block.letters.clear();
      block.phases.clear();
      block.writers.clear();
      block.product_logs.clear();
      block.shared_used = 0;
      block.at_barrier = 0;
      block.barriers = 0;
      block.returned = 0;
      const int threads = static_cast<int>(block.threads.size());
      for (std::size_t w = 0; w < block.waves.size(); ++w) {
        const int rest = threads - static_cast<int>(w) * kWave;
        block.waves[w].lanes = rest < kWave ? rest : kWave;
        block.waves[w].arrived = block.waves[w].turn = 0;
        block.waves[w].products.clear();
        block.waves[w].first_product = 0;
      }
    }
    transfers_.clear();
    at_meeting_ = 0;
    meetings_ = 0;
    returned_ = 0;
    ready_.resize(thread_order.size() + 1);
    ready_first_ = ready_last_ = 0;
    const std::size_t threads = blocks_[0].threads.size();
    for (const int number : thread_order) {
      Block& block = blocks_[static_cast<std::size_t>(number) / threads];
      Thread& thread = block.threads[static_cast<std::size_t>(number) % threads];
      thread.block = &block;
      thread.id = number % static_cast<int>(threads);
      thread.in_meeting = false;
      thread.arrivals = 0;
      thread.shuffles = 0;
      thread.fences = thread.fences_at_barrier = thread.barriers_at_fence = 0;
      thread.visits_at_fence = 0;
      thread.copies.clear();
      thread.copy_groups.clear();
      thread.unfenced.clear();
      thread.products.clear();
      thread.fiber.prepare(stacks_.stack(number), Stacks::kBytes, &Machine::enter);
      wake(thread);
    }
    current_ = take_ready();
    main_.switch_to(current_->fiber);
  }

  static void enter();

  void run_thread() {
    kernel_(*args_);
    if (current_->in_meeting) fail("returns between the two halves of the cluster's meeting");
    expect_idle();
    current_->wait = Wait::kReturned;
    ++current_->block->returned;
    if (++returned_ == static_cast<int>(blocks_.size() * blocks_[0].threads.size())) leave();
    next();
  }

  void wake_all(Block& block, Wait wait) {
    for (Thread& thread : block.threads) {
      if (thread.wait == wait) wake(thread);
    }
  }

  // All lanes of the running thread's wave have come: the others go on, and the next meeting has the other half of it.
  void release(Wave& wave) {
    wave.arrived = 0;
    wave.turn = 1 - wave.turn;
    std::vector<Thread>& threads = current_->block->threads;
    const std::size_t first = static_cast<std::size_t>(current_->id - current_->id % kWave);
    for (std::size_t i = first; i < first + static_cast<std::size_t>(wave.lanes); ++i) {
      if (threads[i].wait == Wait::kShuffle) wake(threads[i]);
    }
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
    while (ready_first_ == ready_last_) {
      if (transfers_.empty()) {
        report_deadlock();
        leave();
      }
      deliver_one();
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
    int count[kWaits] = {};
    int first[kWaits] = {-1, -1, -1, -1, -1, -1, -1};
    const Block* block = &blocks_[0];  // the first that waits for something
    for (const Block& other : blocks_) {
      if (other.returned < static_cast<int>(other.threads.size())) {
        block = &other;
        break;
      }
    }
    for (const Thread& thread : block->threads) {
      const std::size_t w = static_cast<std::size_t>(thread.wait);
      if (count[w]++ == 0) first[w] = thread.id;
    }
    const std::size_t barrier = static_cast<std::size_t>(Wait::kBarrier);
    const std::size_t shuffle = static_cast<std::size_t>(Wait::kShuffle);
    const std::size_t meeting = static_cast<std::size_t>(Wait::kCluster);
    const std::size_t mailbox = static_cast<std::size_t>(Wait::kMailbox);
    const std::size_t phase = static_cast<std::size_t>(Wait::kPhase);
    const std::size_t done = static_cast<std::size_t>(Wait::kReturned);
    report(
        "block (%d, %d) is deadlocked: %d threads wait at a barrier (first: %d), %d in a shuffle (first: %d), %d for "
        "the "
        "cluster (first: %d), %d at a mailbox (first: %d), %d for a phase (first: %d), %d have returned (first: %d); "
        "some threads skip a barrier "
        "or "
        "a shuffle that others wait in",
        block->x, block->y, count[barrier], first[barrier], count[shuffle], first[shuffle], count[meeting],
        first[meeting], count[mailbox], first[mailbox], count[phase], first[phase], count[done], first[done]);
  }

  void (*kernel_)(gdn::Args) = nullptr;
  const gdn::Args* args_ = nullptr;
  char* message_ = nullptr;
  std::size_t message_bytes_ = 0;
  bool failed_ = false;
  bool running_ = false;
  std::size_t dynamic_bytes_ = 0;
  unsigned order_ = kForward;
  unsigned long long random_ = 0;
  std::deque<Transfer> transfers_;  // under way
  std::vector<Visit> visits_;       // to counters

  Stacks stacks_;
  Fiber main_;
  std::vector<Block> blocks_;   // of the cluster that runs
  std::vector<Thread*> ready_;  // a ring of the threads that can run
  std::size_t ready_first_ = 0;
  std::size_t ready_last_ = 0;
  Thread* current_ = nullptr;
  int at_meeting_ = 0;
  unsigned meetings_ = 0;
  int returned_ = 0;
};

inline Machine machine;

inline void Machine::enter() {
  machine.run_thread();
  __builtin_unreachable();
}

}  // namespace gdn_host
#pragma GCC visibility pop
