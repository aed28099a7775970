// The operations over drafted sequences: up to facts.tokens tokens of each through the layer in one launch, so that
// those which turn out to be rejected can be undone, and the commit of those that were accepted.
//
// Each token does to the state what a decode step does, in the same order of operations, so that an fp32 state has the
// same bits whichever way its tokens came. Between the tokens the state stays in scratch memory as fp32, whatever the
// pool keeps.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

void emit_decode_spec(Context& c);
void emit_state_commit(Context& c);

// Of scratch memory, a thread.
std::int64_t decode_spec_scratch(const core::Facts& facts);
std::int64_t state_commit_scratch(const core::Facts& facts);

}  // namespace gdn::cpu
