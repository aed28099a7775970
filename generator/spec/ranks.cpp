#include "spec/ranks.h"

#include <fmt/format.h>

#include "spec/rules.h"

namespace gdn::spec {
namespace {

bool divides(int ranks, int heads) { return ranks >= 1 && heads % ranks == 0; }

bool whole_heads(const Spec& spec, int ranks) {
  return divides(ranks, *spec.heads.key) && divides(ranks, *spec.heads.value);
}

int channels_of_rank(const Spec& spec, int ranks) { return *spec.heads.value / ranks * *spec.dims.value; }

// Whether each group of a quantised output lies in one rank.
bool whole_groups(const Spec& spec, int ranks) {
  const int group = *spec.output_quant.given ? *spec.output_quant.group : 1;
  return ranks == 1 || group < 1 || channels_of_rank(spec, ranks) % group == 0;
}

}  // namespace

std::vector<int> legal_ranks(const Spec& spec) {
  std::vector<int> ranks;
  for (int n = 1; n <= *spec.heads.key; ++n) {
    if (whole_heads(spec, n) && whole_groups(spec, n)) ranks.push_back(n);
  }
  return ranks;
}

std::string why_not_ranks(const Spec& spec, int ranks) {
  std::string why;
  if (!whole_heads(spec, ranks)) {
    why = fmt::format("{} ranks can't share heads.key = {} and heads.value = {}", ranks, *spec.heads.key,
                      *spec.heads.value);
  } else if (!whole_groups(spec, ranks)) {
    why = fmt::format(
        "its output is quantised in groups of {} channels, which do not divide the {} channels that one of "
        "{} ranks has",
        *spec.output_quant.group, channels_of_rank(spec, ranks), ranks);
  } else {
    return "";
  }
  return fmt::format("{}: --tp can be {}", why, fmt::join(legal_ranks(spec), ", "));
}

void check_ranks(const Spec& spec, int ranks, Diagnostics& diagnostics) {
  std::string why = why_not_ranks(spec, ranks);
  if (why.empty()) return;
  if (whole_heads(spec, ranks)) {
    diagnostics.error(spec.output_quant.group.place, id(RuleId::kHeadsRanks), std::move(why));
    return;
  }
  const bool key = !divides(ranks, *spec.heads.key);
  diagnostics.error((key ? spec.heads.key : spec.heads.value).place, id(RuleId::kHeadsRanks), std::move(why))
      .note((key ? spec.heads.value : spec.heads.key).place, key ? "heads.value is set here" : "heads.key is set here");
}

}  // namespace gdn::spec
