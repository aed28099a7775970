#include "spec/validator_speculative.h"

#include <fmt/format.h>

#include "spec/pieces.h"
#include "spec/rules.h"
#include "spec/tensor_keys.h"

namespace gdn::spec {
namespace {

template <class T>
bool known(const Located<T>& leaf) {
  return leaf.place.line > 0;
}

std::string_view name_of(core::Rollback scheme) {
  switch (scheme) {
    case core::Rollback::kNone:
      return "none";
    case core::Rollback::kSlots:
      return "slots";
    case core::Rollback::kIntermediate:
      return "intermediate";
    case core::Rollback::kReplay:
      return "replay";
  }
  return "?";
}

bool legal_tokens(const Spec& spec) {
  return known(spec.speculative.tokens) && *spec.speculative.tokens >= 1 && *spec.speculative.tokens <= 8;
}

}  // namespace

void check_spec_tokens(const Spec& spec, Diagnostics& diagnostics) {
  if (!known(spec.speculative.tokens) || legal_tokens(spec)) return;
  diagnostics.error(
      spec.speculative.tokens.place, id(RuleId::kSpecTokens),
      fmt::format("speculative.tokens = {} must be from 1 to 8: 1 and the number of drafts", *spec.speculative.tokens));
}

// The scheme of slots overwrites the oldest input with the first token, which is always accepted; the others keep the
// window of the state that they start from, in front of the tokens.
void check_spec_window(const Spec& spec, Diagnostics& diagnostics) {
  const Conv& conv = spec.conv;
  if (!*spec.speculative.given) return;
  if (known(conv.anchor) && *conv.anchor != core::Anchor::kFirst) {
    diagnostics
        .error(conv.anchor.place, id(RuleId::kSpecWindow),
               "conv.anchor must be first: drafts stand behind the last width - 1 inputs")
        .note(spec.speculative.given.place, "speculative is set here");
  }
  if (!known(conv.window) || !known(conv.width) || !known(spec.speculative.scheme) || !legal_tokens(spec)) return;
  const bool slots = *spec.speculative.scheme == core::Rollback::kSlots;
  const int needed = *conv.width - 1 + *spec.speculative.tokens - (slots ? 1 : 0);
  if (*conv.width < 2 || *conv.window >= needed) return;
  diagnostics
      .error(conv.window.place, id(RuleId::kSpecWindow),
             fmt::format("conv.window = {} has no room for the {} inputs of speculative.scheme = {}: it must be at "
                         "least {} (conv.width - 1 + speculative.tokens{})",
                         *conv.window, needed, name_of(*spec.speculative.scheme), needed, slots ? " - 1" : ""))
      .note(spec.speculative.tokens.place, "speculative.tokens is set here");
}

void check_spec_tensors(const Spec& spec, Diagnostics& diagnostics) {
  if (!known(spec.speculative.given)) return;
  if (*spec.speculative.given && !known(spec.speculative.scheme)) return;
  const core::Rollback scheme = *spec.speculative.given ? *spec.speculative.scheme : core::Rollback::kNone;
  for (const TensorKey& key : tensor_keys()) {
    if (key.scheme == core::Rollback::kNone) continue;
    const Tensor* tensor = find_tensor(spec.pools, key.name);
    if (tensor && key.scheme != scheme) {
      diagnostics
          .error(tensor->name.place, id(RuleId::kSpecTensors),
                 fmt::format("pools.{} is used only where speculative.scheme is {}: remove it", key.name,
                             name_of(key.scheme)))
          .note(spec.speculative.given.place,
                scheme == core::Rollback::kNone ? "speculative is none here" : "speculative is set here");
    }
    const Tensor* state = find_tensor(spec.pools, "state");
    const bool states = tensor && state && key.holds == Holds::kState && known(tensor->dtype) && known(state->dtype);
    const bool rounds_late = states && (core::size_of(*state->dtype) == 1 || *spec.rounding.state_stochastic);
    if (rounds_late && *tensor->dtype != core::DType::kFp32) {
      diagnostics
          .error(tensor->dtype.place, id(RuleId::kSpecTensors),
                 fmt::format("pools.{} is {} and pools.state {}{}: make it fp32, the committed state is rounded once",
                             key.name, core::to_string(*tensor->dtype), core::to_string(*state->dtype),
                             core::size_of(*state->dtype) == 1 ? " with scales" : ", rounded by chance"))
          .note(state->dtype.place, "pools.state has its dtype here");
    } else if (states && !rounds_late && *tensor->dtype != *state->dtype) {
      diagnostics
          .error(tensor->dtype.place, id(RuleId::kSpecTensors),
                 fmt::format("pools.{} is {} and pools.state {}: give it the state's dtype, or a committed state is "
                             "another one",
                             key.name, core::to_string(*tensor->dtype), core::to_string(*state->dtype)))
          .note(state->dtype.place, "pools.state has its dtype here");
    }
    if (!tensor && key.scheme == scheme && spec.sections.pools.line != 0) {
      diagnostics
          .error(spec.sections.pools, id(RuleId::kSpecTensors),
                 fmt::format("pools.{} is missing: write its dtype and dims", key.name))
          .note(spec.speculative.scheme.place, "speculative.scheme is set here");
    }
  }
}

}  // namespace gdn::spec
