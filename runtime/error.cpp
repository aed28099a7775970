#include "error.h"

namespace gdn::runtime {

std::string_view to_string(Code code) {
  switch (code) {
    case Code::kBadArgument:
      return "bad_argument";
    case Code::kDtypeMismatch:
      return "dtype_mismatch";
    case Code::kLayoutMismatch:
      return "layout_mismatch";
    case Code::kSizeMismatch:
      return "size_mismatch";
    case Code::kStrideMismatch:
      return "stride_mismatch";
    case Code::kAlignment:
      return "alignment";
    case Code::kOverlap:
      return "overlap";
    case Code::kSlotOutOfRange:
      return "slot_out_of_range";
    case Code::kSlotRepeated:
      return "slot_repeated";
    case Code::kMissingLibrary:
      return "missing_library";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kCompileFailed:
      return "compile_failed";
    case Code::kTimedOut:
      return "timed_out";
    case Code::kDeviceError:
      return "device_error";
    case Code::kSystem:
      return "system";
    case Code::kNotBuilt:
      return "not_built";
    case Code::kTruncated:
      return "truncated";
    case Code::kAltered:
      return "altered";
    case Code::kOtherVersion:
      return "other_version";
    case Code::kOutOfMemory:
      return "out_of_memory";
    case Code::kWrongDevice:
      return "wrong_device";
    case Code::kNanInState:
      return "nan_in_state";
  }
  return "?";
}

}  // namespace gdn::runtime
