// The specs that are checked in, against what was written down about the models; and the table of keys against itself.
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "spec/keys.h"
#include "spec/parser.h"
#include "spec/rules.h"
#include "spec/spec_text.h"
#include "spec/tensor_keys.h"
#include "support/catch.h"
#include "support/specs.h"

namespace gdn::spec {
namespace {

std::string sizes_of(const Spec& spec) {
  std::string text;
  for (const int value : {*spec.heads.key, *spec.heads.value, *spec.dims.key, *spec.dims.value, *spec.conv.width}) {
    text += std::to_string(value) + " ";
  }
  return text;
}

bool packed_under_key_head(const Spec& spec) {
  const Tensor* qkvz = find_tensor(spec.inputs, "qkvz");
  return qkvz && qkvz->dims.size() == 3 && *qkvz->dims[1].name == "key_head" && qkvz->dims[2].packed();
}

// "VK" or "KV".
std::string state_order(const Spec& spec) {
  std::string order;
  for (const Dim& dim : find_tensor(spec.pools, "state")->dims) {
    if (*dim.name == "key_dim") order += 'K';
    if (*dim.name == "value_dim") order += 'V';
  }
  return order;
}

std::string conv_order(const Spec& spec) {
  const Tensor* state = find_tensor(spec.pools, "conv_state");
  if (!state) return "split";
  return *state->dims.back().name == "tap" ? "DS" : "SD";
}

}  // namespace

TEST_CASE("released models have the sizes of their configurations") {
  const std::vector<std::tuple<std::string, std::string, int>> models = {
      // key heads, value heads, K, V, taps; channels of the convolution
      {"qwen3_next_80b", "16 32 128 128 4 ", 8192},      {"qwen3_5_35b_a3b", "16 32 128 128 4 ", 8192},
      {"qwen3_5_27b", "16 48 128 128 4 ", 10240},        {"olmo_hybrid_7b", "30 30 96 192 4 ", 11520},
      {"kimi_linear_48b", "32 32 128 128 4 ", 3 * 4096}, {"ling_3_0_tiny", "16 16 128 128 4 ", 3 * 2048},
  };
  for (const auto& [name, sizes, channels] : models) {
    INFO(name);
    const Spec spec = test::released(name);
    CHECK(sizes_of(spec) == sizes);
    CHECK(2 * *spec.heads.key * *spec.dims.key + *spec.heads.value * *spec.dims.value == channels);
    CHECK(*spec.heads.pairing == core::Pairing::kGrouped);
    CHECK(*spec.out_norm.weight == core::NormWeight::kW);
    CHECK(*spec.out_norm.eps == (name == "olmo_hybrid_7b" || name == "kimi_linear_48b" ? 1e-5 : 1e-6));
    const bool kda = name == "kimi_linear_48b" || name == "ling_3_0_tiny";
    CHECK(*spec.rule == (kda ? core::Rule::kKda : core::Rule::kGdn));
    CHECK(*spec.out_norm.gate == (kda ? core::Activation::kSigmoid : core::Activation::kSilu));
    CHECK(*spec.qk_norm.eps == 1e-6);
    CHECK(*spec.beta.factor == (name == "olmo_hybrid_7b" ? 2 : 1));
    CHECK(packed_under_key_head(spec) == (name == "qwen3_next_80b"));
  }
  CHECK(test::released_specs().size() == models.size());
}

TEST_CASE("each number of a released spec says where it comes from") {
  // The head of a spec has no numbers; what the parts hand over is one choice of the engine, said once.
  const std::set<std::string> exempt = {"gdn_gen",  "name",         "model",       "rule",   "inputs",
                                        "handover", "output_quant", "speculative", "outputs"};
  for (const std::string& file : test::released_specs()) {
    INFO(file);
    std::istringstream lines(test::read_text(file));
    std::string line, section;
    int numbers = 0;
    while (std::getline(lines, line)) {
      std::string code = line.substr(0, line.find('#'));
      code.erase(code.find_last_not_of(' ') + 1);
      if (code.empty()) continue;
      if (code[0] != ' ') section = code.substr(0, code.find(':'));
      if (code.back() == ':' || exempt.count(section) == 1 || code == "  kind: rms") continue;
      INFO(line);
      ++numbers;
      bool sourced = false;
      for (const char* mark : {"[P]", "[T]", "[2]", "[E]"}) {
        sourced = sourced || line.find(mark, code.size()) != std::string::npos;
      }
      CHECK(sourced);
    }
    CHECK(numbers >= 35);
  }
}

TEST_CASE("released models list their layers one by one, and how they count") {
  struct Model {
    const char* file;
    int count, linear, last;
  };
  // Layers of the whole model, those of this kind, and the last of them, counted from 0.
  for (const Model& model : {Model{"qwen3_next_80b", 48, 36, 46},
                             {"qwen3_5_27b", 64, 48, 62},
                             {"qwen3_5_35b_a3b", 40, 30, 38},
                             {"olmo_hybrid_7b", 32, 24, 30},
                             {"kimi_linear_48b", 27, 20, 25},
                             {"ling_3_0_tiny", 24, 18, 22},
                             {"more/kimi_k3", 93, 69, 90},
                             {"more/ling_3_0_flash", 42, 32, 41},
                             {"more/berrylm_os", 40, 30, 38},
                             {"more/qwen3_5_0_8b", 24, 18, 22},
                             {"more/qwen3_5_122b_a10b", 48, 36, 46},
                             {"more/qwen3_8_flash_next", 48, 36, 46}}) {
    INFO(model.file);
    const Spec spec = test::released(model.file);
    CHECK(*spec.layers.count == model.count);
    CHECK(static_cast<int>(layers_from_zero(spec).size()) == model.linear);
    CHECK(layers_from_zero(spec).back() == model.last);
  }
}

// What no config of theirs has twice: the form of the decay, its bound's key, how A_log is stored, the gates' matrices.
TEST_CASE("KDA models differ where readers went wrong") {
  struct Model {
    const char* file;
    core::DecayForm form;
    const char *bound_key, *a_log, *a, *z;
    core::Activation gate;
  };
  const auto shown = [](const Spec& spec, std::string_view path) {
    for (const Key& key : keys()) {
      if (key.path != path) continue;
      return key.applies && key.applies(spec) != Applies::kYes ? std::string() : key.show(spec);
    }
    return std::string("?");
  };
  constexpr auto kSoftplus = core::DecayForm::kSoftplus, kBounded = core::DecayForm::kBounded;
  constexpr auto kSigmoid = core::Activation::kSigmoid, kSilu = core::Activation::kSilu;
  for (const Model& model :
       {Model{"kimi_linear_48b", kSoftplus, "", "log", "low_rank", "low_rank", kSigmoid},
        {"more/kimi_k3", kBounded, "gate_lower_bound", "log_padded", "low_rank", "single", kSigmoid},
        {"more/glm_5_3_flash", kBounded, "gate_lower_bound", "log", "low_rank", "low_rank", kSigmoid},
        {"ling_3_0_tiny", kBounded, "kda_lower_bound", "log", "single", "single", kSigmoid},
        {"more/ling_3_0_flash", kBounded, "kda_lower_bound", "log", "single", "single", kSigmoid},
        {"more/berrylm_os", kSoftplus, "", "log", "low_rank", "single", kSilu}}) {
    INFO(model.file);
    const Spec spec = test::released(model.file);
    CHECK(*spec.rule == core::Rule::kKda);
    CHECK(*spec.decay.form == model.form);
    if (model.form == kBounded) CHECK(*spec.decay.bound == -5);
    CHECK(shown(spec, "decay.bound_key") == model.bound_key);
    CHECK(shown(spec, "decay.a_log") == model.a_log);
    CHECK(shown(spec, "projections.a") == model.a);
    CHECK(shown(spec, "projections.z") == model.z);
    CHECK(*spec.out_norm.gate == model.gate);
  }
  CHECK(*test::released("more/kimi_k3").decay.a_log_entries == 128);
  const Spec berry = test::released("more/berrylm_os");
  CHECK(*berry.heads.value == 2 * *berry.heads.key);
}

TEST_CASE("the fuzz specs cover what no shape check can see") {
  CHECK(sizes_of(test::fuzz("fuzz_gdn")) == "2 6 32 48 4 ");
  std::set<std::string> seen;
  for (const std::string& file : test::fuzz_specs()) {
    const Spec s = test::load_spec(file);
    const std::string pairing = *s.heads.pairing == core::Pairing::kTiled ? "tiled" : "grouped";
    const std::string projection = packed_under_key_head(s)        ? "interleaved"
                                   : find_tensor(s.inputs, "qkvz") ? "flat"
                                   : find_tensor(s.inputs, "q")    ? "separate"
                                                                   : "other";
    const int group = *s.heads.value / *s.heads.key;
    const std::string dtype(core::to_string(*find_tensor(s.pools, "state")->dtype));
    const std::string activation(core::to_string(*s.outputs.at(0).dtype));
    for (const std::string& what :
         {projection + " " + pairing, projection + " " + state_order(s), state_order(s) + " " + dtype,
          conv_order(s) + (*s.conv.taps_oldest_first ? " oldest" : " newest"), "activation " + activation,
          "window " + std::string(*s.conv.window >= *s.conv.width ? "long " : "exact ") +
              (*s.conv.anchor == core::Anchor::kFirst ? "first" : "last"),
          "width " + std::to_string(*s.conv.width), std::string("bias ") + (*s.conv.bias ? "yes" : "no"),
          std::string("gate ") + std::to_string(static_cast<int>(*s.out_norm.gate)),
          std::string("weight ") + std::to_string(static_cast<int>(*s.out_norm.weight)),
          std::string("order ") + (*s.out_norm.norm_before_gate ? "norm" : "gate"),
          "beta " + std::to_string(static_cast<int>(*s.beta.factor)),
          "eps " + (*s.qk_norm.enabled ? std::to_string(static_cast<int>(*s.qk_norm.eps_at)) : "none"),
          "handover " + std::to_string(static_cast<int>(*s.decay.handover)),
          "a " + std::to_string(static_cast<int>(*s.decay.a_log)),
          "padding " + std::to_string(static_cast<int>(*s.slots.padding)),
          "slots " + std::string(core::to_string(*s.slots.dtype)), "group " + std::to_string(group),
          "dims " + std::to_string(*s.dims.key) + " " + std::to_string(*s.dims.value)}) {
      seen.insert(what);
    }
    if (*s.rule != core::Rule::kKda) continue;
    const bool bounded = *s.decay.form == core::DecayForm::kBounded;
    seen.insert({"kda " + state_order(s), "kda " + pairing, bounded ? "kda bounded" : "kda softplus",
                 "kda a " + std::to_string(static_cast<int>(*s.decay.a_log)),
                 *s.decay.a_log_padded ? "kda a padded" : "kda a exact", "kda " + conv_order(s),
                 "kda handover " + std::to_string(static_cast<int>(*s.decay.handover))});
  }
  for (const char* wanted : {"kda VK",
                             "kda KV",
                             "kda grouped",
                             "kda tiled",
                             "kda softplus",
                             "kda bounded",
                             "kda a 0",
                             "kda a 1",
                             "kda a 2",
                             "kda a padded",
                             "kda split",
                             "kda SD",
                             "kda handover 1",
                             "kda handover 2",
                             "kda handover 3",
                             "interleaved grouped",
                             "interleaved tiled",
                             "flat grouped",
                             "flat tiled",
                             "separate grouped",
                             "separate tiled",
                             "interleaved VK",
                             "interleaved KV",
                             "flat VK",
                             "flat KV",
                             "separate VK",
                             "separate KV",
                             "VK fp32",
                             "VK bf16",
                             "VK fp16",
                             "KV fp32",
                             "KV bf16",
                             "KV fp16",
                             "SD oldest",
                             "SD newest",
                             "DS oldest",
                             "DS newest",
                             "split oldest",
                             "activation bf16",
                             "activation fp16",
                             "activation fp32",
                             "window long first",
                             "window long last",
                             "window exact first",
                             "window exact last",
                             "width 2",
                             "width 3",
                             "width 4",
                             "width 5",
                             "bias yes",
                             "bias no",
                             "gate 0",
                             "gate 1",
                             "gate 2",
                             "weight 0",
                             "weight 1",
                             "weight 2",
                             "order norm",
                             "order gate",
                             "beta 1",
                             "beta 2",
                             "eps 0",
                             "eps 1",
                             "eps 2",
                             "eps none",
                             "handover 1",
                             "handover 2",
                             "handover 3",
                             "a 0",
                             "a 1",
                             "padding 0",
                             "padding 1",
                             "padding 2",
                             "slots int32",
                             "slots int64",
                             "group 1",
                             "group 2",
                             "group 3",
                             "dims 16 16",
                             "dims 32 48",
                             "dims 96 192",
                             "dims 256 256"}) {
    INFO(wanted);
    CHECK(seen.count(wanted) == 1);
  }
}

TEST_CASE("the table of keys is complete") {
  std::set<std::string_view> paths;
  for (const Key& key : keys()) {
    INFO(key.path);
    CHECK(paths.insert(key.path).second);
    CHECK_FALSE(key.help.empty());
    const bool has_words = key.type == ValueType::kWord || key.type == ValueType::kDtype ||
                           key.type == ValueType::kWords || key.type == ValueType::kCount;
    CHECK(has_words == !key.words.empty());
    CHECK((key.applies == nullptr) == key.applies_text.empty());
    CHECK(key.store);
    CHECK(key.show);
  }
  std::set<std::pair<std::string_view, std::string_view>> tensors;
  for (const TensorKey& key : tensor_keys()) {
    INFO(key.section << "." << key.name);
    CHECK(tensors.insert({key.section, key.name}).second);
    CHECK_FALSE(key.help.empty());
    CHECK_FALSE(dtypes(key.dtypes).empty());
  }
}

TEST_CASE("a word is stored as what it is shown as") {
  const Spec spec = test::fuzz("fuzz_gdn");
  for (const Key& key : keys()) {
    for (const Word& word : key.words) {
      if (word.later) continue;
      INFO(key.path << " = " << word.text);
      Spec changed = spec;
      Value value;
      value.integer = word.value;
      value.words = {std::string(word.text)};
      value.place = {1, 1, 1};
      key.store(changed, value);
      CHECK(key.show(changed) ==
            (key.type == ValueType::kWords ? "[" + std::string(word.text) + "]" : std::string(word.text)));
    }
  }
}

TEST_CASE("rules are told apart") {
  std::set<std::string_view> ids;
  for (const RuleText& rule : rules()) {
    INFO(rule.id);
    CHECK(id(rule.rule) == rule.id);
    CHECK(ids.insert(rule.id).second);
    CHECK_FALSE(rule.says.empty());
  }
}

}  // namespace gdn::spec
