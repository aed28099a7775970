#include "compile/elf.h"

#include <elf.h>

#include <cstring>
#include <optional>

namespace gdn::runtime {
namespace {

// A compiler's output is input: each read is bounded.
template <class T>
std::optional<T> read_at(const std::vector<std::uint8_t>& bytes, std::uint64_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

std::optional<Elf64_Ehdr> header_of(const std::vector<std::uint8_t>& bytes) {
  const auto header = read_at<Elf64_Ehdr>(bytes, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return std::nullopt;
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB) return std::nullopt;
  const std::uint64_t end = header->e_shoff + std::uint64_t{header->e_shnum} * sizeof(Elf64_Shdr);
  if (header->e_shoff > bytes.size() || end > bytes.size()) return std::nullopt;
  return header;
}

std::string_view contents(const std::vector<std::uint8_t>& bytes, const Elf64_Shdr& section) {
  if (section.sh_type == SHT_NOBITS || section.sh_offset > bytes.size()) return {};
  if (section.sh_size > bytes.size() - section.sh_offset) return {};
  return {reinterpret_cast<const char*>(bytes.data()) + section.sh_offset, section.sh_size};
}

}  // namespace

bool is_elf(const std::vector<std::uint8_t>& bytes, Machine machine) {
  const auto header = header_of(bytes);
  return header && header->e_machine == static_cast<std::uint16_t>(machine);
}

std::string_view section(const std::vector<std::uint8_t>& bytes, std::string_view name) {
  const auto header = header_of(bytes);
  if (!header) return {};
  const auto names_header = read_at<Elf64_Shdr>(bytes, header->e_shoff + header->e_shstrndx * sizeof(Elf64_Shdr));
  if (!names_header) return {};
  const std::string_view names = contents(bytes, *names_header);
  for (std::uint64_t i = 0; i < header->e_shnum; ++i) {
    const auto candidate = read_at<Elf64_Shdr>(bytes, header->e_shoff + i * sizeof(Elf64_Shdr));
    if (!candidate || candidate->sh_name >= names.size()) continue;
    const std::string_view rest = names.substr(candidate->sh_name);
    if (rest.substr(0, rest.find('\0')) == name) return contents(bytes, *candidate);
  }
  return {};
}

}  // namespace gdn::runtime
