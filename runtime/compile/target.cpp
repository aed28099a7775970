#include "compile/compiler.h"

namespace gdn::runtime {

int wave_of(std::string_view target) { return target.substr(0, 4) == "gfx9" ? 64 : 32; }

}  // namespace gdn::runtime
