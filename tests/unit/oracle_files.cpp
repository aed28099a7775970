// The checked-in specs: the interpreter against the packers at true sizes, and every operation of every spec.
#include <algorithm>
#include <filesystem>
#include <numeric>
#include <stdexcept>
#include <string_view>

#include "oracle/compare.h"
#include "oracle/packers.h"
#include "spec/parser.h"
#include "support/catch.h"

using namespace gdn;
using namespace gdn::oracle;

namespace {

std::vector<std::string> spec_files() {
  std::vector<std::string> files;
  for (const char* folder : {"/specs", "/tests/fuzz"}) {
    for (const auto& entry : std::filesystem::directory_iterator(std::string(GDN_SOURCE_DIR) + folder)) {
      if (entry.path().extension() == ".yaml") files.push_back(entry.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<double> numbered(int part, int count) {
  std::vector<double> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), part * 1048576.0);
  return values;
}

const spec::Tensor& tensor_of(const spec::Spec& spec, const std::string& name) {
  for (const auto* list : {&spec.inputs, &spec.parameters, &spec.pools}) {
    for (const spec::Tensor& tensor : *list) {
      if (*tensor.name == name) return tensor;
    }
  }
  throw std::out_of_range(name);
}

}  // namespace

TEST_CASE("packers agree with the released models' specs", "[oracle]") {
  enum Projection { kInterleaved, kFlat, kSeparate };
  struct Row {
    const char* name;
    Projection projection;
    bool conv_sd, state_vk;
    Shape shape;
  };
  // Geometry and family as the models' own code has them, not as the spec says.
  const Row rows[] = {{"qwen3_next_80b", kInterleaved, true, true, {16, 32, 128, 128}},
                      {"qwen3_5_35b_a3b", kFlat, true, true, {16, 32, 128, 128}},
                      {"qwen3_5_27b", kFlat, false, true, {16, 48, 128, 128}},
                      {"olmo_hybrid_7b", kSeparate, false, false, {30, 30, 96, 192}}};
  for (const Row& row : rows) {
    CAPTURE(row.name);
    const spec::Spec spec = spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/specs/" + row.name + ".yaml");
    const Shape& s = row.shape;
    const int keys = s.key_heads * s.key_dim, values = s.value_heads * s.value_dim;
    const Token t{numbered(1, keys),   numbered(2, keys),          numbered(3, values),
                  numbered(4, values), numbered(5, s.value_heads), numbered(6, s.value_heads)};
    const auto agrees = [&](const std::string& name,
                            const std::vector<std::pair<std::string, std::vector<double>>>& parts,
                            const std::vector<double>& packed) {
      const TensorMap map = interpret(spec, tensor_of(spec, name));
      REQUIRE(map.inner == static_cast<std::int64_t>(packed.size()));
      std::int64_t same = 0;
      for (const auto& [part, numbers] : parts) {
        const PartMap* found = map.part(part);
        REQUIRE(found);
        REQUIRE(found->offset.size() == numbers.size());
        for (std::size_t i = 0; i < numbers.size(); ++i) {
          same += packed[static_cast<std::size_t>(found->offset[i])] == numbers[i];
        }
      }
      INFO(name);
      CHECK(same == map.inner);
    };
    const bool interleaved = row.projection == kInterleaved;
    if (row.projection == kSeparate) {
      agrees("q", {{"q", t.q}}, t.q);
      agrees("k", {{"k", t.k}}, t.k);
      agrees("v", {{"v", t.v}}, t.v);
      agrees("z", {{"z", t.z}}, t.z);
      agrees("b", {{"b", t.b}}, t.b);
      agrees("a", {{"a", t.a}}, t.a);
    } else {
      agrees("qkvz", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"z", t.z}},
             interleaved ? pack_qkvz_interleaved(s, t) : pack_qkvz_flat(s, t));
      agrees("ba", {{"b", t.b}, {"a", t.a}}, interleaved ? pack_ba_interleaved(s, t) : pack_ba_flat(s, t));
      const Window weights{4, numbered(1, keys * 4), numbered(2, keys * 4), numbered(3, values * 4)};
      agrees("conv_weight", {{"q", weights.q}, {"k", weights.k}, {"v", weights.v}}, pack_window_ds(s, weights));
    }
    const int taps = *spec.conv.window;
    const Window window{taps, numbered(1, keys * taps), numbered(2, keys * taps), numbered(3, values * taps)};
    agrees("conv_state", {{"q", window.q}, {"k", window.k}, {"v", window.v}},
           row.conv_sd ? pack_window_sd(s, window) : pack_window_ds(s, window));
    const auto state = numbered(4, values * s.key_dim);
    agrees("state", {{"state", state}}, row.state_vk ? pack_state_vk(s, state) : pack_state_kv(s, state));
  }
}

TEST_CASE("an ideal kernel passes for every spec and operation", "[oracle]") {
  const auto files = spec_files();
  REQUIRE(files.size() >= 5);
  for (const std::string& file : files) {
    const spec::Spec spec = spec::load_or_throw(file);
    Options options;
    options.rows = 3;
    options.extra_stride = 32;
    if (*spec.slots.padding != core::Padding::kNone) options.padding_rows = 1;
    for (const char* operation : {"decode", "unpack", "conv_update", "gating", "delta_update", "norm_quant"}) {
      CAPTURE(*spec.name, operation);
      if (std::string_view(operation) == "norm_quant" && !*spec.out_norm.enabled) {
        CHECK_THROWS_AS(make_problem(spec, operation, options), std::invalid_argument);
        continue;
      }
      Problem p = make_problem(spec, operation, options);
      for (int step = 0; step < 2; ++step) {
        const Expectation expected = expect(p);
        CHECK_FALSE(all_good(compare(expected, p)));
        apply(expected, p);
        CHECK(describe(compare(expected, p)) == "");
        p.next_step();
      }
    }
  }
}

// The order of a step stays visible in every spec, whatever its sizes, types and tolerances.
TEST_CASE("an undecayed prediction is caught in every spec", "[oracle]") {
  for (const std::string& file : spec_files()) {
    const spec::Spec spec = spec::load_or_throw(file);
    CAPTURE(*spec.name);
    Options options;
    options.rows = 2;
    const Problem p = make_problem(spec, "decode", options);
    Problem run = p;
    apply(expect_as(p, spec, StepOrder::kPredictUndecayed), run);
    for (const Deviation& d : compare(expect(p), run)) {
      CAPTURE(d.name);
      if (d.name == "out") CHECK(d.error > 2 * d.tolerance);
    }
  }
}
