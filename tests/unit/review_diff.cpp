// What a change of a spec is told to mean: each accident that the field had would have been seen in a pull request.
#include "review/diff.h"

#include <algorithm>
#include <filesystem>

#include "layout/resolve.h"
#include "layout/shard.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;
using review::Difference;

namespace {

Difference between(const spec::Spec& before, const spec::Spec& after) {
  const layout::Layout a = layout::resolve(before), b = layout::resolve(after);
  return review::compare({before, a}, {after, b});
}

std::string path(const std::string& name) {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/specs/" + name + ".yaml";
  return std::filesystem::exists(file) ? file : std::string(GDN_SOURCE_DIR) + "/specs/more/" + name + ".yaml";
}

// "SILENT heads.pairing (number); visible ..." of all changes, in order.
std::string said(const Difference& difference) {
  std::string text;
  for (const review::Change& change : difference.changes) {
    text += (text.empty() ? "" : "; ") + std::string(change.silent ? "SILENT " : "visible ") + change.what + " (" +
            change.how + ")";
  }
  return text;
}

const review::PoolVerdict& pool(const Difference& difference, const std::string& name) {
  const auto found = std::find_if(difference.pools.begin(), difference.pools.end(),
                                  [&](const review::PoolVerdict& verdict) { return verdict.name == name; });
  REQUIRE(found != difference.pools.end());
  return *found;
}

}  // namespace

TEST_CASE("a spec does not differ from itself") {
  for (const std::string& file : test::all_specs()) {
    INFO(file);
    const spec::Spec spec = test::load_spec(file);
    const Difference difference = between(spec, spec);
    CHECK(said(difference) == "");
    CHECK(difference.rebuild.empty());
    for (const review::PoolVerdict& verdict : difference.pools) CHECK(verdict.readable);
    CHECK(review::to_text(difference).find("no difference in meaning") != std::string::npos);
  }
}

TEST_CASE("wording is no difference: shorthands, head dimensions written apart, the title, pairing of single heads") {
  const std::string next = path("qwen3_next_80b");
  const spec::Spec base = test::load_spec(next);
  struct Case {
    const char *file, *from, *to;
  };
  const Case cases[] = {
      {"qwen3_next_80b", "[token@launch, key_head, {b: [group], a: [group]}]", "interleaved"},
      {"qwen3_next_80b", "[slot@launch, tap, channel]", "SD"},
      {"qwen3_next_80b", "a_log: {dtype: fp32, dims: [value_head]}", "a_log: {dtype: fp32, dims: [key_head, group]}"},
      {"qwen3_next_80b", "model: Qwen3-Next-80B-A3B", "model: Qwen3-Next"},
      {"qwen3_next_80b", "qk_scale: {q: key_dim^-0.5", "qk_scale: {q: 0.08838834764831845"},
      {"olmo_hybrid_7b", "pairing: grouped", "pairing: tiled"},
      {"qwen3_5_0_8b",
       "base: 0                 # [P] as the checkpoint's tensors are named: model.layers.0 is the first\n"
       "  list: [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22]",
       "base: 1\n  list: [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23]"},
  };
  for (const Case& c : cases) {
    INFO(c.from);
    CHECK(said(between(test::load_spec(path(c.file)), test::variant(path(c.file), c.from, c.to))) == "");
  }
}

TEST_CASE("interleaved read as flat: the fused decode kernel on another model's rows") {
  const spec::Spec next = test::released("qwen3_next_80b");
  const spec::Spec flat = test::variant(path("qwen3_next_80b"),
                                        "[token@launch, key_head, {q: [key_dim], k: [key_dim], v: [group, value_dim], "
                                        "z: [group, value_dim]}]",
                                        "flat");
  const Difference difference = between(next, flat);
  CHECK(said(difference) == "SILENT inputs.qkvz (moved)");
  // q of key head 0, k of key head 3, z of value heads 30 and 31.
  CHECK(difference.changes[0].note ==
        "both are bf16 [token, 12288]; 512 of 12288 elements keep their place; the first that moves: q of head 1 from "
        "768 to 128");
  CHECK(difference.rebuild == std::vector<std::string>{"decode", "unpack", "conv_update"});
  CHECK(pool(difference, "state").readable);
  CHECK(pool(difference, "conv_state").readable);
}

