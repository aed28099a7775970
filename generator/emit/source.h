// A plan -> one emitted file.
#pragma once

#include <string>
#include <vector>

#include "plan/plan.h"

namespace gdn::emit {

struct EmittedFile {
  std::string path;  // below generated/: "cuda/gdn_qwen3_next_80b_decode_sm_90a.cu"
  std::string text;
};

// The file of one kernel: banner, facts type, address checks, entry point. Deterministic: no date, version or path of
// the machine.
EmittedFile source(const plan::Planned& planned);

}  // namespace gdn::emit
