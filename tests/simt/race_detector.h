// Finds accesses of a kernel that nothing orders, while the kernel runs through the host shim.
//
// Compile the kernel's source file with -fsanitize=thread and GDN_HOST_RACES, and link no sanitizer: its calls come to
// race_detector.cpp. Of every two bytes of the operands and of shared memory the detector remembers who wrote them last
// and who has read them since, with the barriers and meetings that each had passed. Two accesses of which one writes
// are ordered
//   - in one thread
//   - in one block, if the block has passed a barrier between them
//   - in one wave, if the first reads, and lanes have met in a shuffle between them: a wave's lanes read before they
//     meet
//   - in one cluster, if the first reads, and its thread arrived at a meeting that the second one's thread has waited
//     for
//   - in two blocks that have both counted up one counter (count_up), the first one's earlier, if
//       the first one's thread did so itself behind its access, or a barrier stood between, and the same the other way
//       round of the second's; and unless the first reads,
//       the first one's thread passed a fence of the device between its access and that barrier or count, and the
//       second one's between its own block's and its access
// and in no other case: a meeting of a cluster, and a counter by itself, say that a place was reached, not that stores
// can be seen (config.h).
#pragma once

#include <string>
#include <vector>

#include "gdn/config.h"

namespace races {

// Watches the bytes from now until stop(), besides shared memory.
void watch(const void* begin, std::size_t bytes);

// What was found since, the first few in words. Forgets everything.
struct Report {
  int races = 0;
  std::string first;
};
Report stop();

}  // namespace races
