// What blocks can hold, by numbers that templates/gdn has as well: the model of choices.h keeps to it, and
// choices_fault says where others don't.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/facts.h"
#include "core/plan.h"
#include "plan/target.h"

namespace gdn::plan {

constexpr int kMostOfCluster = 8;  // blocks of a cluster that every device of a target with clusters can place
constexpr int kConvChannels = 4;   // channels that a thread may convolve at once: a part has whole groups of them

// Whether the state's memory has the key channel innermost: (V, K). The body deals such a state out by rows; any other
// one by columns or element by element.
bool key_channel_innermost(const core::Facts& facts);

// Whether `parts` blocks can share `group` value heads so that none is without.
bool divides(int group, int parts);

// What a block of decode_spec has in shared memory for so many value heads of all tokens (TokensShared of
// delta_tokens.h).
std::int64_t shared_bytes_of_tokens(const core::Facts& facts, int heads, bool products = false);

// The dynamic shared memory of a block of decode or decode_spec: the states of its value heads where they come there at
// once, all of them or all but half a head (choice inbox), else none.
std::int64_t inbox_bytes(const core::Facts& facts, const core::Choices& choices);

// Whether a part takes its heads in one turn, as parts of a key head have to.
bool takes_one_turn(const core::Facts& facts, int parts);

// The same of decode_spec, whose parts keep all tokens' numbers.
bool tokens_take_one_turn(const core::Facts& facts, int parts, bool products);

// Why decode_spec can't take products of warps; empty: it can.
std::string products_fault(const Target& target, const core::Facts& facts);

// Why a block of decode or decode_spec can't have its states come to shared memory at once; empty: it can.
std::string inbox_fault(const Target& target, std::string_view operation, const core::Facts& facts,
                        const core::Choices& choices);

// States of 8 bits have scales to make, states rounded by chance a random word for each number: more registers for the
// same part of a state.
bool works_hard(const core::Facts& facts);

}  // namespace gdn::plan
