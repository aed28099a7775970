// Rows of a problem's buffers: their numbers, how far two of them are apart, and those taken over from another problem.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "oracle/problem.h"

namespace gdn::test {

inline std::vector<double> row_of(const oracle::Buffer& buffer, std::int64_t row) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < buffer.inner; ++i) {
    const auto at = static_cast<std::size_t>(i) * core::size_of(buffer.dtype);
    values.push_back(oracle::load(buffer.dtype, buffer.row(row) + at));
  }
  return values;
}

// ||got - want|| / ||want||.
inline double error_of(const std::vector<double>& got, const std::vector<double>& want) {
  double squares = 0, reference = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    squares += (got[i] - want[i]) * (got[i] - want[i]);
    reference += want[i] * want[i];
  }
  return std::sqrt(squares / reference);
}

inline void copy_row(const oracle::Buffer& from, std::int64_t from_row, oracle::Buffer& to, std::int64_t to_row) {
  std::memcpy(to.row(to_row), from.row(from_row), static_cast<std::size_t>(from.inner) * core::size_of(from.dtype));
}

// Makes `second`, of one sequence, what is left of `whole` behind its first `first` rows: their inputs, and the pools
// as the first snapshot of `whole` keeps them.
inline void continue_behind_snapshot(const oracle::Problem& whole, int first, oracle::Problem& second) {
  for (oracle::Buffer& buffer : second.buffers()) {
    const oracle::Buffer& from = whole.buffer(buffer.name);
    if (buffer.kind == oracle::Kind::kInput) {
      for (int row = 0; row < second.rows(); ++row) copy_row(from, first + row, buffer, row);
    } else if (buffer.kind == oracle::Kind::kPool) {
      copy_row(from, whole.snapshots()[0].slot, buffer, second.sequences()[0].slot);
    }
  }
}

}  // namespace gdn::test
