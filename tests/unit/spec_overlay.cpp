// An engine's overlay on a model's spec: what it replaces, what it may not touch, and that places name the right file.
#include <filesystem>
#include <set>

#include "spec/parser.h"
#include "spec/spec_text.h"
#include "support/catch.h"
#include "support/specs.h"

namespace gdn::spec {
namespace {

std::string source_path(const std::string& name) { return std::string(GDN_SOURCE_DIR) + "/" + name; }

// A model with overlays of the tree, or nothing; `rendered` receives what is said.
std::optional<Spec> resolve(const std::string& file, const std::vector<std::string>& overlays, std::string* rendered) {
  std::vector<Source> sources = {{file, test::read_text(file)}};
  for (const std::string& name : overlays) {
    const std::string path = source_path("specs/engines/" + name + ".yaml");
    sources.push_back({path, test::read_text(path)});
  }
  Diagnostics diagnostics;
  std::optional<Spec> spec = check(sources, diagnostics);
  if (rendered) *rendered = render(diagnostics, sources);
  return spec;
}

Spec over(const std::string& model, const std::vector<std::string>& overlays) {
  std::string rendered;
  std::optional<Spec> spec = resolve(source_path("specs/" + model + ".yaml"), overlays, &rendered);
  INFO(rendered);
  REQUIRE(spec);
  return std::move(*spec);
}

// `text` laid over fuzz_gdn.yaml.
std::optional<Spec> lay(const std::string& text, std::string& rendered) {
  const std::string file = source_path("tests/fuzz/fuzz_gdn.yaml");
  const std::vector<Source> sources = {{file, test::read_text(file)}, {"engines/test.yaml", text}};
  Diagnostics diagnostics;
  std::optional<Spec> spec = check(sources, diagnostics);
  rendered = render(diagnostics, sources);
  return spec;
}

std::string dims_of(const Spec& spec, const std::string& pool) {
  const Tensor* tensor = find_tensor(spec.pools, pool);
  return tensor ? std::string(core::to_string(*tensor->dtype)) + " " + dims_text(tensor->dims) : "none";
}

constexpr const char* kHead = "gdn_gen: 1\noverlay: test\nengine: a test\n";

}  // namespace

TEST_CASE("an overlay replaces an engine's choices and nothing else") {
  const Spec base = test::released("qwen3_5_27b");
  const Spec spec = over("qwen3_5_27b", {"transformers"});
  CHECK(*spec.name == "qwen3_5_27b_transformers");
  CHECK(*spec.conv.window == 4);
  CHECK(*spec.conv.anchor == core::Anchor::kLast);
  CHECK(*spec.slots.padding == core::Padding::kNone);
  CHECK(*spec.slots.dtype == core::DType::kInt64);
  CHECK(*spec.rounding.norm == core::DType::kBf16);
  CHECK(dims_of(spec, "state") == "fp32 [slot@launch, value_head, key_dim, value_dim]");
  CHECK(*spec.rounding.conv == *base.rounding.conv);
  CHECK(*spec.heads.value == 48);
  CHECK(dims_text(spec.inputs[0].dims) == dims_text(base.inputs[0].dims));
  CHECK(spec.overlays.size() == 1);
}

TEST_CASE("a tensor's dtype or dims alone can be replaced") {
  const Spec spec = over("qwen3_5_27b", {"vllm_sd"});
  CHECK(dims_of(spec, "state") == "bf16 [slot@launch, value_head, value_dim, key_dim]");  // the spec's dtype
  CHECK(dims_of(spec, "conv_state").find("bf16 [slot@launch, tap, {q:") == 0);
}

TEST_CASE("overlays are laid one over the other in their order") {
  const Spec spec = over("qwen3_5_27b", {"vllm_sd", "mtp1"});
  CHECK(*spec.name == "qwen3_5_27b_vllm_sd_mtp1");
  CHECK(*spec.conv.window == 4);
  CHECK(*spec.speculative.tokens == 2);
  CHECK(dims_of(over("qwen3_5_27b", {"vllm_ds", "vllm_sd"}), "conv_state").find("bf16 [slot@launch, tap, {q:") == 0);
  CHECK(dims_of(over("qwen3_5_27b", {"vllm_sd", "vllm_ds"}), "conv_state").find("bf16 [slot@launch, {q:") == 0);
}

TEST_CASE("inputs are replaced as a whole: z, b and a with bases of their own") {
  const Spec spec = over("qwen3_5_27b", {"vllm_ds", "vllm_lora"});
  std::string names;
  for (const Tensor& tensor : spec.inputs) names += *tensor.name + " ";
  CHECK(names == "qkv z b a ");
}

TEST_CASE("a GGUF file has tiled heads and stores -exp(A_log)") {
  const Spec spec = over("qwen3_5_35b_a3b", {"llama_cpp"});
  CHECK(*spec.heads.pairing == core::Pairing::kTiled);
  CHECK(*spec.decay.a_log == core::AStored::kNegativeExp);
  CHECK(*spec.qk_norm.eps_at == core::EpsAt::kMax);
  CHECK(*over("qwen3_next_80b", {"llama_cpp_grouped"}).heads.pairing == core::Pairing::kGrouped);
  // All of it is fp32, nothing is rounded.
  for (const auto* section : {&spec.inputs, &spec.parameters, &spec.pools, &spec.handover, &spec.outputs}) {
    for (const Tensor& tensor : *section) {
      INFO(*tensor.name);
      CHECK(*tensor.dtype == core::DType::kFp32);
    }
  }
}

TEST_CASE("one conv tensor and three of it replace each other") {
  std::string rendered;
  const std::optional<Spec> three =
      lay(std::string(kHead) +
              "pools:\n"
              "  conv_state_q: {dtype: bf16, dims: [slot@launch, tap, key_head, key_dim]}\n"
              "  conv_state_k: {dtype: bf16, dims: [slot@launch, tap, key_head, key_dim]}\n"
              "  conv_state_v: {dtype: bf16, dims: [slot@launch, tap, value_head, "
              "value_dim]}\n",
          rendered);
  INFO(rendered);
  REQUIRE(three);
  CHECK_FALSE(find_tensor(three->pools, "conv_state"));
  CHECK(find_tensor(three->pools, "conv_state_v"));
}

TEST_CASE("every overlay fits every model that it is for") {
  std::vector<std::string> models = test::released_specs();
  for (std::string& file : test::yaml_files("specs/more")) models.push_back(std::move(file));
  for (const std::string& file : models) {
    for (const std::string& path : test::yaml_files("specs/engines")) {
      const std::string overlay = std::filesystem::path(path).stem().string();
      if (!test::overlay_fits(file, overlay)) continue;
      INFO(file << " + " << overlay);
      std::string rendered;
      const std::optional<Spec> spec = resolve(file, {overlay}, &rendered);
      INFO(rendered);
      CHECK(spec.has_value());
      CHECK(rendered.find("error") == std::string::npos);
    }
  }
  CHECK(test::yaml_files("specs/engines").size() == 19);
}

TEST_CASE("the layouts that the benchmarks compare are specs") {
  const std::vector<std::string> layouts = test::yaml_files("tests/bench/layouts");
  for (const std::string& path : layouts) {
    const std::string model = source_path("specs/qwen3_next_80b.yaml");
    const std::vector<Source> sources = {{model, test::read_text(model)}, {path, test::read_text(path)}};
    Diagnostics diagnostics;
    const bool valid = check(sources, diagnostics).has_value();
    INFO(render(diagnostics, sources));
    CHECK(valid);
  }
  CHECK(layouts.size() == 5);
}

TEST_CASE("each leaf's place names the file that it stands in") {
  const Spec spec = over("qwen3_5_27b", {"vllm_sd"});
  CHECK(spec.conv.window.place.source == 1);
  CHECK(spec.conv.width.place.source == 0);
  CHECK(find_tensor(spec.pools, "state")->dims_place.source == 1);
  CHECK(find_tensor(spec.pools, "state")->dtype.place.source == 0);
}

TEST_CASE("errors of a combination point into the file at fault") {
  std::string rendered;
  CHECK_FALSE(lay(std::string(kHead) + "conv:\n  window: 2\n", rendered));
  CHECK(rendered.find("engines/test.yaml:5:11: error: conv.window = 2 can't hold") == 0);
  CHECK(rendered.find("tests/fuzz/fuzz_gdn.yaml:") != std::string::npos);  // the note: conv.width is set here

  // Text of a hostile overlay never reads the spec's lines.
  CHECK_FALSE(lay("gdn_gen: 1\noverlay: test\nengine: a test\nconv: [", rendered));
  CHECK(rendered.find("engines/test.yaml:4:") == 0);
}

TEST_CASE("a key that an overlay makes needless is left out of the spec, and refused in the overlay") {
  std::string rendered;
  CHECK(lay(std::string(kHead) + "slots: {padding: none}\n", rendered));
  CHECK(rendered == "");
  CHECK_FALSE(lay(std::string(kHead) + "slots: {padding: none, padded_output: zero}\n", rendered));
  CHECK(rendered.find("engines/test.yaml:4:24: error: slots.padded_output has an effect only where") == 0);
}

TEST_CASE("unverified values are warned about and stay a valid spec") {
  const std::string file = source_path("specs/more/gigachat3_5_432b_a28b.yaml");
  Diagnostics diagnostics;
  std::string text;
  const std::optional<Spec> spec = load(file, diagnostics, &text);
  REQUIRE(spec);
  CHECK(spec->unverified.size() == 7);
  CHECK_FALSE(diagnostics.has_errors());
  const std::string rendered = render(diagnostics, file, text);
  CHECK(rendered.find("warning: heads.key is not verified: nobody has read it in the model's own files [unverified]") !=
        std::string::npos);
  CHECK(to_text(*spec).find(
            "unverified: [heads.key, heads.value, dims.key, dims.value, out_norm.eps, layers.count, layers.list]\n") !=
        std::string::npos);
}

TEST_CASE("values marked as hearsay are exactly those that a spec lists as unverified") {
  for (const std::string& file : test::yaml_files("specs/more")) {
    INFO(file);
    const Spec spec = test::load_spec(file);
    std::istringstream lines(test::read_text(file));
    std::string line;
    std::size_t marked = 0;
    while (std::getline(lines, line)) {
      if (line[0] != '#' && line.find("# [2]") != std::string::npos) ++marked;
    }
    CHECK(marked == spec.unverified.size());
  }
}

}  // namespace gdn::spec
