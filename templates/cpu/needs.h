// What a generator asks of a plan before it takes it: the operands that it has, and the facts that it knows.
#pragma once

#include <string>
#include <vector>

#include "core/plan.h"

namespace gdn::cpu {

// Throws std::runtime_error with the plan's symbol.
[[noreturn]] void refuse(const core::KernelPlan& plan, const std::string& why);

// A map of the plan's facts that must be present; where it lies and its type must be known.
struct Need {
  const char* name;
  const core::Map& map;
  int elements;  // along inner
};
std::vector<Need> operator+(std::vector<Need> a, const std::vector<Need>& b);

// Those of a convolution, over sequences with windows only where these use pools; of gates, a state, the gated norm; of
// drafted tokens; of the delta rule over chunks.
std::vector<Need> conv_needs(const core::Facts& facts);
std::vector<Need> row_conv_needs(const core::Facts& facts);
std::vector<Need> gate_needs(const core::Facts& facts);
std::vector<Need> state_needs(const core::Facts& facts);
std::vector<Need> norm_needs(const core::Facts& facts);
std::vector<Need> draft_needs(const core::Facts& facts);
std::vector<Need> chunk_needs(const core::Facts& facts);

// Decays of a value head: one, or one for each key channel.
int decays(const core::Facts& facts);

// Refuse a plan that lacks one of the needs; head dimensions and windows that no kernel has; slots, or sequences, whose
// operands or types no kernel knows.
void check_maps(const core::KernelPlan& plan, const std::vector<Need>& needs);
void check_facts(const core::KernelPlan& plan);
void check_slots(const core::KernelPlan& plan);
void check_sequences(const core::KernelPlan& plan);

}  // namespace gdn::cpu
