// How fast this machine is now, as a factor on the limits of time that tests hold the project to. The figures are for
// one that is not short of work for others: two such processors, of those that serve GPUs. A virtual machine that
// shares its processors may be half as fast, or change from minute to minute, and says nothing about this project then.
//
//   const test::Pace pace;
//   ... work of `seconds` of processor time ...
//   CHECK(seconds < pace.allow(10.0));
//
// The yardstick is work of the kind that is timed, which is compilers' and parsers': strings that are made, hashed,
// sorted and looked up, in a few megabytes. It is run before the work and after it, and the slower counts. A machine
// that is faster than the figures' gets no less time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

namespace gdn::test {

// Processor time of this thread since some moment.
inline double thread_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

class Pace {
 public:
  // Milliseconds of the yardstick. An H200's host (Sapphire Rapids, nothing else to do) takes 18 to 23, so limits are
  // half as long again there as they say: what is left for a machine whose pace changes between the yardstick and the
  // work. One that shares its processors was seen to take 21 to 34 within an hour.
  static constexpr double kReferenceMs = 12.0;

  Pace() : before_ms_(yardstick_ms()) {}

  // How many times slower than there; at least 1.
  double slowness() const { return std::max(1.0, std::max(before_ms_, yardstick_ms()) / kReferenceMs); }
  // A limit there, as one here.
  double allow(double limit) const { return limit * slowness(); }

  // Of this thread's processor time; the median of three.
  static double yardstick_ms() {
    std::vector<double> runs;
    for (int i = 0; i < 3; ++i) {
      const double begin = thread_ms();
      sink() = sink() + work();
      runs.push_back(thread_ms() - begin);
    }
    std::nth_element(runs.begin(), runs.begin() + 1, runs.end());
    return runs[1];
  }

 private:
  double before_ms_;

  static volatile std::uint64_t& sink() {
    static volatile std::uint64_t value = 0;
    return value;
  }

  static std::uint64_t work() {
    std::uint64_t state = 1;
    const auto next = [&state] {
      state = state * 6364136223846793005u + 1442695040888963407u;
      return state >> 33;
    };
    std::unordered_map<std::string, std::uint64_t> counts;
    std::map<std::string, std::uint64_t> sorted;
    std::vector<std::string> names;
    for (int i = 0; i < 20000; ++i) {
      std::string name = "name";
      for (std::uint64_t left = 4 + next() % 24; left > 0; --left) name += static_cast<char>('a' + next() % 26);
      counts[name] += next();
      if (i % 4 == 0) sorted[name] = next();
      names.push_back(std::move(name));
    }
    std::sort(names.begin(), names.end());
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < names.size(); ++i) {
      sum += counts.find(names[(i * 7919) % names.size()])->second;
      const auto found = sorted.lower_bound(names[(i * 104729) % names.size()]);
      if (found != sorted.end()) sum += found->second;
    }
    return sum;
  }
};

}  // namespace gdn::test
