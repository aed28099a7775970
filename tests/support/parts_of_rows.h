// A part's numbers in a row of a problem's buffers, by the name of its operand ("in.g", "out.o", "state").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "oracle/operands.h"
#include "oracle/parts.h"
#include "oracle/problem.h"
#include "support/catch.h"

namespace gdn::test {

inline std::vector<double> part_of_row(const oracle::Problem& problem, const std::string& key, std::int64_t row) {
  const oracle::BoundPart part = problem.operands().at(key);
  const oracle::Buffer& buffer = problem.buffers()[static_cast<std::size_t>(part.operand)];
  return oracle::load_part(buffer.dtype, buffer.row(row), *part.map);
}

inline void put_part(oracle::Problem& problem, const std::string& key, std::int64_t row,
                     const std::vector<double>& values) {
  const oracle::BoundPart part = problem.operands().at(key);
  oracle::Buffer& buffer = problem.buffers()[static_cast<std::size_t>(part.operand)];
  REQUIRE(values.size() == part.map->offset.size());
  oracle::store_part(buffer.dtype, buffer.row(row), *part.map, values);
}

// Each head's number, for all of its key channels.
inline std::vector<double> widened(const std::vector<double>& heads, int channels) {
  std::vector<double> wide;
  for (const double x : heads) wide.insert(wide.end(), static_cast<std::size_t>(channels), x);
  return wide;
}

}  // namespace gdn::test
