// The listing beside an emitted CPU file: the machine code that the Xbyak generator makes from the same facts.
#pragma once

#include "core/plan.h"
#include "emit/source.h"

namespace gdn::emit {

// Offset, bytes in hex and mnemonic of every instruction; deterministic, made on any x86-64 whether or not it could run
// the code. Throws std::runtime_error for what the generator cannot make.
EmittedFile listing(const core::KernelPlan& plan);

}  // namespace gdn::emit
