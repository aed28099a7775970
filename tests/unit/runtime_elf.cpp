// ELF files are read with bounds: whatever a compiler returns, the answer is no and not a crash.
#include "compile/elf.h"

#include <fstream>
#include <iterator>

#include "compile/resources.h"
#include "support/catch.h"
#include "support/thrown.h"

namespace {

using namespace gdn::runtime;
using Bytes = std::vector<std::uint8_t>;

Bytes own_program() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

TEST_CASE("this program is an ELF file of this machine, with sections") {
  const Bytes bytes = own_program();
  CHECK(is_elf(bytes, host_machine()));
  CHECK_FALSE(is_elf(bytes, Machine::kCuda));
  CHECK_FALSE(is_elf(bytes, Machine::kAmdGpu));
  CHECK(section(bytes, ".text").size() > 1000);
  CHECK_THAT(std::string(section(bytes, ".rodata")), Catch::Contains("this sentence lies in .rodata"));
  CHECK(section(bytes, ".no_such_section").empty());
  CHECK(section(bytes, "").empty());
}

TEST_CASE("a file that was cut is no ELF file") {
  const Bytes bytes = own_program();
  for (std::size_t size :
       {std::size_t{0}, std::size_t{3}, std::size_t{63}, std::size_t{64}, bytes.size() / 2, bytes.size() - 1}) {
    INFO(size);
    const Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_FALSE(is_elf(cut, host_machine()));
    CHECK(section(cut, ".text").empty());
  }
}

// Every byte of the header and of the first section headers, and both ends of what it can hold.
TEST_CASE("altered headers are read with bounds") {
  Bytes bytes = own_program();
  std::uint64_t table = 0;
  for (int i = 7; i >= 0; --i) table = table << 8 | bytes[static_cast<std::size_t>(40 + i)];
  std::size_t found = 0;
  for (const std::size_t begin : {std::size_t{0}, static_cast<std::size_t>(table)}) {
    for (std::size_t at = begin; at < begin + 64 * (begin == 0 ? 1 : 8) && at < bytes.size(); ++at) {
      const std::uint8_t before = bytes[at];
      for (const std::uint8_t value : {std::uint8_t{0x00}, std::uint8_t{0x7F}, std::uint8_t{0xFF}}) {
        bytes[at] = value;
        found += section(bytes, ".text").size() + section(bytes, ".shstrtab").size();
      }
      bytes[at] = before;
    }
  }
  CHECK(found > 0);
}

TEST_CASE("metadata that is none says so") {
  Binary binary;
  binary.bytes = own_program();
  binary.bytes[18] = 224;  // e_machine: now an AMD GPU's, without its note
  binary.bytes[19] = 0;
  REQUIRE(is_elf(binary.bytes, Machine::kAmdGpu));
  const auto thrown = gdn::test::thrown_by([&] { resources_of(binary, "kernel"); });
  CHECK(thrown.code == Code::kCompileFailed);
  CHECK(thrown.has("kernel"));
}

}  // namespace
