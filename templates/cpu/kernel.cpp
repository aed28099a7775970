#include "cpu/kernel.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace gdn::cpu {
namespace {

std::size_t mapped(std::size_t size) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (size + page - 1) / page * page;
}

}  // namespace

Kernel::Kernel(const std::vector<std::uint8_t>& code, std::string listing, std::int64_t scratch_bytes,
               const ItemParts& parts)
    : size_(code.size()), listing_(std::move(listing)), scratch_bytes_(scratch_bytes), parts_(parts) {
  if (code.empty()) return;
  void* const pages = ::mmap(nullptr, mapped(size_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) {
    throw std::runtime_error(std::string("no memory for the code of a CPU kernel: ") + std::strerror(errno));
  }
  pages_ = pages;
  std::memcpy(pages_, code.data(), size_);
  if (::mprotect(pages_, mapped(size_), PROT_READ | PROT_EXEC) != 0) {
    const int error = errno;
    release();
    throw std::runtime_error(std::string("this system lets no page become executable: ") + std::strerror(error));
  }
}

Kernel::Kernel(Kernel&& other) noexcept
    : pages_(std::exchange(other.pages_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      listing_(std::move(other.listing_)),
      scratch_bytes_(std::exchange(other.scratch_bytes_, 0)),
      parts_(std::exchange(other.parts_, ItemParts())) {}

Kernel& Kernel::operator=(Kernel&& other) noexcept {
  if (this != &other) {
    release();
    pages_ = std::exchange(other.pages_, nullptr);
    size_ = std::exchange(other.size_, 0);
    listing_ = std::move(other.listing_);
    scratch_bytes_ = std::exchange(other.scratch_bytes_, 0);
    parts_ = std::exchange(other.parts_, ItemParts());
  }
  return *this;
}

Kernel::~Kernel() { release(); }

void Kernel::release() noexcept {
  if (pages_ != nullptr) ::munmap(pages_, mapped(size_));
  pages_ = nullptr;
}

Kernel::Function Kernel::function() const {
  Function entry = nullptr;
  static_assert(sizeof(entry) == sizeof(pages_), "a function pointer is a plain address here");
  std::memcpy(&entry, &pages_, sizeof(entry));
  return entry;
}

std::vector<std::uint8_t> Kernel::code() const {
  const auto* const bytes = static_cast<const std::uint8_t*>(pages_);
  return pages_ == nullptr ? std::vector<std::uint8_t>() : std::vector<std::uint8_t>(bytes, bytes + size_);
}

}  // namespace gdn::cpu
