// The machines that kernels are made for, and what they can hold.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gdn::plan {

enum class Family : std::uint8_t { kCuda, kHip, kCpu };

struct Target {
  std::string_view name;
  Family family = Family::kCuda;
  int wave = 32;           // lanes that shuffle together; 1 on the CPU
  int max_threads = 1024;  // of a block
  int static_shared = 0;   // bytes of static shared memory a block can have
  std::string_view about;  // for people
  std::string_view kept =
      {};              // the operation that generated/ keeps of it; empty: all. Each is emitted where it is asked for
  int processors = 0;  // multiprocessors of the usual device
  bool clusters = false;      // whether neighbouring blocks can meet and reach each other's shared memory
  bool programmatic = false;  // whether a launch may begin before the one ahead of it is through
};

const std::vector<Target>& targets();

// Null for a name that is not a target.
const Target* find_target(std::string_view name);

// The folder of generated/ and the file ending: cuda/.cu, hip/.hip, cpu/.cpp.
std::string_view folder(Family family);
std::string_view extension(Family family);

}  // namespace gdn::plan
