// Text to Spec and back: values, places, shorthands.
#include "spec/parser.h"

#include <cmath>
#include <string>

#include "spec/keys.h"
#include "spec/spec_text.h"
#include "support/catch.h"
#include "support/specs.h"

namespace gdn::spec {
namespace {

std::string dims_of(const std::vector<Tensor>& tensors, const char* name) {
  const Tensor* tensor = find_tensor(tensors, name);
  REQUIRE(tensor);
  return dims_text(tensor->dims);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// What stands in the file at a leaf's place.
template <class T>
std::string written(const Spec& spec, const Located<T>& leaf) {
  std::istringstream lines(spec.text);
  std::string line;
  for (int i = 0; i < leaf.place.line; ++i) std::getline(lines, line);
  return line.substr(static_cast<std::size_t>(leaf.place.column - 1), static_cast<std::size_t>(leaf.place.length));
}

}  // namespace

TEST_CASE("values of qwen3_next_80b") {
  const Spec spec = test::released("qwen3_next_80b");
  CHECK(*spec.version == 1);
  CHECK(*spec.name == "qwen3_next_80b");
  CHECK(*spec.heads.key == 16);
  CHECK(*spec.heads.value == 32);
  CHECK(*spec.heads.pairing == core::Pairing::kGrouped);
  CHECK(*spec.dims.key == 128);
  CHECK(*spec.conv.width == 4);
  CHECK(*spec.conv.activation == core::Activation::kSilu);
  CHECK_FALSE(*spec.conv.bias);
  CHECK(*spec.conv.taps_oldest_first);
  CHECK(*spec.conv.window == 3);
  CHECK(*spec.qk_norm.enabled);
  CHECK(*spec.qk_norm.eps == 1e-6);
  CHECK(*spec.qk_norm.eps_at == core::EpsAt::kSum);
  CHECK(*spec.qk_scale.q == Approx(1 / std::sqrt(128.0)).epsilon(1e-15));
  CHECK(*spec.qk_scale.q_text == "key_dim^-0.5");
  CHECK(*spec.qk_scale.k == 1);
  CHECK(*spec.decay.threshold == 20);
  CHECK(*spec.decay.handover == core::Domain::kLn);
  CHECK(*spec.beta.factor == 1);
  CHECK(*spec.out_norm.eps == 1e-6);
  CHECK(*spec.out_norm.weight == core::NormWeight::kW);
  CHECK(*spec.out_norm.norm_before_gate);
  CHECK(*spec.slots.dtype == core::DType::kInt32);
  CHECK(*spec.slots.padding == core::Padding::kNegative);
  CHECK(*spec.rounding.conv == core::DType::kBf16);
  CHECK(*spec.rounding.qk == core::DType::kFp32);
  CHECK(spec.inputs.size() == 2);
  CHECK(spec.handover.size() == 9);
}

TEST_CASE("every leaf knows its place") {
  const Spec spec = test::released("qwen3_next_80b");
  CHECK(written(spec, spec.name) == "qwen3_next_80b");
  CHECK(written(spec, spec.heads.value) == "32");
  CHECK(written(spec, spec.conv.taps_oldest_first) == "oldest_first");
  CHECK(written(spec, spec.qk_norm.eps) == "1e-6");
  CHECK(written(spec, spec.qk_scale.q) == "key_dim^-0.5");
  CHECK(written(spec, spec.slots.padding) == "negative");
  CHECK(written(spec, spec.rounding.norm) == "fp32");
  const Tensor& qkvz = spec.inputs.at(0);
  CHECK(written(spec, qkvz.name) == "qkvz");
  CHECK(written(spec, qkvz.dtype) == "bf16");
  CHECK(written(spec, qkvz.dims.at(0).name) == "token@launch");
  CHECK(written(spec, qkvz.dims.at(1).name) == "key_head");
  CHECK(written(spec, qkvz.dims.at(2).parts.at(2).name) == "v");
  CHECK(written(spec, qkvz.dims.at(2).parts.at(2).dims.at(0).name) == "group");
  CHECK(written(spec, Located<int>{0, spec.sections.pools}) == "pools");
}

TEST_CASE("a scale may stand before the dimension that it names") {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml";
  const std::string scale = "qk_scale: {q: key_dim^-0.5, k: 1}\n";
  std::string text = test::read_text(file);
  text.erase(text.find(scale), scale.size());
  const Spec spec = test::parse_spec(file, scale + text);
  CHECK(*spec.qk_scale.q == Approx(1 / std::sqrt(32.0)).epsilon(1e-15));
}

TEST_CASE("shorthands are lists") {
  const Spec flat = test::released("qwen3_5_35b_a3b");
  CHECK(dims_of(flat.inputs, "qkvz") ==
        "[token@launch, {q: [key_head, key_dim], k: [key_head, key_dim], v: [value_head, value_dim], "
        "z: [value_head, value_dim]}]");
  CHECK(dims_of(flat.inputs, "ba") == "[token@launch, {b: [value_head], a: [value_head]}]");
  CHECK(dims_of(flat.pools, "conv_state") ==
        "[slot@launch, tap, {q: [key_head, key_dim], k: [key_head, key_dim], v: [value_head, value_dim]}]");
  CHECK(dims_of(flat.parameters, "conv_weight") ==
        "[{q: [key_head, key_dim], k: [key_head, key_dim], v: [value_head, value_dim]}, tap]");
  CHECK(dims_of(test::released("qwen3_5_27b").pools, "conv_state") ==
        "[slot@launch, {q: [key_head, key_dim], k: [key_head, key_dim], v: [value_head, value_dim]}, tap]");

  const std::string fuzz = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml";
  const Spec interleaved = test::load_spec(fuzz);
  CHECK(dims_of(interleaved.inputs, "qkvz") ==
        "[token@launch, key_head, {q: [key_dim], k: [key_dim], v: [group, value_dim], z: [group, value_dim]}]");
  CHECK(dims_of(interleaved.inputs, "ba") == "[token@launch, key_head, {b: [group], a: [group]}]");
  // The name spells the parts, and their order.
  const Spec swapped = test::variant(fuzz, "  ba: {dtype: bf16", "  ab: {dtype: bf16");
  CHECK(dims_of(swapped.inputs, "ab") == "[token@launch, key_head, {a: [group], b: [group]}]");
}

TEST_CASE("an expanded shorthand has the place of its word") {
  const Spec spec = test::fuzz("fuzz_gdn");
  const Tensor& qkvz = spec.inputs.at(0);
  const Dim& packed = qkvz.dims.at(2);
  CHECK(written(spec, qkvz.dims.at(0).name) == "interleaved");
  CHECK(written(spec, packed.parts.at(3).dims.at(1).name) == "interleaved");
}

TEST_CASE("a key that does not apply stays unwritten") {
  const Spec spec = test::fuzz("fuzz_split");
  CHECK_FALSE(*spec.qk_norm.enabled);
  CHECK(spec.qk_norm.eps.place.line == 0);
  CHECK(*spec.decay.threshold == 0);  // none
  CHECK(spec.decay.threshold.place.line > 0);
  CHECK(*spec.qk_scale.q == 0.125);
}

TEST_CASE("none stands for a section whose kind is none") {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml";
  std::string text = test::read_text(file);
  const std::size_t at = text.find("prefill: {");
  REQUIRE(at != std::string::npos);
  text.replace(at, text.find('\n', at) - at, "prefill: none");
  const Spec spec = test::parse_spec(file, text);
  CHECK_FALSE(*spec.prefill.enabled);
  CHECK(written(spec, spec.prefill.enabled) == "none");
  CHECK(spec.prefill.chunk.place.line == 0);
  CHECK(to_text(spec).find("prefill:\n  kind: none\n") != std::string::npos);
  CHECK_FALSE(*test::parse_spec(file, to_text(spec)).prefill.enabled);
  CHECK(*test::fuzz("fuzz_gdn").prefill.chunk == 64);
}

TEST_CASE("a printed spec reads back as itself") {
  for (const std::string& file : test::all_specs()) {
    INFO(file);
    const Spec spec = test::load_spec(file);
    const std::string text = to_text(spec);
    CHECK(text.find("dims: interleaved") == std::string::npos);
    const Spec again = test::parse_spec(file, text);
    CHECK(to_text(again) == text);
    CHECK(again.inputs.size() == spec.inputs.size());
    CHECK(*again.qk_scale.q == *spec.qk_scale.q);
    CHECK(*again.out_norm.eps == *spec.out_norm.eps);
  }
}

TEST_CASE("text of people survives printing") {
  const std::string fuzz = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml";
  for (const char* model :
       {"\"a: b # c\"", "'null'", "'[x]'", "caf\xc3\xa9 \"x\" \\", "'*'", "yes", "\"tab\\there\""}) {
    INFO(model);
    const Spec spec = test::variant(fuzz, "model: fuzz geometry", std::string("model: ") + model);
    CHECK(*test::parse_spec(fuzz, to_text(spec)).model == *spec.model);
  }
}

TEST_CASE("line ends of Windows change nothing") {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml";
  const std::string text = test::read_text(file);
  CHECK(to_text(test::parse_spec(file, replaced(text, "\n", "\r\n"))) == to_text(test::parse_spec(file, text)));
}

TEST_CASE("parse looks at types only, check at rules too") {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml";
  const std::string text = replaced(test::read_text(file), "value: 6", "value: 7");
  Diagnostics parsed, checked;
  CHECK(parse(file, text, parsed));
  CHECK(parsed.empty());
  CHECK_FALSE(check(file, text, checked));
  REQUIRE(checked.sorted().size() == 1);
  CHECK(checked.sorted()[0].rule == "heads.group");
}

TEST_CASE("load_or_throw throws what lint would print") {
  CHECK(*load_or_throw(std::string(GDN_SOURCE_DIR) + "/specs/olmo_hybrid_7b.yaml").dims.value == 192);
  CHECK_THROWS_WITH(load_or_throw("/no/such/spec.yaml"), Catch::Contains("/no/such/spec.yaml: error: no such file"));
}

}  // namespace gdn::spec
