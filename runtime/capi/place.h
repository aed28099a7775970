// Where a kernel runs, as text: "cpu", "cuda:0", "hip:1", "simt:gfx942".
#pragma once

#include <string>
#include <string_view>

#include "view.h"

namespace gdn::runtime {

struct Place {
  enum class Kind { kCpu, kCuda, kHip, kSimt };
  Kind kind = Kind::kCpu;
  int ordinal = 0;     // kCuda, kHip
  std::string target;  // kSimt: the GPU target whose source runs on the host

  bool gpu() const { return kind == Kind::kCuda || kind == Kind::kHip; }
  // Whose memory its operands are in.
  DeviceKind memory() const;
};

// Whether a text begins like a place; what does not is a target.
bool is_place(std::string_view text);

// Throws Error kBadArgument for a text that is no place.
Place parse_place(std::string_view text);

std::string to_string(const Place& place);

}  // namespace gdn::runtime
