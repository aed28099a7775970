// What a right kernel leaves in every operand of a problem: the judge.
//
// The computation is in double and rounds exactly where the spec's `rounding` says and where a tensor is stored, and
// nowhere else. It is computed from the buffers' bytes as they are when it is called: before the kernel runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "oracle/delta.h"
#include "oracle/problem.h"

namespace gdn::oracle {

enum class RowRule : std::uint8_t {
  kUntouched,  // no byte may change
  kZero,       // every element is zero: the output of a padding row
  kValues,     // the elements that the operation writes get their values, the others stay
};

// One operand: its whole memory as it must be afterwards, and which elements count as values (compared as numbers)
// rather than as bytes.
struct ExpectedBuffer {
  std::vector<std::byte> image;
  std::vector<RowRule> rows;
  std::vector<bool> written;  // by position in a row
  // By row and position, of a quantised output: what was rounded to a code, and the scale before it was rounded up to a
  // power of two, where it is one.
  std::vector<double> exact;
  // Of prefill's output, by row and position: how much an error there counts, the same for a head's row. The gated norm
  // brings rows to one size; what is judged is the error of what it divides, by what it divides with. A row of small o,
  // in which large terms cancel, would show their roundings magnified otherwise. Empty: every error counts alike.
  std::vector<double> weight;
  // Where prefill's output is quantised: what the norm divided heads by, in any order; and by row and position how many
  // codes a number moves with its o. Groups have one size whatever the norm divided by, so it is not the differences of
  // codes that count less, but what leads across a tie that may be larger.
  std::vector<double> divisors, slope;
};

struct Expectation {
  std::vector<ExpectedBuffer> buffers;  // in operand order
};

Expectation expect(const Problem& problem);

// What a kernel made for another spec (or with another order of the recurrent step) does with the same bytes. For
// mutants: the accidents that a comparison has to notice. Throws std::invalid_argument when the other spec's operands
// differ in name, type or size.
Expectation expect_as(const Problem& problem, const spec::Spec& made_for, StepOrder order = StepOrder::kRule);

// Plays the kernel: puts the expected bytes into the problem's buffers.
void apply(const Expectation& expectation, Problem& problem);

}  // namespace gdn::oracle
