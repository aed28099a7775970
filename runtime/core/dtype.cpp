#include "core/dtype.h"

#include <array>
#include <cstring>
#include <utility>

namespace gdn::core {
namespace {

constexpr std::array<std::pair<DType, std::string_view>, 8> kNames = {{
    {DType::kFp32, "fp32"},
    {DType::kBf16, "bf16"},
    {DType::kFp16, "fp16"},
    {DType::kInt32, "int32"},
    {DType::kInt64, "int64"},
    {DType::kE4m3fn, "e4m3fn"},
    {DType::kE4m3fnuz, "e4m3fnuz"},
    {DType::kUint8, "uint8"},
}};

}  // namespace

std::string_view to_string(DType dtype) {
  for (const auto& [value, name] : kNames) {
    if (value == dtype) return name;
  }
  return "?";
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (const auto& [value, known] : kNames) {
    if (known == name) return value;
  }
  return std::nullopt;
}

std::int64_t index_at(DType dtype, const void* numbers, std::int64_t i) {
  const auto* const from = static_cast<const std::byte*>(numbers) + i * static_cast<std::int64_t>(size_of(dtype));
  if (dtype == DType::kInt64) {
    std::int64_t value = 0;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  std::int32_t value = 0;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

}  // namespace gdn::core
