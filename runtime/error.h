// The one exception of the runtime: a code for programs and a text for people.
//
// The text names the thing (operand, file, library, device), the rule that it broke and what to do about it.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace gdn::runtime {

enum class Code : std::uint8_t {
  kBadArgument,     // wrong number of operands, a null pointer, rows < 1, ...
  kDtypeMismatch,   // a view of another element type than the kernel was made for
  kLayoutMismatch,  // a view whose stated layout is not the kernel's
  kSizeMismatch,    // too few rows, another number of slots or inner elements
  kStrideMismatch,  // inner dimensions not dense, or a leading stride that the kernel can't take
  kAlignment,       // base address or leading stride not a multiple of the operand's alignment
  kOverlap,         // an operand that the kernel writes shares memory with another one
  kSlotOutOfRange,  // a slot index neither in the pool nor padding
  kSlotRepeated,    // two rows of a launch on one slot
  kMissingLibrary,  // a shared library, compiler or tool that is not there
  kUnsupported,     // the library, compiler, device or processor can't do this target
  kCompileFailed,   // the compiler refused the source, crashed, or returned something that is no binary
  kTimedOut,        // the compiler was killed at its time limit
  kDeviceError,     // the driver returned an error
  kSystem,          // the operating system refused: no memory, no disk, no permission
  kNotBuilt,        // GDN_JIT=off, and the kernel was not built ahead of time
  kTruncated,       // a bundle that ends too early
  kAltered,         // a bundle whose bytes are not those that were written
  kOtherVersion,    // a bundle of another version of this project
  kOutOfMemory,     // neither host nor device memory could be had
  kWrongDevice,     // an operand in memory that the kernel's device can't reach: a host pointer for a GPU kernel
  kNanInState,      // checked mode: a state that holds NaN
};

// "bad_argument", "layout_mismatch", ...
std::string_view to_string(Code code);

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& text) : std::runtime_error(text), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

}  // namespace gdn::runtime
