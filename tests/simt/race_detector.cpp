#include "race_detector.h"

#include <cstdint>
#include <unordered_map>

namespace races {
namespace {

constexpr std::uintptr_t kGranule = 2;

struct Access {
  int block = -1, rank = 0, thread = 0, cluster = 0;
  int barriers = 0;  // that the block had passed
  int arrivals = 0;  // that the thread had made
  int fences = 0;    // that the thread had passed
  int shuffles = 0;  // of its wave, that it had passed
};

struct Cell {
  Access write;
  std::vector<Access> reads;  // since then, one a thread
};

struct Range {
  std::uintptr_t begin, end;
};

bool active = false;
std::vector<Range> ranges;
std::unordered_map<std::uintptr_t, Cell> cells;
Report report;

Access access_of(const gdn_host::Thread& thread) {
  const gdn_host::Block& block = *thread.block;
  return {block.number,   block.rank,      thread.id,     block.number - block.rank,
          block.barriers, thread.arrivals, thread.fences, thread.shuffles};
}

// Whether an access of a thread comes before its block's visit to a counter, and if it must be seen: whether its thread
// saw to that.
bool before_visit(const Access& access, const gdn_host::Visit& visit, bool seen) {
  if (access.thread == visit.thread && (!seen || visit.fences > access.fences)) return true;
  if (access.barriers >= visit.barriers) return false;
  return !seen || visit.fences_at_barrier[static_cast<std::size_t>(access.thread)] > access.fences;
}

// The same behind a visit, number `number` of the launch.
bool behind_visit(const gdn_host::Thread& now, const Access& access, const gdn_host::Visit& visit, std::size_t number,
                  bool seen) {
  if (!seen) return access.thread == visit.thread || access.barriers > visit.barriers;
  if (number >= now.visits_at_fence) return false;
  return access.thread == visit.thread || now.barriers_at_fence > visit.barriers;
}

bool ordered_by_counter(const Access& first, bool first_reads, const Access& second, const gdn_host::Thread& now) {
  const std::vector<gdn_host::Visit>& visits = gdn_host::machine.visits();
  for (std::size_t later = 0; later < visits.size(); ++later) {
    if (visits[later].block != second.block) continue;
    if (!behind_visit(now, second, visits[later], later, !first_reads)) continue;
    for (std::size_t earlier = 0; earlier < later; ++earlier) {
      const gdn_host::Visit& visit = visits[earlier];
      if (visit.block != first.block || visit.counter != visits[later].counter) continue;
      if (before_visit(first, visit, !first_reads)) return true;
    }
  }
  return false;
}

bool ordered(const Access& first, bool first_reads, const Access& second, const gdn_host::Thread& now) {
  if (first.block == second.block) {
    const bool one_wave = first.thread / gdn_host::kWave == second.thread / gdn_host::kWave;
    return first.thread == second.thread || first.barriers < second.barriers ||
           (one_wave && first_reads && first.shuffles < second.shuffles);
  }
  if (ordered_by_counter(first, first_reads, second, now)) return true;
  if (first.cluster != second.cluster || !first_reads) return false;
  const int waits = second.arrivals - (now.in_meeting ? 1 : 0);
  return first.arrivals < waits;
}

std::string who(const Access& access) {
  return "block " + std::to_string(access.block) + " thread " + std::to_string(access.thread);
}

void found(const Access& first, const char* does, const Access& second, const char* then, bool shared) {
  if (report.races++ > 0) return;
  report.first = who(first) + does + who(second) + then + (shared ? " shared memory" : " an operand");
}

void heard(const void* address, std::size_t bytes, bool writes) {
  const gdn_host::Thread* const now = gdn_host::machine.running();
  if (!active || now == nullptr) return;
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  const bool shared = gdn_host::machine.is_shared(address);
  bool watched = shared;
  for (const Range& range : ranges) watched = watched || (at >= range.begin && at < range.end);
  if (!watched) return;
  const Access access = access_of(*now);
  for (std::uintptr_t granule = at / kGranule; granule <= (at + bytes - 1) / kGranule; ++granule) {
    Cell& cell = cells[granule];
    // The shared memory of an earlier cluster is another cluster's by now.
    if (shared && cell.write.block >= 0 && cell.write.cluster != access.cluster) cell = {};
    if (shared && !cell.reads.empty() && cell.reads[0].cluster != access.cluster) cell = {};
    if (cell.write.block >= 0 && !ordered(cell.write, false, access, *now)) {
      found(cell.write, " writes and ", access, writes ? " writes" : " reads", shared);
    }
    if (writes) {
      for (const Access& read : cell.reads) {
        if (!ordered(read, true, access, *now)) found(read, " reads and ", access, " writes", shared);
      }
      cell.reads.clear();
      cell.write = access;
      continue;
    }
    bool known = false;
    for (Access& read : cell.reads) {
      if (read.block != access.block || read.thread != access.thread) continue;
      read = access;
      known = true;
    }
    if (!known) cell.reads.push_back(access);
  }
}

}  // namespace

void watch(const void* begin, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(begin);
  if (bytes > 0) ranges.push_back({at, at + bytes});
  active = true;
}

Report stop() {
  const Report result = report;
  active = false;
  ranges.clear();
  cells.clear();
  report = {};
  return result;
}

}  // namespace races

void gdn_host_heard(const void* address, std::size_t bytes, bool writes) { races::heard(address, bytes, writes); }

// What -fsanitize=thread makes of the loads and stores of a source file.
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
#define GDN_TSAN(bytes)                                                           \
  void __tsan_read##bytes(void* at) { races::heard(at, bytes, false); }           \
  void __tsan_write##bytes(void* at) { races::heard(at, bytes, true); }           \
  void __tsan_unaligned_read##bytes(void* at) { races::heard(at, bytes, false); } \
  void __tsan_unaligned_write##bytes(void* at) { races::heard(at, bytes, true); }
GDN_TSAN(1) GDN_TSAN(2) GDN_TSAN(4) GDN_TSAN(8) GDN_TSAN(16) void __tsan_read_range(void* at, unsigned long bytes) {
  races::heard(at, bytes, false);
}
void __tsan_write_range(void* at, unsigned long bytes) { races::heard(at, bytes, true); }
}
