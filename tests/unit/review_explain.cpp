// The address map for people says what the layout says: strips, and the page's data.
#include "review/explain.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "layout/resolve.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;

namespace {

std::string explained(const spec::Spec& spec, const std::string& tensor) {
  const layout::Layout layout = layout::resolve(spec);
  return review::explain_text({spec, layout}, tensor);
}

std::string strip_of(const spec::Spec& spec, const std::string& tensor) {
  const std::string text = explained(spec, tensor);
  const std::size_t at = text.find("  |");
  return text.substr(at + 2, text.find('\n', at) - at - 2);
}

nlohmann::json page_data(const std::string& html) {
  const std::size_t at = html.find("const layer = ") + 14;
  return nlohmann::json::parse(html.substr(at, html.find(";\n", at) - at));
}

}  // namespace

TEST_CASE("strips name parts, heads and offsets") {
  const spec::Spec next = test::released("qwen3_next_80b"), flat = test::released("qwen3_5_27b");
  CHECK(strip_of(next, "qkvz") ==
        "|0 q0 |128 k0 |256 v0-1 |512 z0-1 |768 q1 |896 k1 |1024 v2-3 |1280 z2-3 |1536 q2 ... |11648 k15 |11776 v30-31 "
        "|12032 z30-31 |12288");
  CHECK(strip_of(flat, "inputs.qkvz") == "|0 q0-15 |2048 k0-15 |4096 v0-47 |10240 z0-47 |16384");
  CHECK(strip_of(flat, "ba") == "|0 b0-47 |48 a0-47 |96");
  CHECK(strip_of(flat, "conv_state") == "|0 q0-15 |6144 k0-15 |12288 v0-47 |30720");
  CHECK(strip_of(next, "conv_state") ==
        "|0 q0-15 tap 0 |2048 k0-15 tap 0 |4096 v0-31 tap 0 |8192 q0-15 tap 1 |10240 k0-15 tap 1 |12288 v0-31 tap 1 "
        "|16384 q0-15 tap 2 |18432 k0-15 tap 2 |20480 v0-31 tap 2 |24576");
  CHECK(strip_of(next, "state") == "|0 state 0-31 |524288");
  CHECK(strip_of(next, "norm_weight") == "|0 norm_weight |128");
}

TEST_CASE("tiled value heads stand where they are read") {
  const spec::Spec tiled =
      test::variant(std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml", "pairing: grouped", "pairing: tiled");
  // Key head 0 has the value heads 0 and 16.
  CHECK(strip_of(tiled, "qkvz").find("|0 q0 |128 k0 |256 v0 |384 v16 |512 z0 |640 z16 |768 q1") == 0);
}

TEST_CASE("blocks hold every element of every tensor once") {
  std::vector<std::string> files = test::all_specs();
  for (std::string& file : test::yaml_files("specs/more")) files.push_back(std::move(file));
  for (const std::string& file : files) {
    const spec::Spec spec = test::load_spec(file);
    const layout::Layout layout = layout::resolve(spec);
    for (const review::Section& section : review::sections_of({spec, layout})) {
      for (const review::TensorPair& tensor : section.tensors) {
        for (const bool merge : {false, true}) {
          INFO(file << " " << tensor.resolved->name << " merged " << merge);
          std::int64_t at = 0;
          bool gapless = true;
          for (const review::Block& block : review::blocks_of(layout, *tensor.resolved, merge)) {
            gapless = gapless && block.start == at;
            at = block.start + block.length;
          }
          CHECK(gapless);
          // Zeros behind the heads' entries of a padded A_log are no part's.
          CHECK(at == (tensor.resolved->name == "a_log" ? layout.numbers.value_heads : tensor.resolved->inner));
        }
      }
    }
  }
}

TEST_CASE("KDA: decays by channel, forms of the decay, zeros behind a padded A_log") {
  const std::string k3 = explained(test::released("more/kimi_k3"), "");
  CHECK(k3.find("|0 a_log 0-95 |96 zeros |128") != std::string::npos);
  CHECK(k3.find("g[c] = -5 * sigmoid(exp(a_log) * (a[c] + dt_bias[c]))") != std::string::npos);
  CHECK(k3.find("S = diag(exp(g)) * S") != std::string::npos);
  const std::string kimi = explained(test::released("kimi_linear_48b"), "");
  CHECK(kimi.find("g[c] = -exp(a_log) * softplus(a[c] + dt_bias[c]), softplus(x) = x above 20") != std::string::npos);
  CHECK(explained(test::fuzz("fuzz_kda_bounded"), "").find("g[c] = -5 * sigmoid(a[c] + dt_bias[c])") !=
        std::string::npos);
}

TEST_CASE("formulas carry the spec's own numbers") {
  const std::string olmo = explained(test::released("olmo_hybrid_7b"), "");
  CHECK(olmo.find("beta = 2 * sigmoid(b)\n") != std::string::npos);
  CHECK(olmo.find("out = o / sqrt(mean(o^2) + 1e-05) * w * silu(z)\n") != std::string::npos);
  CHECK(olmo.find("the window of 4 inputs moves by one; its last 3 count") != std::string::npos);
  const std::string giga =
      explained(test::load_spec(std::string(GDN_SOURCE_DIR) + "/specs/more/gigachat3_5_432b_a28b.yaml"), "");
  CHECK(giga.find("* 2 * (1 + w) * sigmoid(z)\n") != std::string::npos);
  CHECK(giga.find("value head h reads key head h / 2") != std::string::npos);
}

TEST_CASE("an unknown tensor is refused with those that there are") {
  try {
    explained(test::released("qwen3_next_80b"), "qkv");
    FAIL("no exception");
  } catch (const std::out_of_range& error) {
    CHECK(std::string(error.what()).find("qwen3_next_80b has no tensor qkv: it has inputs.qkvz inputs.ba") == 0);
  }
}

TEST_CASE("the page holds every tensor and needs nothing else") {
  const spec::Spec spec = test::released("qwen3_next_80b");
  const layout::Layout layout = layout::resolve(spec);
  const std::string html = review::explain_html({spec, layout});
  for (const char* outside : {"src=", "href=", "url(", "@import", "fetch(", "https://"}) {
    INFO(outside);
    CHECK(html.find(outside) == std::string::npos);
  }
  const nlohmann::json data = page_data(html);
  CHECK(data["tensors"].size() == 2 + 4 + 2 + 9 + 1);
  const nlohmann::json& qkvz = data["tensors"][0];
  CHECK(qkvz["path"] == "inputs.qkvz");
  CHECK(qkvz["inner"] == 12288);
  CHECK(qkvz["blocks"].size() == 16 * (1 + 1 + 2 + 2));
  CHECK(qkvz["parts"][2]["offset"] == 256);
  CHECK(html.size() < 200000);
}

TEST_CASE("text of a hostile spec stays text on the page") {
  const spec::Spec spec = test::variant(std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml",
                                        "model: Qwen3-Next-80B-A3B", "model: \"</script><script>alert(1)</script>\"");
  const layout::Layout layout = layout::resolve(spec);
  const std::string html = review::explain_html({spec, layout});
  CHECK(html.find("alert(1)</script>") == std::string::npos);
  CHECK(html.find("&lt;script&gt;alert(1)") != std::string::npos);
}
