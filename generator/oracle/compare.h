// The verdict on a kernel: its buffers against what was expected of them.
#pragma once

#include <string>
#include <vector>

#include "oracle/reference.h"

namespace gdn::oracle {

// One operand. Every written operand has one; a read-only operand only when it was changed.
struct Deviation {
  std::string name;
  // ||got - want|| / ||want|| over all elements to be written, weighed where ExpectedBuffer says so; infinity for any
  // NaN. With sequences, the largest of theirs: a short one does not hide behind a long one.
  double error = 0;
  std::string worst;  // where the largest difference is: "row 2, v, value head 3 (...), value channel 17"; may be empty
  double got = 0, want = 0;  // there
  double tolerance = 0;      // see problem.h; 0 for inputs moved rather than computed
  // What must hold exactly and doesn't (and what no norm of a quantised output shows: a code further than one from the
  // oracle's, or another code or power-of-two scale where the number is not near a tie): bytes changed that belong to
  // nobody, padding rows that are not zero, copies that arrived wrong.
  std::vector<std::string> findings;

  bool good() const { return findings.empty() && error <= tolerance; }
};

// After the kernel has run on the problem's buffers.
std::vector<Deviation> compare(const Expectation& expectation, const Problem& problem);

bool all_good(const std::vector<Deviation>& deviations);

// A line per operand that is not good, for people; empty when all are.
std::string describe(const std::vector<Deviation>& deviations);

}  // namespace gdn::oracle
