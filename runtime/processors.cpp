#include "processors.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

namespace gdn::runtime {
namespace {

// A mask of any size: the one of the C library ends at 1024 processors.
class Mask {
 public:
  explicit Mask(int processors) : size_(CPU_ALLOC_SIZE(processors)), set_(CPU_ALLOC(processors)), bits_(processors) {
    if (set_ != nullptr) CPU_ZERO_S(size_, set_);
  }
  // Of these, at least one.
  explicit Mask(const std::vector<int>& processors)
      : Mask(*std::max_element(processors.begin(), processors.end()) + 1) {
    for (const int processor : processors) add(processor);
  }
  ~Mask() { CPU_FREE(set_); }
  Mask(const Mask&) = delete;
  Mask& operator=(const Mask&) = delete;

  // Of the calling thread. Empty when the system has more processors than this mask.
  bool read() { return set_ != nullptr && ::sched_getaffinity(0, size_, set_) == 0; }
  bool apply() const { return set_ != nullptr && ::sched_setaffinity(0, size_, set_) == 0; }
  bool apply_to(std::thread& thread) const {
    return set_ != nullptr && ::pthread_setaffinity_np(thread.native_handle(), size_, set_) == 0;
  }
  void add(int processor) {
    if (set_ != nullptr && processor < bits_) CPU_SET_S(static_cast<std::size_t>(processor), size_, set_);
  }

  std::vector<int> numbers() const {
    std::vector<int> all;
    for (int i = 0; i < bits_; ++i) {
      if (CPU_ISSET_S(static_cast<std::size_t>(i), size_, set_)) all.push_back(i);
    }
    return all;
  }

 private:
  std::size_t size_;
  cpu_set_t* set_;
  int bits_;
};

constexpr int kLargestMask = 1 << 16;

std::vector<int> mask_of_this_thread() {
  for (int size = 1024; size <= kLargestMask; size *= 2) {
    Mask mask(size);
    if (mask.read()) return mask.numbers();
    if (errno != EINVAL) break;
  }
  return {};
}

std::vector<int> read_processors() {
  std::vector<int> all = mask_of_this_thread();
  if (!all.empty()) return all;
  for (int i = 0; i < std::max(static_cast<int>(std::thread::hardware_concurrency()), 1); ++i) all.push_back(i);
  return all;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The tightest quota of this process's control group (version 2) and those above it. 0: none.
int group_quota() {
  std::ifstream groups("/proc/self/cgroup");
  std::string path;
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) == 0) path = line.substr(3);
  }
  int tightest = 0;
  while (true) {
    if (path == "/") path.clear();
    const int quota = quota_of(first_line("/sys/fs/cgroup" + path + "/cpu.max").c_str());
    if (quota > 0) tightest = tightest == 0 ? quota : std::min(tightest, quota);
    if (path.empty()) return tightest;
    path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

int count_allowed() {
  const int mask = static_cast<int>(processors().size());
  const int quota = group_quota();
  return quota > 0 ? std::min(mask, quota) : mask;
}

// Read while the library is loaded: later, an engine may have pinned the thread that asks.
const std::vector<int>& kAtLoad = processors();

}  // namespace

const std::vector<int>& processors() {
  static const std::vector<int> all = read_processors();
  return all;
}

int quota_of(const char* text) {
  std::istringstream words(text);
  double quota = 0, period = 0;
  if (!(words >> quota >> period) || quota <= 0 || period <= 0) return 0;
  return std::max(static_cast<int>(quota / period), 1);
}

int allowed_processors() {
  static const int allowed = count_allowed();
  return allowed;
}

void run_on(const std::vector<int>& processors) {
  if (!processors.empty()) (void)Mask(processors).apply();
}

void run_on(std::thread& thread, const std::vector<int>& processors) {
  if (!processors.empty()) (void)Mask(processors).apply_to(thread);
}

int current_processor() {
  const std::vector<int> mine = mask_of_this_thread();
  return mine.size() == 1 ? mine.front() : ::sched_getcpu();
}

}  // namespace gdn::runtime
