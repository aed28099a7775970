// Names for generated code in the profiles of Linux' perf, which finds them in /tmp/perf-PID.map.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gdn::runtime {

// Appends a line to the file of this process if $GDN_PERF_MAP is 1, else does nothing. The file is made with rights for
// its owner alone, and is used only if it is a regular file of this user with no other name: /tmp is everybody's.
// Throws Error kSystem where it can't be used, kBadArgument for another value of the variable than 0 and 1.
void name_for_perf(const void* code, std::size_t bytes, std::string_view symbol);

// The same into a file of that path, whatever the variable says.
void append_to_perf_map(const std::string& path, const void* code, std::size_t bytes, std::string_view symbol);

}  // namespace gdn::runtime