TEST_CASE("every accident that no shape check sees is silent, and only what moved is named") {
  struct Case {
    const char *file, *from, *to, *what;
  };
  const Case cases[] = {
      // (V, K) read as (K, V)
      {"qwen3_next_80b", "[slot@launch, value_head, value_dim, key_dim]",
       "[slot@launch, value_head, key_dim, value_dim]", "SILENT pools.state (moved)"},
      {"qwen3_next_80b", "{b: [group], a: [group]}", "{a: [group], b: [group]}", "SILENT inputs.ba (moved)"},
      {"qwen3_next_80b", "taps: oldest_first", "taps: newest_first", "SILENT conv.taps (number)"},
      {"qwen3_next_80b", "activation: silu", "activation: none", "SILENT conv.activation (number)"},
      {"qwen3_next_80b", "anchor: first", "anchor: last", "SILENT conv.anchor (number)"},
      {"qwen3_next_80b", "a_log: log ", "a_log: negative_exp ", "SILENT decay.a_log (number)"},
      {"qwen3_next_80b", "handover: ln", "handover: log2", "SILENT decay.handover (number)"},
      {"qwen3_next_80b", "threshold: 20", "threshold: none", "SILENT decay.threshold (number)"},
      {"qwen3_next_80b", "factor: 1", "factor: 2", "SILENT beta.factor (number)"},
      {"qwen3_next_80b", "weight: w ", "weight: 1+w ", "SILENT out_norm.weight (number)"},
      {"qwen3_next_80b", "gate: silu", "gate: sigmoid", "SILENT out_norm.gate (number)"},
      {"qwen3_next_80b", "order: norm_then_gate", "order: gate_then_norm", "SILENT out_norm.order (number)"},
      {"qwen3_next_80b", "eps_at: sum", "eps_at: max", "SILENT qk_norm.eps_at (number)"},
      {"qwen3_next_80b", "qk_scale: {q: key_dim^-0.5", "qk_scale: {q: key_dim^-0.25", "SILENT qk_scale.q (number)"},
      {"qwen3_next_80b", "qk: fp32", "qk: bf16", "SILENT rounding.qk (number)"},
      {"qwen3_next_80b", "norm: fp32  ", "norm: bf16  ", "SILENT rounding.norm (number)"},
      {"qwen3_next_80b", "padding: negative,", "padding: zero_or_negative,", "SILENT slots.padding (number)"},
      {"qwen3_next_80b", "conv_weight: {dtype: bf16, dims: [channel, tap]}",
       "conv_weight: {dtype: bf16, dims: [{q: [key_head, key_dim], v: [value_head, value_dim], k: [key_head, "
       "key_dim]}, "
       "tap]}",
       "SILENT parameters.conv_weight (moved)"},
      // A list that counts from 1 taken for one that counts from 0.
      {"qwen3_5_0_8b", "list: [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22]",
       "list: [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23]", "SILENT layers.list (number)"},
      {"qwen3_5_0_8b", "unquantised: [b, a]", "unquantised: [b]", "SILENT projections.unquantised (number)"},
      // The order of the operands is the order of the inputs: b and a have one shape.
      {"olmo_hybrid_7b",
       "  b: {dtype: bf16, dims: [token@launch, value_head]}                # b_proj\n"
       "  a: {dtype: bf16, dims: [token@launch, value_head]}                # a_proj\n",
       "  a: {dtype: bf16, dims: [token@launch, value_head]}\n  b: {dtype: bf16, dims: [token@launch, value_head]}\n",
       "SILENT inputs (order)"},
  };
  for (const Case& c : cases) {
    INFO(c.from << " -> " << c.to);
    const Difference difference = between(test::load_spec(path(c.file)), test::variant(path(c.file), c.from, c.to));
    CHECK(said(difference) == c.what);
    CHECK(difference.silent() == 1);
    // Which layers are of this kind, and what is left in 16 bits, no kernel knows.
    const std::string key = difference.changes.front().what;
    CHECK(difference.rebuild.empty() == (key == "layers.list" || key == "projections.unquantised"));
  }
}

TEST_CASE("tiled heads move value heads everywhere, and every pool of them") {
  const Difference difference = between(test::released("qwen3_next_80b"),
                                        test::variant(path("qwen3_next_80b"), "pairing: grouped", "pairing: tiled"));
  CHECK(said(difference).find("SILENT heads.pairing (number); SILENT inputs.qkvz (moved)") == 0);
  CHECK_FALSE(pool(difference, "state").readable);
}

