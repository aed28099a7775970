// The memory of one operand, as a kernel gets it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "oracle/operands.h"

namespace gdn::oracle {

constexpr std::size_t kAlignment = 256;  // of every buffer's first byte
constexpr std::size_t kGuard = 256;      // bytes before and behind that nobody may write
constexpr std::byte kPoison{0xff};       // NaN in every floating-point type
constexpr std::byte kGuardByte{0xa5};

// Bytes at a 256-byte boundary between two guards. A value: copying copies the bytes.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(std::size_t size) : size_(size), all_(allocate(size)) {
    std::memset(all_, std::to_integer<int>(kGuardByte), all_size());
    std::memset(data(), std::to_integer<int>(kPoison), size_);
  }
  AlignedBytes(const AlignedBytes& other) : size_(other.size_), all_(other.all_ ? allocate(other.size_) : nullptr) {
    if (all_) std::memcpy(all_, other.all_, all_size());
  }
  AlignedBytes(AlignedBytes&& other) noexcept { swap(other); }
  AlignedBytes& operator=(AlignedBytes other) noexcept {
    swap(other);
    return *this;
  }
  ~AlignedBytes() {
    if (all_) ::operator delete(all_, std::align_val_t{kAlignment});
  }

  std::byte* data() { return all_ + kGuard; }
  const std::byte* data() const { return all_ + kGuard; }
  std::size_t size() const { return size_; }

  bool guards_intact() const {
    for (std::size_t i = 0; i < kGuard; ++i) {
      if (all_[i] != kGuardByte || data()[size_ + i] != kGuardByte) return false;
    }
    return true;
  }

 private:
  static std::byte* allocate(std::size_t size) {
    return static_cast<std::byte*>(::operator new(size + 2 * kGuard, std::align_val_t{kAlignment}));
  }
  std::size_t all_size() const { return size_ + 2 * kGuard; }
  void swap(AlignedBytes& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(all_, other.all_);
  }

  std::size_t size_ = 0;
  std::byte* all_ = nullptr;
};

struct Buffer {
  std::string name;  // of the operand
  Kind kind = Kind::kInput;
  core::DType dtype = core::DType::kFp32;
  Leading leading = Leading::kNone;
  bool written = false;     // by the operation
  std::int64_t rows = 1;    // tokens or slots; 1 without a leading dimension
  std::int64_t stride = 0;  // elements between two rows: Args::stride. Scales group by group: between two groups
  std::int64_t inner = 0;   // elements of a row; those from inner to stride belong to nobody
  AlignedBytes bytes;

  std::byte* data() { return bytes.data(); }
  const std::byte* data() const { return bytes.data(); }
  std::size_t size_bytes() const { return bytes.size(); }
  std::byte* row(std::int64_t index) { return data() + row_offset(index); }
  const std::byte* row(std::int64_t index) const { return data() + row_offset(index); }
  bool by_group() const { return leading == Leading::kScaleGroup; }
  // Bytes from the start to an element of a row.
  std::size_t offset(std::int64_t index, std::int64_t position) const {
    const std::int64_t element = by_group() ? position * stride + index : index * stride + position;
    return static_cast<std::size_t>(element) * core::size_of(dtype);
  }
  // Where a row begins; of scales group by group it is not in one piece.
  std::size_t row_offset(std::int64_t index) const {
    return static_cast<std::size_t>(index * stride) * core::size_of(dtype);
  }
};

}  // namespace gdn::oracle
