// Layouts that no shape check can tell apart have different identities, and equal layouts equal ones.
#include <set>

#include "layout/resolve.h"
#include "plan/operation.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/refused.h"
#include "support/specs.h"

using namespace gdn;

namespace {

const std::string kNext = std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml";

core::Identity of(const spec::Spec& spec, const std::string& tensor) {
  const layout::Layout layout = layout::resolve(spec);
  return layout::identity(layout, layout.tensor(tensor));
}

}  // namespace

TEST_CASE("interleaved and flat projections of one shape differ in identity only") {
  const layout::Layout next = layout::resolve(test::released("qwen3_next_80b"));
  const layout::Layout flat = layout::resolve(test::released("qwen3_5_35b_a3b"));
  const layout::TensorLayout& a = next.tensor("qkvz");
  const layout::TensorLayout& b = flat.tensor("qkvz");
  CHECK(a.inner == b.inner);
  CHECK(a.dtype == b.dtype);
  CHECK(layout::identity(next, a) != layout::identity(flat, b));
}

TEST_CASE("each silent change of a spec changes the identity of the tensor it concerns") {
  struct Case {
    const char *from, *to, *tensor;
  };
  const Case cases[] = {
      {"pairing: grouped", "pairing: tiled", "qkvz"},
      {"pairing: grouped", "pairing: tiled", "state"},
      {"[slot@launch, value_head, value_dim, key_dim]", "[slot@launch, value_head, key_dim, value_dim]", "state"},
      {"{b: [group], a: [group]}", "{a: [group], b: [group]}", "ba"},
      {"taps: oldest_first", "taps: newest_first", "conv_weight"},
      {"anchor: first", "anchor: last", "conv_state"},
      {"a_log: log ", "a_log: negative_exp ", "a_log"},
      {"weight: w ", "weight: 1+w ", "norm_weight"},
      {"handover: ln", "handover: exp", "handover.g"},
  };
  const spec::Spec base = test::load_spec(kNext);
  for (const Case& c : cases) {
    INFO(c.from << " -> " << c.to);
    CHECK(of(base, c.tensor) != of(test::variant(kNext, c.from, c.to), c.tensor));
    CHECK(of(base, c.tensor) == of(base, c.tensor));
  }
}

TEST_CASE("numbers that no operand shows are in the kernel's identity") {
  struct Case {
    const char *from, *to;
  };
  const Case cases[] = {{"gate: silu", "gate: sigmoid"},
                        {"factor: 1", "factor: 2"},
                        {"eps: 1e-6               # [P] rms", "eps: 1e-5               # [P] rms"},
                        {"order: norm_then_gate", "order: gate_then_norm"},
                        {"threshold: 20", "threshold: none"},
                        {"eps_at: sum", "eps_at: mean"}};
  const auto kernel = [](const spec::Spec& spec) {
    return plan::make(layout::resolve(spec), "decode", *plan::find_target("sm_90a")).kernel.identity;
  };
  const core::Identity base = kernel(test::load_spec(kNext));
  for (const Case& c : cases) {
    INFO(c.from << " -> " << c.to);
    CHECK(base != kernel(test::variant(kNext, c.from, c.to)));
  }
}

TEST_CASE("what a kda kernel computes is in its identity, what the checkpoint made its operands with is not") {
  const std::string ling = std::string(GDN_SOURCE_DIR) + "/specs/ling_3_0_tiny.yaml";
  const auto kernel = [](const spec::Spec& spec, const char* operation = "decode") {
    return plan::make(layout::resolve(spec), operation, *plan::find_target("sm_90a")).kernel.identity;
  };
  const spec::Spec base = test::load_spec(ling);
  CHECK(kernel(base).text.find("decode rule=kda ") == 0);
  CHECK(kernel(base) != kernel(test::variant(ling, "bound: -5 ", "bound: -4 ")));
  CHECK(kernel(base) != kernel(test::variant(ling, "a_log: log ", "a_log: negative_exp ")));
  CHECK(kernel(base) != kernel(test::variant(ling, "a_log: log ", "a_log: log_padded\n  a_log_entries: 128 ")));
  // delta_update sees no a_log.
  CHECK(kernel(base, "delta_update") != kernel(test::variant(ling, "handover: ln", "handover: log2"), "delta_update"));
  CHECK(kernel(base) == kernel(test::variant(ling, "bound_key: kda_lower_bound", "bound_key: lower_bound")));
  CHECK(kernel(base) == kernel(test::variant(ling, "z: single ", "z: low_rank\n  z_rank: 128 ")));
  CHECK(kernel(base) == kernel(test::variant(ling, "a: single ", "a: low_rank\n  a_rank: 128 ")));
}

TEST_CASE("raw and convolved q between the parts have one storage and two identities") {
  const layout::Layout layout = layout::resolve(test::released("qwen3_next_80b"));
  const auto operand = [&](const char* operation) {
    for (const core::Operand& candidate : plan::make(layout, operation, *plan::find_target("sm_90a")).kernel.operands) {
      if (candidate.name == "handover.q") return candidate.layout;
    }
    return core::Identity{};
  };
  CHECK(operand("unpack") != operand("delta_update"));
  CHECK(operand("conv_update") == operand("delta_update"));
}

TEST_CASE("with one value head per key head grouped and tiled are one layout") {
  const std::string olmo = std::string(GDN_SOURCE_DIR) + "/specs/olmo_hybrid_7b.yaml";
  CHECK(of(test::load_spec(olmo), "state") == of(test::variant(olmo, "pairing: grouped", "pairing: tiled"), "state"));
}

TEST_CASE("tensors of one shape that hold different parts differ in identity") {
  for (const std::string& file : test::all_specs()) {
    const layout::Layout layout = layout::resolve(test::load_spec(file));
    for (const std::string_view operation : plan::operations_of(layout)) {
      INFO(file << " " << operation);
      if (!test::refusal(layout, operation, *plan::find_target("sm_90a")).empty()) continue;
      std::set<std::pair<core::Access, std::uint64_t>> identities;  // unpack copies z: the same part twice
      const auto operands = plan::make(layout, operation, *plan::find_target("sm_90a")).kernel.operands;
      for (const core::Operand& operand : operands) identities.emplace(operand.access, operand.layout.id);
      CHECK(identities.size() == operands.size());
    }
  }
}

TEST_CASE("identities are stable: a stored pool of an earlier version stays readable") {
  CHECK(core::id_text(core::make_identity("").id) == "cbf29ce484222325");
  CHECK(core::id_text(core::make_identity("a").id) == "af63dc4c8601ec8c");
  const core::Identity state = of(test::released("qwen3_next_80b"), "state");
  CHECK(state.text == "fp32 state:[slot@launch, value_head:32, value_dim:128, key_dim:128] pairing=grouped");
}
