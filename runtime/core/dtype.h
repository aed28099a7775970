// Element types of tensors, as specs spell them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace gdn::core {

enum class DType : std::uint8_t { kFp32, kBf16, kFp16, kInt32, kInt64, kE4m3fn, kE4m3fnuz, kUint8 };

// Bytes of one element.
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFp32:
    case DType::kInt32:
      return 4;
    case DType::kBf16:
    case DType::kFp16:
      return 2;
    case DType::kInt64:
      return 8;
    case DType::kE4m3fn:
    case DType::kE4m3fnuz:
    case DType::kUint8:
      return 1;
  }
  return 0;
}

// The name a spec uses: "fp32", "bf16", "fp16", "int32", "int64", "e4m3fn", "e4m3fnuz", "uint8" (bytes and flags: 0 is
// no, any other number yes).
std::string_view to_string(DType dtype);

// The inverse of to_string; nothing for an unknown name.
std::optional<DType> parse_dtype(std::string_view name);

// The number at place `i` of integers side by side, int32 or int64, aligned or not.
std::int64_t index_at(DType dtype, const void* numbers, std::int64_t i);

}  // namespace gdn::core
