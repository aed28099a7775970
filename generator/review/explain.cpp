#include "review/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "core/facts.h"
#include "layout/map.h"
#include "plan/operation.h"

namespace gdn::review {
namespace {

using layout::PartLayout;
using layout::TensorLayout;

constexpr std::size_t kShown = 9;  // blocks of a strip before the dots
constexpr std::size_t kEnd = 3;    // and after them

struct Run {
  std::int64_t size, stride;
};

// Whether axes of these sizes and strides fill one run of memory.
bool dense(std::vector<Run> runs) {
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.stride < b.stride; });
  std::int64_t filled = 1;
  for (const Run& run : runs) {
    if (run.size == 1) continue;
    if (run.stride != filled) return false;
    filled *= run.size;
  }
  return true;
}

void add_part(const core::Facts& numbers, const TensorLayout& tensor, const PartLayout& part,
              std::vector<Block>& blocks) {
  const core::Map map = layout::map_of(numbers, tensor, part, 0);
  const bool headless = map.heads == core::HeadKind::kNone;
  const int heads = headless ? 1 : map.heads == core::HeadKind::kKey ? numbers.key_heads : numbers.value_heads;
  std::vector<Run> within;
  Run taps{1, 0};
  for (const layout::Axis& axis : part.axes) {
    if (axis.name == "tap" || axis.name == "step") taps = {axis.size, axis.stride};
    // Scales group by group have a stride that only the launch knows: drawn is one token's.
    if (axis.name == "scale_group") within.push_back({axis.size, 1});
    if (axis.name == "key_dim" || axis.name == "value_dim") within.push_back({axis.size, axis.stride});
  }
  std::vector<Run> with_taps = within;
  with_taps.push_back(taps);
  std::int64_t channels = 1;
  for (const Run& run : within) channels *= run.size;
  for (int head = 0; head < heads; ++head) {
    Block block;
    block.part = part.name;
    block.value_heads = map.heads == core::HeadKind::kValue;
    if (!headless) block.first_head = block.last_head = head;
    const std::int64_t base = layout::base(numbers, map, head);
    if (dense(with_taps)) {
      block.start = base;
      block.length = channels * taps.size;
      blocks.push_back(block);
      continue;
    }
    for (int tap = 0; tap < taps.size; ++tap) {
      if (taps.size > 1) block.tap = tap;
      const std::int64_t row = base + tap * taps.stride;
      if (dense(within)) {
        block.start = row;
        block.length = channels;
        blocks.push_back(block);
        continue;
      }
      // Channels lie apart: a block for each, or for each run along a dimension whose neighbours touch.
      std::vector<std::int64_t> starts = {row};
      block.length = 1;
      for (const Run& run : within) {
        if (run.stride == 1) {
          block.length = run.size;
          continue;
        }
        std::vector<std::int64_t> next;
        for (const std::int64_t start : starts) {
          for (std::int64_t i = 0; i < run.size; ++i) next.push_back(start + i * run.stride);
        }
        starts = std::move(next);
      }
      for (const std::int64_t start : starts) {
        block.start = start;
        blocks.push_back(block);
      }
    }
  }
}

std::string heads_text(const Block& block) {
  if (block.first_head < 0) return "";
  if (block.first_head == block.last_head) return fmt::format("{}", block.first_head);
  return fmt::format("{}-{}", block.first_head, block.last_head);
}

std::string strip(const std::vector<Block>& blocks, std::int64_t inner) {
  std::string text;
  const auto add = [&](const Block& block) {
    const std::string tap = block.tap < 0 ? "" : fmt::format(" tap {}", block.tap);
    const std::string gap = block.part.size() > 1 && block.first_head >= 0 ? " " : "";
    text += fmt::format("|{} {}{}{}{} ", block.start, block.part, gap, heads_text(block), tap);
  };
  const bool all = blocks.size() <= kShown + kEnd;
  for (std::size_t i = 0; i < (all ? blocks.size() : kShown); ++i) add(blocks[i]);
  if (!all) {
    text += "... ";
    for (std::size_t i = blocks.size() - kEnd; i < blocks.size(); ++i) add(blocks[i]);
  }
  return text + fmt::format("|{}", inner);
}

std::string leading_text(const TensorLayout& tensor) {
  if (tensor.leading == core::Leading::kNone) return "";
  if (tensor.leading == core::Leading::kScaleGroup) {
    return " a token; a group's stride is given at launch, at least the tokens of the buffer";
  }
  const std::string_view name = core::to_string(tensor.leading);
  return tensor.launch_stride ? fmt::format("; a {}'s stride is given at launch, at least {}", name, tensor.inner)
                              : fmt::format("; {}s are {} elements apart", name, tensor.inner);
}

