// An engine's choices, laid over a model's spec. An overlay is a file of its own, specs/engines/<name>.yaml:
//
//   gdn_gen: 1
//   overlay: vllm_ds            # the file's own name
//   engine: vLLM                # for people
//   for: {rule: gdn, models: [qwen3_5_*]}     # optional: what the engine lays out so; anything else is refused
//   conv: {window: 3}           # any keys that an engine may choose (Key::engine), and any tensors
//   pools:
//     state: {dims: [slot@launch, value_head, value_dim, key_dim]}     # dtype or dims alone: the other stays
//
// `for` names a rule, or models by name (a star at the end stands for any rest), or both: a layer has to satisfy all
// that is written. Without it an overlay fits every layer that stays a valid spec under it.
//
// Keys and tensors replace the spec's. `inputs` replaces the whole section, because its names are free; conv_state and
// conv_state_q, _k, _v (weights and biases alike) are two ways to write one thing, and replace each other.
#pragma once

#include <string>
#include <string_view>

#include "spec/diagnostics.h"
#include "spec/document.h"

namespace gdn::spec {

// Changes the tree of a spec. Reports a broken head, a layer that the overlay isn't for, and keys that an engine can't
// choose; what else is wrong shows when the changed tree is read.
void apply_overlay(Node& spec, Node overlay, const std::string& file, Diagnostics& diagnostics);

// "vllm_ds" of specs/engines/vllm_ds.yaml.
std::string overlay_name(const std::string& file);

// The key `unverified`, which is a list and so no row of the table of keys.
constexpr std::string_view kUnverifiedKey = "unverified";

}  // namespace gdn::spec
