// A spec held against a checkpoint's own files.
#pragma once

#include <string>
#include <vector>

#include "review/checkpoint.h"
#include "review/shape.h"
#include "spec/diagnostics.h"

namespace gdn::review {

struct Disagreement {
  std::string key;     // of the spec: "heads.value", "inputs.qkvz"
  std::string source;  // the checkpoint's key or tensor: "linear_num_value_heads", "model.layers.0.linear_attn.A_log"
  std::string what;
};

// Everything in which the two disagree; empty when the spec fits. What an engine chooses (pools, rounding, slots,
// dtypes after loading) no checkpoint can judge.
std::vector<Disagreement> match(const Side& side, const Checkpoint& checkpoint);

// A spec for the checkpoint, as text. What its files don't say is written FILL_IN, which lint reports as an error.
// `engine`, when given, is a resolved spec whose engine's choices are taken over.
std::string import_spec(const Checkpoint& checkpoint, const std::string& name, const spec::Spec* engine);

}  // namespace gdn::review
