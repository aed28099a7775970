// The bytes of a bundle: a header, a table with one row a kernel, the texts, the binaries.
//
// Numbers are little-endian. Texts and binaries are found by offsets from the file's start; binaries stand at multiples
// of 64. The header's checksum covers the header before it, the body's everything behind the header.
#pragma once

#include <cstdint>
#include <string_view>

namespace gdn::runtime::bundle_format {

constexpr std::uint32_t kFormat = 1;
inline constexpr std::string_view kMagic{"GDNBNDL\n", 8};
constexpr std::uint64_t kBinaryAlign = 64;

struct FileHeader {
  char magic[8];
  std::uint32_t format;        // stands here in every version
  std::uint32_t template_abi;  // core::kTemplateAbi
  std::uint32_t plan_format;   // core::kPlanFormat
  std::uint32_t kernels;
  std::uint64_t file_bytes;
  std::uint64_t body_checksum;
  std::uint64_t reserved[2];  // zero
  std::uint64_t header_checksum;
};
static_assert(sizeof(FileHeader) == 64);

struct Span {
  std::uint64_t offset, bytes;
};

struct Row {
  std::uint64_t identity;  // core::KernelPlan::identity.id
  Span spec, operation, target, symbol, plan, compiler, binary;
};
static_assert(sizeof(Row) == 120);

}  // namespace gdn::runtime::bundle_format
