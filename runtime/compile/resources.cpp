#include "compile/resources.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <nlohmann/json.hpp>
#include <regex>

#include "compile/elf.h"
#include "compile/private_dir.h"
#include "compile/process.h"
#include "error.h"

namespace gdn::runtime {
namespace {

[[noreturn]] void fail(const std::string& symbol, const char* where) {
  throw Error(Code::kCompileFailed, fmt::format("{} says nothing about the kernel `{}`: its registers and spills are "
                                                "unknown",
                                                where, symbol));
}

// ptxas -v, one paragraph a function:
//   ptxas info    : Compiling entry function 'k' for 'sm_80'
//   ptxas         .     16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
//   ptxas info    : Used 10 registers, used 1 barriers, 256 bytes smem, 360 bytes cmem[0]
// A cached compilation leaves no log.
Resources from_log(const std::string& log, const std::string& symbol) {
  const std::size_t begin = log.find("Compiling entry function '" + symbol + "'");
  if (begin == std::string::npos) fail(symbol, "the compiler's log (a cached compilation has none)");
  const std::size_t end = std::min(log.find("Compiling entry function '", begin + 1), log.size());
  const std::string text = log.substr(begin, end - begin);
  const auto number = [&text](const char* pattern) {
    std::smatch match;
    return std::regex_search(text, match, std::regex(pattern)) ? std::stoi(match[1]) : 0;
  };
  Resources resources;
  resources.registers = number("Used ([0-9]+) registers");
  if (resources.registers == 0) fail(symbol, "the compiler's log");
  resources.stack_bytes = number("([0-9]+) bytes stack frame");
  resources.spill_bytes = number("([0-9]+) bytes spill stores") + number("([0-9]+) bytes spill loads");
  resources.shared_bytes = number("([0-9]+) bytes smem");
  resources.has_scratch = resources.stack_bytes > 0 || resources.spill_bytes > 0;
  return resources;
}

// The metadata note of an AMD code object: MessagePack,
// https://llvm.org/docs/AMDGPUUsage.html#code-object-v3-and-above-metadata .
nlohmann::json metadata_of(const std::vector<std::uint8_t>& bytes) {
  constexpr std::uint32_t kMetadata = 32;  // NT_AMDGPU_METADATA
  std::string_view notes = section(bytes, ".note");
  while (notes.size() >= 12) {
    std::uint32_t head[3];  // bytes of the name, bytes of the contents, type
    std::memcpy(head, notes.data(), sizeof(head));
    const std::size_t name_end = 12 + ((std::size_t{head[0]} + 3) & ~std::size_t{3});
    const std::size_t end = name_end + ((std::size_t{head[1]} + 3) & ~std::size_t{3});
    if (end > notes.size()) break;
    if (head[2] == kMetadata) {
      return nlohmann::json::from_msgpack(notes.substr(name_end, head[1]), true, false);
    }
    notes.remove_prefix(end);
  }
  return nlohmann::json::value_t::discarded;
}

Resources from_metadata(const std::vector<std::uint8_t>& bytes, const std::string& symbol) {
  try {
    const nlohmann::json metadata = metadata_of(bytes);
    for (const auto& kernel : metadata.at("amdhsa.kernels")) {
      if (kernel.at(".name") != symbol) continue;
      Resources resources;
      resources.registers = kernel.at(".vgpr_count");
      resources.stack_bytes = kernel.at(".private_segment_fixed_size");
      // Without a stack there is no memory that scalar registers could have gone to: they are in lanes of vector ones.
      const int scalar_bytes = 4 * kernel.at(".sgpr_spill_count").get<int>();
      resources.lane_bytes = resources.stack_bytes == 0 ? scalar_bytes : 0;
      resources.spill_bytes = 4 * kernel.at(".vgpr_spill_count").get<int>() + scalar_bytes - resources.lane_bytes;
      resources.shared_bytes = kernel.at(".group_segment_fixed_size");
      resources.has_scratch =
          resources.stack_bytes > 0 || resources.spill_bytes > 0 || kernel.value(".uses_dynamic_stack", false);
      return resources;
    }
  } catch (const nlohmann::json::exception&) {
    fail(symbol, "the code object's metadata");  // other metadata than the specification's: nothing is known then
  }
  fail(symbol, "the code object's metadata");
}

// Whether a line of assembly is an instruction that begins so: "  flat_load_dword v1, ...". Directives begin with a
// dot, comments with a semicolon, and labels at the margin.
bool has_instruction(const std::string& assembly, std::string_view start) {
  std::size_t at = 0;
  while ((at = assembly.find(start, at)) != std::string::npos) {
    std::size_t before = at;
    while (before > 0 && (assembly[before - 1] == ' ' || assembly[before - 1] == '\t')) --before;
    if (before < at && (before == 0 || assembly[before - 1] == '\n')) return true;
    at += start.size();
  }
  return false;
}

}  // namespace

std::string disassembly(const Binary& binary) {
  std::string program;
  for (const char* name : {"llvm-objdump-22", "llvm-objdump-19", "/usr/lib/llvm-22/bin/llvm-objdump",
                           "/usr/lib/llvm-19/bin/llvm-objdump", "/opt/rocm/llvm/bin/llvm-objdump", "llvm-objdump"}) {
    program = find_program(name);
    if (!program.empty()) break;
  }
  if (program.empty()) {
    throw Error(Code::kMissingLibrary, "no llvm-objdump that knows AMD's GPUs was found. Install llvm-19");
  }
  const PrivateDir dir;
  dir.write("kernel.hsaco", {reinterpret_cast<const char*>(binary.bytes.data()), binary.bytes.size()});
  const ProcessResult result =
      run_process({program, "-d", "--no-show-raw-insn", "kernel.hsaco"}, dir.path().string(), std::chrono::seconds(60));
  if (!result.ok()) {
    throw Error(Code::kCompileFailed, fmt::format("{} can't read {} bytes of a code object ({}): {}", program,
                                                  binary.bytes.size(), result.ending(), result.errors));
  }
  return result.output;
}

Resources resources_of(const Binary& binary, const std::string& symbol) {
  if (!is_elf(binary.bytes, Machine::kAmdGpu)) return from_log(binary.log, symbol);
  Resources resources = from_metadata(binary.bytes, symbol);
  resources.has_flat = has_instruction(binary.assembly, "flat_");
  resources.has_scratch |= has_instruction(binary.assembly, "scratch_");
  return resources;
}

}  // namespace gdn::runtime
