#include "plan/target.h"

namespace gdn::plan {

const std::vector<Target>& targets() {
  // Static shared memory: 48 KB is CUDA's limit for it on every architecture; 64 KB of LDS on AMD.
  static const std::vector<Target> table = {
      {"sm_80", Family::kCuda, 32, 1024, 48 * 1024, "NVIDIA A100", "", 108},
      {"sm_90a", Family::kCuda, 32, 1024, 48 * 1024, "NVIDIA H100, H200", "", 132, true, true},
      {"sm_100a", Family::kCuda, 32, 1024, 48 * 1024, "NVIDIA B200, GB200", "decode", 148, true, true},
      {"sm_120a", Family::kCuda, 32, 1024, 48 * 1024, "NVIDIA RTX 5090, RTX PRO 6000", "decode", 170, false, true},
      {"gfx90a", Family::kHip, 64, 1024, 64 * 1024, "AMD MI210, MI250", "", 104},
      {"gfx942", Family::kHip, 64, 1024, 64 * 1024, "AMD MI300, MI325", "", 304},
      {"gfx950", Family::kHip, 64, 1024, 64 * 1024, "AMD MI350, MI355", "", 256},
      {"gfx1100", Family::kHip, 32, 1024, 64 * 1024, "AMD RX 7900, PRO W7900", "decode", 96},
      {"gfx1200", Family::kHip, 32, 1024, 64 * 1024, "AMD RX 9060", "decode", 32},
      {"avx2", Family::kCpu, 1, 1, 0, "x86-64 with AVX2, FMA and F16C: Intel Haswell, AMD Zen, and newer", "decode"},
      {"avx512bf16", Family::kCpu, 1, 1, 0, "x86-64 with AVX-512 and AVX512-BF16"},
      {"amx", Family::kCpu, 1, 1, 0, "the same with AMX-TILE and AMX-BF16: Intel Sapphire Rapids and newer"},
  };
  return table;
}

const Target* find_target(std::string_view name) {
  for (const Target& target : targets()) {
    if (target.name == name) return &target;
  }
  return nullptr;
}

std::string_view folder(Family family) {
  switch (family) {
    case Family::kCuda:
      return "cuda";
    case Family::kHip:
      return "hip";
    case Family::kCpu:
      return "cpu";
  }
  return "";
}

std::string_view extension(Family family) {
  switch (family) {
    case Family::kCuda:
      return ".cu";
    case Family::kHip:
      return ".hip";
    case Family::kCpu:
      return ".cpp";
  }
  return "";
}

}  // namespace gdn::plan
