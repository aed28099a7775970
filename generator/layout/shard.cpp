#include "layout/shard.h"

#include <fmt/format.h>

namespace gdn::layout {
namespace {

bool has_heads(const PartLayout& part) {
  for (const Axis& axis : part.axes) {
    for (const char* name : {"key_head", "value_head", "group", "scale_group"}) {
      if (axis.name == name) return true;
    }
  }
  return false;
}

// "key heads 4r to 4r+3", or "key head r" where a rank has one.
std::string range(std::string_view what, int each) {
  if (each == 1) return fmt::format("{} r", what);
  return fmt::format("{}s {}r to {}r+{}", what, each, each, each - 1);
}

// Where a rank finds its heads in the rows of a tensor that every rank has whole: the runs begin at its first head, and
// tiled value heads written value_head are one run for each number in the group.
std::string replicated_text(const core::Facts& numbers, const TensorLayout& tensor, int ranks) {
  const PartLayout& part = tensor.parts.front();
  const bool tiled = numbers.pairing == core::Pairing::kTiled && numbers.group > 1 && !part.axes.empty() &&
                     part.axes.front().name == "value_head";
  const std::int64_t runs = tiled ? numbers.group : 1;
  const std::int64_t run = tensor.inner / ranks / runs;
  std::string where = fmt::format("{0}r to {0}r+{1}", run, run - 1);
  if (tiled) where = fmt::format("g*{} + {} for g = 0 to {}", tensor.inner / runs, where, runs - 1);
  return fmt::format("  {}: every rank has all {} elements of a row and reads elements {}; the row stride stays {}\n",
                     tensor.name, tensor.inner, where, "the whole row's, given at launch");
}

}  // namespace

spec::Spec shard(const spec::Spec& spec, int ranks) {
  if (const std::string why = spec::why_not_ranks(spec, ranks); !why.empty()) {
    throw Unshardable(fmt::format("{}: {}", *spec.name, why));
  }
  spec::Spec rank = spec;
  if (ranks == 1) return rank;
  rank.heads.key.value /= ranks;
  rank.heads.value.value /= ranks;
  rank.name.value += fmt::format("_tp{}", ranks);
  rank.decay.a_log_padded.value = false;  // the heads' entries are cut; zeros behind them are no rank's
  return rank;
}

std::string shards_text(const Layout& whole, int ranks) {
  const core::Facts& n = whole.numbers;
  const int key_heads = n.key_heads / ranks;
  std::string text = fmt::format("rank r of {}, r = 0 to {}: {}; ", ranks, ranks - 1, range("key head", key_heads));
  if (n.pairing == core::Pairing::kGrouped || n.group == 1) {
    text += range("value head", n.value_heads / ranks) + "\n";
  } else {
    text += fmt::format("value heads g*{0} + {1}r to g*{0} + {1}r+{2} for g = 0 to {3} (tiled: not one range)\n",
                        n.key_heads, key_heads, key_heads - 1, n.group - 1);
  }
  std::string replicated;
  for (const auto* section : {&whole.inputs, &whole.parameters, &whole.pools, &whole.handover, &whole.outputs}) {
    for (const TensorLayout& tensor : *section) {
      std::string cut;
      std::int64_t used = 0;
      for (const PartLayout& part : tensor.parts) {
        if (!has_heads(part)) continue;
        std::int64_t count = 1;
        for (const Axis& axis : part.axes) count *= axis.size;
        used += count;
        cut += fmt::format("{}{} {} of {}", cut.empty() ? "" : ", ", part.name, count / ranks, count);
      }
      if (cut.empty()) {
        replicated += fmt::format("{}{}", replicated.empty() ? "" : ", ", tensor.name);
        continue;
      }
      if (tensor.replicated) {
        replicated += fmt::format("{}{}", replicated.empty() ? "" : ", ", tensor.name);
        text += replicated_text(n, tensor, ranks);
        continue;
      }
      const bool interleaved = tensor.parts.size() > 1 && !tensor.parts[0].axes.empty() &&
                               tensor.parts[0].axes[0].name == "key_head" &&
                               tensor.parts[0].axes[0].stride * tensor.parts[0].axes[0].size == tensor.inner;
      const bool padded = tensor.name == "a_log" && tensor.inner > used;
      text += fmt::format("  {}: {} elements{}\n", tensor.name, cut,
                          padded ? fmt::format("; the {} zeros behind them are no rank's", tensor.inner - used)
                          : tensor.parts.size() < 2 ? std::string()
                          : interleaved ? "; key head by key head, so a rank's row is one slice of the whole row"
                                        : "; each part cut by itself, then packed: not one slice of the whole row");
    }
  }
  return text + fmt::format("  replicated: {}slots\n", replicated.empty() ? "" : replicated + ", ");
}

}  // namespace gdn::layout
