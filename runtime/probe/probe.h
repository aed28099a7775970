// The layout probe: an engine's operands are filled with values that say which element they are, the engine unpacks
// them its own way, and what it saw is compared with where the kernel's address maps say that each element lies.
//
// Elements of all operands are numbered through. No dtype holds such a number, so it is written digit by digit: pass p
// fills each element with digit p of its number, plus one (a zero is memory that nobody filled). Digits are integers
// that every dtype of the kernel holds exactly, so an engine may convert between them on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/plan.h"
#include "probe/parts.h"
#include "view.h"

namespace gdn::runtime {

class Probe {
 public:
  // The first `rows` rows and slots of every operand take part. Throws Error kBadArgument for rows < 1 or a wrong
  // number of views, kDtypeMismatch for a view of another element type, and kSizeMismatch for one with fewer rows or
  // slots. Layouts are not compared: the engine's tensors are what is in question. Copies what it needs of the views.
  Probe(const core::KernelPlan& plan, int rows, const Views& views);

  // What the engine can be asked for: every part of an operand that is there, slot indices aside.
  const std::vector<Part>& parts() const { return parts_; }
  // Floats that read() takes: rows times the part's elements, or the elements of a part without rows.
  std::size_t size_of(const Part& part) const;

  int passes() const { return passes_; }

  // Calls write(address, bytes, number of bytes) for every row of every operand. Memory between the rows is left alone.
  using Write = std::function<void(void*, const void*, std::size_t)>;
  void fill(int pass, const Write& write) const;

  // What the engine read for part `part` (an index into parts()) after fill(pass), in logical order, rows slowest.
  void read(std::size_t part, int pass, const float* values);

  // Call when every pass of the parts that the engine reads was read. The first element, in the order of parts() and
  // then of their elements, where the engine and the kernel differ, in both namings; empty: none.
  std::string difference() const;

 private:
  struct Source {
    int operand;
    std::int64_t row, element;
  };
  Source source_of(std::int64_t number) const;
  std::int64_t number_of(const Part& part, std::int64_t n) const;
  std::int64_t rows_of(std::size_t operand) const;
  std::string element_text(std::int64_t number) const;
  std::string kernels_name(std::int64_t number) const;
  std::string engines_name(std::int64_t number) const;

  core::KernelPlan plan_;
  std::vector<Part> parts_;
  std::vector<void*> data_;           // of each operand
  std::vector<std::int64_t> stride_;  // elements
  std::vector<std::int64_t> first_;   // number of each operand's first element; one more: of all elements
  int rows_ = 0, passes_ = 0;
  std::int64_t base_ = 0;
  std::vector<std::vector<std::int64_t>> seen_;  // for each part: the numbers that the engine read; -1: no number
  std::vector<int> passes_read_;
};

}  // namespace gdn::runtime
