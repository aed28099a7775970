// The interpreter of dimension lists against packers written by hand.
#include <numeric>

#include "oracle/interpret.h"
#include "oracle/packers.h"
#include "oracle_specs.h"
#include "support/catch.h"

using namespace gdn;
using namespace gdn::oracle;
using test::Choice;
using test::Family;
using test::Geometry;

namespace {

// Numbers that are all different: part * 2^20 + index.
std::vector<double> numbered(int part, int count) {
  std::vector<double> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), part * 1048576.0);
  return values;
}

Shape shape_of(const Choice& c) {
  return {c.geometry.key_heads, c.geometry.value_heads, c.geometry.key_dim, c.geometry.value_dim,
          c.pairing == core::Pairing::kTiled};
}

Token token_of(const Shape& s) {
  return {numbered(1, s.key_heads * s.key_dim),
          numbered(2, s.key_heads * s.key_dim),
          numbered(3, s.value_heads * s.value_dim),
          numbered(4, s.value_heads * s.value_dim),
          numbered(5, s.value_heads),
          numbered(6, s.value_heads)};
}

// A row laid out by the interpreter.
std::vector<double> laid_out(const spec::Spec& spec, const spec::Tensor& tensor,
                             const std::vector<std::pair<std::string, std::vector<double>>>& parts) {
  const TensorMap map = interpret(spec, tensor);
  std::vector<double> row(static_cast<std::size_t>(map.inner), -1);
  for (const auto& [name, values] : parts) {
    const PartMap* part = map.part(name);
    if (!part) continue;
    REQUIRE(part->offset.size() == values.size());
    for (std::size_t i = 0; i < values.size(); ++i) row[static_cast<std::size_t>(part->offset[i])] = values[i];
  }
  return row;
}

const Geometry kGeometries[] = {
    {16, 32, 128, 128},  // Qwen3-Next-80B, Qwen3.5-35B-A3B
    {16, 48, 128, 128},  // Qwen3.5-27B
    {30, 30, 96, 192},   // OLMo-Hybrid-7B
    {2, 6, 32, 48},      // fuzz
    {3, 6, 16, 32},
};

}  // namespace

TEST_CASE("interpreter and packers agree on projections", "[oracle]") {
  for (const Geometry& geometry : kGeometries) {
    for (const auto pairing : {core::Pairing::kGrouped, core::Pairing::kTiled}) {
      CAPTURE(geometry.key_heads, geometry.value_heads, pairing == core::Pairing::kTiled);
      Choice choice{geometry};
      choice.pairing = pairing;
      const Shape shape = shape_of(choice);
      const Token t = token_of(shape);
      const std::vector<std::pair<std::string, std::vector<double>>> parts = {{"q", t.q}, {"k", t.k}, {"v", t.v},
                                                                              {"z", t.z}, {"b", t.b}, {"a", t.a}};
      choice.family = Family::kInterleaved;
      spec::Spec spec = make_spec(choice);
      CHECK((laid_out(spec, test::find(spec.inputs, "qkvz"), parts) == pack_qkvz_interleaved(shape, t)));
      CHECK((laid_out(spec, test::find(spec.inputs, "ba"), parts) == pack_ba_interleaved(shape, t)));
      choice.family = Family::kFlat;
      spec = make_spec(choice);
      CHECK((laid_out(spec, test::find(spec.inputs, "qkvz"), parts) == pack_qkvz_flat(shape, t)));
      CHECK((laid_out(spec, test::find(spec.inputs, "ba"), parts) == pack_ba_flat(shape, t)));
      choice.family = Family::kFlatSplit;
      spec = make_spec(choice);
      CHECK((laid_out(spec, test::find(spec.inputs, "qkv"), parts) == pack_qkv_flat(shape, t)));
      choice.family = Family::kSeparate;
      spec = make_spec(choice);
      for (const auto& [name, values] : parts) CHECK((laid_out(spec, test::find(spec.inputs, name), parts) == values));
    }
  }
}

