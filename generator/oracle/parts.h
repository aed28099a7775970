// A part of one row of a buffer, as doubles in the oracle's own order (head, key channel, value channel, tap).
#pragma once

#include <vector>

#include "oracle/convert.h"
#include "oracle/interpret.h"

namespace gdn::oracle {

inline std::vector<double> load_part(core::DType dtype, const std::byte* row, const PartMap& map) {
  const std::size_t size = core::size_of(dtype);
  std::vector<double> values(map.offset.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = load(dtype, row + static_cast<std::size_t>(map.offset[i]) * size);
  }
  return values;
}

inline void store_part(core::DType dtype, std::byte* row, const PartMap& map, const std::vector<double>& values) {
  const std::size_t size = core::size_of(dtype);
  for (std::size_t i = 0; i < values.size(); ++i) {
    store(dtype, row + static_cast<std::size_t>(map.offset[i]) * size, values[i]);
  }
}

}  // namespace gdn::oracle