TEST_CASE("what a check of shapes and dtypes sees is not silent") {
  struct Case {
    const char *file, *from, *to, *what;
  };
  const Case cases[] = {
      // K is not V
      {"olmo_hybrid_7b", "[slot@launch, value_head, key_dim, value_dim]",
       "[slot@launch, value_head, value_dim, key_dim]", "visible pools.state (shape)"},
      {"qwen3_next_80b", "[slot@launch, tap, channel]", "[slot@launch, channel, tap]",
       "visible pools.conv_state (shape)"},
      {"qwen3_next_80b", "a_log: {dtype: fp32", "a_log: {dtype: bf16", "visible parameters.a_log (dtype)"},
      {"qwen3_next_80b", "window: 3 ", "window: 5 ", "visible conv.window (number); visible pools.conv_state (shape)"},
      {"qwen3_next_80b", "slots: {dtype: int32", "slots: {dtype: int64", "visible slots.dtype (number)"},
      {"qwen3_5_0_8b", "count: 24 ", "count: 28 ", "visible layers.count (number)"},
      {"qwen3_5_35b_a3b", "  ba: {dtype: bf16, dims: flat} ",
       "  b: {dtype: bf16, dims: [token@launch, value_head]}\n  a: {dtype: bf16, dims: [token@launch, value_head]}\n#",
       "visible inputs.ba (removed); visible inputs.b (added); visible inputs.a (added)"},
      {"qwen3_5_35b_a3b", "  ba: {dtype: bf16, dims: flat} ",
       "  ab: {dtype: bf16, dims: [token@launch, {b: [value_head], a: [value_head]}]}\n#",
       "visible inputs.ba (renamed)"},
  };
  for (const Case& c : cases) {
    INFO(c.from << " -> " << c.to);
    const Difference difference = between(test::load_spec(path(c.file)), test::variant(path(c.file), c.from, c.to));
    CHECK(said(difference) == c.what);
    CHECK(difference.silent() == 0);
  }
}

TEST_CASE("silent and visible changes together: the silent ones stand first") {
  const Difference difference = between(test::released("qwen3_5_35b_a3b"), test::released("qwen3_5_27b"));
  REQUIRE(difference.changes.size() > 2);
  CHECK(difference.changes.front().silent);
  CHECK_FALSE(difference.changes.back().silent);
  CHECK(said(difference).find("SILENT slots.padding (number)") != std::string::npos);
  CHECK(said(difference).find("visible heads.value (number)") != std::string::npos);
  const std::string text = review::to_text(difference);
  CHECK(text.find("qwen3_5_35b_a3b -> qwen3_5_27b: 2 silent changes, ") == 0);
}

TEST_CASE("a rank's layout differs from the whole in shapes only") {
  const spec::Spec whole = test::released("qwen3_5_27b");
  const Difference difference = between(whole, layout::shard(whole, 2));
  CHECK(difference.any());
  CHECK(difference.silent() == 0);
}

TEST_CASE("the table for a pull request") {
  const Difference difference =
      between(test::released("qwen3_next_80b"),
              test::variant(path("qwen3_next_80b"), "[slot@launch, value_head, value_dim, key_dim]",
                            "[slot@launch, value_head, key_dim, value_dim]"));
  const std::string text = review::to_markdown(difference);
  CHECK(text.find("### qwen3_next_80b: 1 silent change, 0 visible changes\n") == 0);
  CHECK(text.find("| **silent** | `pools.state` (moved) | `fp32 [slot@launch, value_head:32, value_dim:128, "
                  "key_dim:128]` | `fp32 [slot@launch, value_head:32, key_dim:128, value_dim:128]` | both are fp32 "
                  "[slot, 32, 128, 128]; 4096 of 524288 elements keep their place;") != std::string::npos);
  CHECK(text.find("- pool `state`: **not readable**: it was written as fp32 state:[slot@launch, value_head:32") !=
        std::string::npos);
  CHECK(text.find("- pool `conv_state`: stays readable") != std::string::npos);
  CHECK(text.find("- kernels to rebuild: decode, delta_update") != std::string::npos);
}