std::string tensor_text(const layout::Layout& layout, const std::string& path, const TensorLayout& tensor) {
  std::string text = fmt::format("{}: {} {}\n", path, core::to_string(tensor.dtype), tensor.list);
  text += fmt::format("  {} elements, {} bytes{}\n", tensor.inner,
                      tensor.inner * static_cast<std::int64_t>(core::size_of(tensor.dtype)), leading_text(tensor));
  if (!tensor.domain.empty()) text += fmt::format("  values: {}\n", tensor.domain);
  std::vector<Block> blocks = blocks_of(layout, tensor, true);
  const std::int64_t end = blocks.empty() ? 0 : blocks.back().start + blocks.back().length;
  if (end < tensor.inner) {  // a padded a_log
    Block zeros;
    zeros.part = "zeros";
    zeros.start = end;
    zeros.length = tensor.inner - end;
    blocks.push_back(zeros);
  }
  text += "  " + strip(blocks, tensor.inner) + "\n";
  for (const PartLayout& part : tensor.parts) {
    std::string terms = part.offset == 0 ? "" : fmt::format("{}", part.offset);
    for (const layout::Axis& axis : part.axes) {
      terms += fmt::format("{}{}", terms.empty() ? "" : " + ",
                           axis.stride == 1 ? axis.name : fmt::format("{} * {}", axis.name, axis.stride));
    }
    text += fmt::format("  {} at {}\n", part.name, terms.empty() ? "0" : terms);
  }
  return text;
}

}  // namespace

std::vector<Block> blocks_of(const layout::Layout& layout, const TensorLayout& tensor, bool merge) {
  std::vector<Block> blocks;
  for (const PartLayout& part : tensor.parts) add_part(layout.numbers, tensor, part, blocks);
  std::stable_sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) { return a.start < b.start; });
  if (!merge) return blocks;
  std::vector<Block> merged;
  for (const Block& block : blocks) {
    if (!merged.empty()) {
      Block& last = merged.back();
      if (last.part == block.part && last.tap == block.tap && last.start + last.length == block.start &&
          (last.last_head == block.first_head || last.last_head + 1 == block.first_head)) {
        last.last_head = block.last_head;
        last.length += block.length;
        continue;
      }
    }
    merged.push_back(block);
  }
  return merged;
}

std::string explain_text(const Side& side, const std::string& wanted) {
  const core::Facts& n = side.layout.numbers;
  std::string text, known;
  if (wanted.empty()) {
    text = fmt::format("{}: {} key heads of {}, {} value heads of {}", side.layout.spec, n.key_heads, n.key_dim,
                       n.value_heads, n.value_dim);
    if (side.layout.pairing_visible) {
      text += n.pairing == core::Pairing::kGrouped ? fmt::format("; value head h reads key head h / {}", n.group)
                                                   : fmt::format("; value head h reads key head h % {}", n.key_heads);
    }
    text += "\nOffsets and strides are in elements. |OFFSET PART HEADS: what starts there.\n\n";
  }
  bool found = false;
  for (const Section& section : sections_of(side)) {
    for (const TensorPair& tensor : section.tensors) {
      const std::string path = section.name + "." + *tensor.written->name;
      known += " " + path;
      if (!wanted.empty() && wanted != path && wanted != tensor.resolved->name) continue;
      found = true;
      text += tensor_text(side.layout, path, *tensor.resolved) + (wanted.empty() ? "\n" : "");
    }
  }
  if (!found) throw std::out_of_range(fmt::format("{} has no tensor {}: it has{}", side.layout.spec, wanted, known));
  if (wanted.empty()) {
    text += "one token, per value head:\n";
    int number = 0;
    for (const std::string& line : formulas_of(side)) text += fmt::format("  {}. {}\n", ++number, line);
  }
  return text;
}