TEST_CASE("interpreter and packers agree on states", "[oracle]") {
  for (const Geometry& geometry : kGeometries) {
    CAPTURE(geometry.key_heads, geometry.value_heads);
    for (const bool first : {true, false}) {
      Choice choice{geometry};
      choice.conv_sd = choice.state_vk = first;
      spec::Spec spec = make_spec(choice);
      spec.conv.window.value = 5;
      const Shape s = shape_of(choice);
      const Window window{5, numbered(1, s.key_heads * s.key_dim * 5), numbered(2, s.key_heads * s.key_dim * 5),
                          numbered(3, s.value_heads * s.value_dim * 5)};
      const std::vector<double> state = numbered(4, s.value_heads * s.key_dim * s.value_dim);
      CHECK(
          (laid_out(spec, test::find(spec.pools, "conv_state"), {{"q", window.q}, {"k", window.k}, {"v", window.v}}) ==
           (first ? pack_window_sd(s, window) : pack_window_ds(s, window))));
      CHECK((laid_out(spec, test::find(spec.pools, "state"), {{"state", state}}) ==
             (first ? pack_state_vk(s, state) : pack_state_kv(s, state))));
    }
  }
}

TEST_CASE("interleaved and flat rows of Qwen3-Next share 512 of 12288 places", "[oracle]") {
  const Shape shape{16, 32, 128, 128};
  const Token t = token_of(shape);
  const auto interleaved = pack_qkvz_interleaved(shape, t), flat = pack_qkvz_flat(shape, t);
  REQUIRE(interleaved.size() == 12288);
  REQUIRE(flat.size() == 12288);
  int same = 0;
  for (std::size_t i = 0; i < flat.size(); ++i) same += interleaved[i] == flat[i];
  CHECK(same == 512);
}

// Of 16 key heads: 2 of 32 and of 48 value heads are the same one in both, 4 of 64.
TEST_CASE("grouped and tiled pairing share few value heads", "[oracle]") {
  for (const int value_heads : {32, 48, 64}) {
    Choice grouped{{16, value_heads, 16, 16}}, tiled{{16, value_heads, 16, 16}};
    tiled.pairing = core::Pairing::kTiled;
    const spec::Spec g = make_spec(grouped), t = make_spec(tiled);
    int same = 0;
    for (int j = 0; j < 16; ++j) {
      for (int r = 0; r < value_heads / 16; ++r) {
        same += value_head_of(g, j, r) == value_head_of(t, j, r);
        CHECK(key_head_of(g, value_head_of(g, j, r)) == j);
        CHECK(key_head_of(t, value_head_of(t, j, r)) == j);
      }
    }
    CHECK(same == (value_heads == 64 ? 4 : 2));
  }
}

TEST_CASE("an element is described by its coordinates", "[oracle]") {
  spec::Spec spec = make_spec(Choice{});
  const spec::Tensor& qkvz = test::find(spec.inputs, "qkvz");
  CHECK(describe(spec, qkvz, 0) == "q, key head 0, key channel 0");
  CHECK(describe(spec, qkvz, 33) == "k, key head 0, key channel 1");
  // key head 1 begins at 2*32 + 6*48 = 352; its v at 416; its second value head at 464
  CHECK(describe(spec, qkvz, 466) == "v, value head 4 (key head 1, group 1), value channel 2");
  CHECK(describe(spec, qkvz, 704) == "position 704, outside the row");
  CHECK(describe(spec, test::find(spec.pools, "conv_state"), 416) == "q, key head 0, key channel 0, tap 1");
}

TEST_CASE("lists without a meaning are refused", "[oracle]") {
  const spec::Spec spec = make_spec(Choice{});
  struct Row {
    const char* name;
    const char* dims;
    const char* message;
  };
  const Row rows[] = {
      {"v", "token@launch group value_dim", "tensor v: a group without its key_head"},
      {"v", "token@launch key_head value_head group", "tensor v: value_head and group name the same thing"},
      {"v", "key_head token", "tensor v: token is not the first dimension"},
      {"v", "token value_head value_head", "tensor v: dimension value_head appears twice"},
      {"v", "token head", "tensor v: dimension head has no meaning here"},
      {"v", "token value_head tap", "tensor v: only conv weights and conv states have taps"},
  };
  for (const Row& row : rows) {
    CHECK_THROWS_WITH(interpret(spec, test::tensor(row.name, core::DType::kBf16, row.dims)), row.message);
  }
  CHECK_THROWS_WITH(interpret(spec, test::tensor("x", core::DType::kBf16, "token {q: key_head; q: key_head}")),
                    "tensor x: an element of part q lies at two places");
}
