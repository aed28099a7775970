// What a compiled GPU kernel takes of the machine, read from what the compiler left behind.
#pragma once

#include <string>
#include <string_view>

#include "compile/compiler.h"

namespace gdn::runtime {

struct Resources {
  int registers = 0;         // of a thread; AMD: vector registers, accumulation registers included
  int spill_bytes = 0;       // of a thread: registers written to memory, 4 bytes each on AMD
  int lane_bytes = 0;        // AMD: scalar registers kept in lanes of vector registers, an instruction each, no memory
  int stack_bytes = 0;       // of a thread: local memory, AMD's scratch
  int shared_bytes = 0;      // static, of a block
  bool has_flat = false;     // AMD, from Binary::assembly: an access that the compiler could not place in one memory
  bool has_scratch = false;  // scratch memory reserved, or accessed by an instruction of Binary::assembly
};

// Of the kernel `symbol` in a cubin or AMD code object. NVIDIA's numbers stand in the log (ptxas -v), AMD's in the
// code object's own metadata. Throws Error kCompileFailed when neither says anything about the symbol.
Resources resources_of(const Binary& binary, const std::string& symbol);

// The instructions of an AMD code object, for binaries that came without assembly: what Binary::assembly holds, from
// llvm-objdump. Throws Error kMissingLibrary when there is none, kCompileFailed when it can't read the bytes.
std::string disassembly(const Binary& binary);

}  // namespace gdn::runtime
