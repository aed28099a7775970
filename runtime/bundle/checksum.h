// A checksum that runs at the speed of memory.
#pragma once

#include <cstdint>
#include <string_view>

namespace gdn::runtime {

// Of all bytes and their number. Each step is a bijection of the state, so one changed word always changes the sum;
// several do with a chance of 2^-64. Against accidents, not against somebody who means it. Stable: bundles hold it.
std::uint64_t checksum(std::string_view bytes);

}  // namespace gdn::runtime