// g, of a value head or, for kda, of each of its key channels c. Without an a_log, exp(a_log) is 1.
std::string decay_formula(const core::Facts& n) {
  const bool kda = n.rule == core::Rule::kKda;
  const std::string x = kda ? "a[c] + dt_bias[c]" : "a + dt_bias";
  const std::string g = kda ? "g[c]" : "g";
  if (n.decay_form == core::DecayForm::kBounded) {
    const std::string inside = n.a_stored == core::AStored::kAbsent ? x
                               : n.a_stored == core::AStored::kLog  ? fmt::format("exp(a_log) * ({})", x)
                                                                    : fmt::format("-a_log * ({})", x);
    return fmt::format("{} = {} * sigmoid({})", g, n.decay_bound, inside);
  }
  const std::string rate = n.a_stored == core::AStored::kAbsent ? "-"
                           : n.a_stored == core::AStored::kLog  ? "-exp(a_log) * "
                                                                : "a_log * ";
  return fmt::format("{} = {}softplus({}){}", g, rate, x,
                     n.softplus_threshold == 0 ? "" : fmt::format(", softplus(x) = x above {}", n.softplus_threshold));
}

std::vector<std::string> formulas_of(const Side& side) {
  const core::Facts& n = side.layout.numbers;
  const auto rounded = [](core::DType dtype) {
    return dtype == core::DType::kFp32 ? std::string() : fmt::format(", rounded to {}", core::to_string(dtype));
  };
  const auto activation = [](core::Activation a, const std::string& x) {
    return a == core::Activation::kSilu      ? fmt::format("silu({})", x)
           : a == core::Activation::kSigmoid ? fmt::format("sigmoid({})", x)
                                             : x;
  };
  std::vector<std::string> lines;
  std::string tensors;
  for (const TensorLayout& tensor : side.layout.inputs) tensors += (tensors.empty() ? "" : ", ") + tensor.name;
  const bool normed = plan::has_norm(side.layout);
  lines.push_back(fmt::format("unpack q, k, v, {}b, a from {}", normed ? "z, " : "", tensors));
  const std::string sum =
      fmt::format("sum over m = 0..{} of w[{}] * u(t-m){}", n.conv_width - 1,
                  n.taps_oldest_first ? fmt::format("{}-m", n.conv_width - 1) : "m", n.conv_bias ? " + bias" : "");
  lines.push_back(fmt::format("q, k, v: {}{}", activation(n.conv_activation, sum), rounded(n.round_conv)));
  lines.push_back(fmt::format("the window of {} inputs moves by one; its {} {} count", n.window,
                              n.anchor == core::Anchor::kFirst ? "first" : "last", n.conv_width - 1));
  std::string norm = "x";
  if (n.qk_norm) {
    norm = n.qk_eps_at == core::EpsAt::kSum    ? fmt::format("x / sqrt(sum(x^2) + {})", n.qk_eps)
           : n.qk_eps_at == core::EpsAt::kMean ? fmt::format("x / sqrt(mean(x^2) + {}) / sqrt(K)", n.qk_eps)
                                               : fmt::format("x / max(sqrt(sum(x^2)), {})", n.qk_eps);
  }
  const auto scaled = [&](double scale) { return scale == 1 ? norm : fmt::format("{:.6g} * {}", scale, norm); };
  lines.push_back(fmt::format("q = {}, k = {}, per head{}", scaled(n.q_scale), scaled(n.k_scale), rounded(n.round_qk)));
  lines.push_back(decay_formula(n));
  lines.push_back(fmt::format("beta = {}sigmoid(b){}", n.beta_factor == 1 ? "" : fmt::format("{} * ", n.beta_factor),
                              rounded(n.round_beta)));
  lines.push_back(n.rule == core::Rule::kKda ? "S = diag(exp(g)) * S: each key channel, a row of S, decays by itself"
                                             : "S = exp(g) * S");
  lines.push_back("u = beta * (v - S^T k); S = S + k u^T; o = S^T q" + rounded(n.round_o));
  if (!normed) {
    lines.push_back("out = o; whoever takes it norms and gates it with z, which nothing here reads");
    return lines;
  }
  const std::string weight = n.norm_weight == core::NormWeight::kW          ? "w"
                             : n.norm_weight == core::NormWeight::kOnePlusW ? "(1 + w)"
                                                                            : "2 * (1 + w)";
  const std::string gate = activation(n.norm_gate, "z");
  lines.push_back(
      n.norm_before_gate
          ? fmt::format("out = o / sqrt(mean(o^2) + {}){} * {} * {}", n.norm_eps,
                        n.round_norm == core::DType::kFp32 ? "" : " (" + rounded(n.round_norm).substr(2) + ")", weight,
                        gate)
          : fmt::format("x = o * {}; out = x / sqrt(mean(x^2) + {}){} * {}", gate, n.norm_eps,
                        n.round_norm == core::DType::kFp32 ? "" : " (" + rounded(n.round_norm).substr(2) + ")",
                        weight));
  return lines;
}

}  // namespace gdn::review
