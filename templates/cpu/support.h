// What this machine can run.
#pragma once

#include <string_view>

namespace gdn::cpu {

// Whether kernels of this CPU target ("avx2", "avx512bf16", "amx") can run here: the instructions are in CPUID, the
// system saves the registers they use (XCR0), and for "amx" it has granted this process the tiles, which the first call
// asks for. False for a name that is no CPU target.
bool cpu_supports(std::string_view target);

}  // namespace gdn::cpu
