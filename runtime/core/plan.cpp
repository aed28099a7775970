#include "core/plan.h"

#include <algorithm>

#include "core/text_fields.h"

namespace gdn::core {

std::int64_t choice_of(const Choices& choices, std::string_view name, std::int64_t missing) {
  for (const auto& [key, value] : choices) {
    if (key == name) return value;
  }
  return missing;
}

std::string_view to_string(Leading leading) { return word_of(leading, "?"); }

std::string_view to_string(Edge edge) { return to_string(only(edge)); }

std::string_view to_string(Edges edges) { return word_of(edges, "?"); }

Edges only(Edge edge) { return edge == Edge::kPlain ? Edges::kPlain : Edges::kProgrammatic; }

bool has(Edges edges, Edge edge) { return edges == Edges::kBoth || edges == only(edge); }

std::vector<const Variant*> distinct_forms(const KernelPlan& plan) {
  std::vector<const Variant*> forms;
  for (const Variant& variant : plan.variants) {
    const bool known =
        variant.symbol == plan.symbol ||
        std::any_of(forms.begin(), forms.end(), [&](const Variant* form) { return form->symbol == variant.symbol; });
    if (!known) forms.push_back(&variant);
  }
  return forms;
}

bool waits_for_previous(std::string_view operation) { return operation == "decode" || operation == "decode_spec"; }

}  // namespace gdn::core
