// One rank's layout against the whole one: every element that a rank holds is found, part by part, at the address that
// cutting the heads gives; and a number of ranks that can't be is refused with those that can.
#include "layout/resolve.h"
#include "layout/shard.h"
#include "spec/parser.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;
using layout::Coordinates;

namespace {

const layout::PartLayout& part_of(const layout::Layout& layout, const char* tensor, const char* part) {
  const layout::PartLayout* found = layout.tensor(tensor).find(part);
  if (found == nullptr) throw std::runtime_error(std::string(tensor) + " has no part " + part);
  return *found;
}

}  // namespace

TEST_CASE("ranks that a model's heads allow") {
  using Ranks = std::vector<int>;
  CHECK(layout::legal_ranks(test::released("qwen3_5_27b")) == Ranks{1, 2, 4, 8, 16});
  CHECK(layout::legal_ranks(test::released("olmo_hybrid_7b")) == Ranks{1, 2, 3, 5, 6, 10, 15, 30});
  CHECK(layout::legal_ranks(test::fuzz("fuzz_gdn")) == Ranks{1, 2});
  CHECK(layout::legal_ranks(test::released("more/berrylm_os")) == Ranks{1, 2, 4, 8, 16});
}

TEST_CASE("a number of ranks that the heads can't share is refused with the legal ones") {
  const spec::Spec olmo = test::released("olmo_hybrid_7b");
  for (const int ranks : {0, -1, 4, 8, 31, 60}) {
    INFO(ranks);
    std::string message;
    try {
      layout::shard(olmo, ranks);
    } catch (const layout::Unshardable& error) {
      message = error.what();
    }
    CHECK(message.find("heads.key = 30") != std::string::npos);
    CHECK(message.find("--tp can be 1, 2, 3, 5, 6, 10, 15, 30") != std::string::npos);
  }
}

TEST_CASE("one rank is the spec as it is") {
  const spec::Spec whole = test::released("qwen3_next_80b");
  const layout::Layout a = layout::resolve(whole), b = layout::resolve(layout::shard(whole, 1));
  CHECK(a.spec == b.spec);
  for (const char* tensor : {"qkvz", "state", "conv_state"}) {
    CHECK(layout::identity(a, a.tensor(tensor)) == layout::identity(b, b.tensor(tensor)));
  }
}

TEST_CASE("the heads' entries of a padded A_log are cut, not the stored ones") {
  // 96 heads, 128 entries: a quarter of the stored ones would give the last rank nothing but zeros.
  const spec::Spec whole = test::released("more/kimi_k3");
  CHECK(layout::legal_ranks(whole) == std::vector<int>{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 96});
  const layout::Layout layout = layout::resolve(whole);
  CHECK(layout.tensor("a_log").inner == 128);
  CHECK(layout::identity(layout, layout.tensor("a_log")).text == "fp32 a_log:[value_head:96] a_log=log entries=128");
  const layout::Layout rank = layout::resolve(layout::shard(whole, 4));
  CHECK(rank.tensor("a_log").inner == 24);
  CHECK(layout::identity(rank, rank.tensor("a_log")).text == "fp32 a_log:[value_head:24] a_log=log");
  CHECK(rank.tensor("dt_bias").inner == 24 * 128);
  CHECK(layout::shards_text(layout, 4).find(
            "  a_log: a_log 24 of 96 elements; the 32 zeros behind them are no rank's\n") != std::string::npos);
}

TEST_CASE("each of q, k, v and z is cut by itself") {
  const layout::Layout rank = layout::resolve(layout::shard(test::released("qwen3_5_27b"), 4));
  CHECK(rank.spec == "qwen3_5_27b_tp4");
  // flat: 4 key heads and 12 value heads of 128 each. One slice of the whole row would be 16384 / 4 elements of q, k
  // and some of v.
  CHECK(part_of(rank, "qkvz", "q").offset == 0);
  CHECK(part_of(rank, "qkvz", "k").offset == 512);
  CHECK(part_of(rank, "qkvz", "v").offset == 1024);
  CHECK(part_of(rank, "qkvz", "z").offset == 2560);
  CHECK(rank.tensor("qkvz").inner == 4096);
  CHECK(rank.tensor("ba").inner == 24);
  CHECK(rank.tensor("conv_state").inner == 3 * 2560);
  CHECK(rank.tensor("conv_weight").inner == 4 * 2560);
  CHECK(rank.tensor("state").inner == 12 * 128 * 128);
  CHECK(rank.tensor("norm_weight").inner == 128);  // has no heads: replicated
  CHECK(rank.numbers.group == 3);
}

TEST_CASE("the ranks together hold every element of the whole once") {
  // With copying part by part from the whole row into the ranks' rows, each element of a rank comes from the place that
  // its heads have in the whole.
  for (const std::string& file : test::all_specs()) {
    const spec::Spec spec = test::load_spec(file);
    const layout::Layout whole = layout::resolve(spec);
    for (const int ranks : layout::legal_ranks(spec)) {
      if (ranks > 4) continue;
      INFO(file << " on " << ranks);
      const layout::Layout rank = layout::resolve(layout::shard(spec, ranks));
      const core::Facts& w = whole.numbers;
      const core::Facts& n = rank.numbers;
      CHECK(n.group == w.group);
      for (const char* part : {"q", "v", "b"}) {
        const layout::TensorLayout* from = nullptr;
        for (const layout::TensorLayout& tensor : whole.inputs) {
          if (tensor.find(part) != nullptr) from = &tensor;
        }
        REQUIRE(from);
        const layout::TensorLayout& to = rank.tensor(from->name);
        CHECK(to.inner * ranks == from->inner);
        std::vector<int> seen(static_cast<std::size_t>(from->inner), 0), filled(static_cast<std::size_t>(to.inner), 0);
        const bool key = part[0] == 'q';
        const int heads = key ? n.key_heads : n.value_heads;
        const int channels = part[0] == 'b' ? 1 : key ? n.key_dim : n.value_dim;
        for (int r = 0; r < ranks; ++r) {
          for (int h = 0; h < heads; ++h) {
            // The key head of a local value head, moved by the rank's first key head.
            const bool grouped = n.pairing == core::Pairing::kGrouped;
            const int j = key ? h : grouped ? h / n.group : h % n.key_heads;
            const int g = key ? 0 : grouped ? h % n.group : h / n.key_heads;
            const int whole_j = r * n.key_heads + j;
            const int whole_h = key ? whole_j : grouped ? whole_j * w.group + g : g * w.key_heads + whole_j;
            for (int c = 0; c < channels; ++c) {
              Coordinates at, whole_at;
              at.key_head = at.value_head = h;
              whole_at.key_head = whole_at.value_head = whole_h;
              at.key_dim = at.value_dim = whole_at.key_dim = whole_at.value_dim = c;
              ++seen.at(static_cast<std::size_t>(layout::address(w, *from->find(part), whole_at)));
              if (r == 0) ++filled.at(static_cast<std::size_t>(layout::address(n, *to.find(part), at)));
            }
          }
        }
        const auto ones = [](const std::vector<int>& counts) { return std::count(counts.begin(), counts.end(), 1); };
        CHECK(ones(seen) == static_cast<std::ptrdiff_t>(heads) * channels * ranks);
        CHECK(ones(filled) == static_cast<std::ptrdiff_t>(heads) * channels);
      }
    }
  }
}

TEST_CASE("what each rank holds, for people") {
  const layout::Layout flat = layout::resolve(test::released("qwen3_5_27b"));
  const std::string text = layout::shards_text(flat, 8);
  CHECK(text.find("rank r of 8, r = 0 to 7: key heads 2r to 2r+1; value heads 6r to 6r+5") == 0);
  CHECK(
      text.find("qkvz: q 256 of 2048, k 256 of 2048, v 768 of 6144, z 768 of 6144 elements; each part cut by itself") !=
      std::string::npos);
  CHECK(text.find("replicated: norm_weight, slots") != std::string::npos);
  const std::string next = layout::shards_text(layout::resolve(test::released("qwen3_next_80b")), 16);
  CHECK(next.find("key head r; value heads 2r to 2r+1") != std::string::npos);
  CHECK(next.find("z 256 of 4096 elements; key head by key head, so a rank's row is one slice") != std::string::npos);
  CHECK(next.find("conv_state: q 384 of 6144, k 384 of 6144, v 768 of 12288 elements; each part cut by itself") !=
        std::string::npos);
  const std::string path = std::string(GDN_SOURCE_DIR) + "/specs/qwen3_5_27b.yaml";
  const spec::Spec tiled = test::variant(path, "pairing: grouped", "pairing: tiled");
  CHECK(layout::shards_text(layout::resolve(tiled), 4).find("value heads g*16 + 4r to g*16 + 4r+3 for g = 0 to 2") !=
        std::string::npos);
}

TEST_CASE("a replicated tensor stays whole, and the text says where a rank's heads are") {
  const std::string folder = std::string(GDN_SOURCE_DIR) + "/specs/";
  std::vector<spec::Source> sources;
  for (const char* file : {"qwen3_5_27b.yaml", "engines/vllm_sd.yaml", "engines/vllm_quantised.yaml"}) {
    sources.push_back({folder + file, test::read_text(folder + file)});
  }
  spec::Diagnostics diagnostics;
  const std::optional<spec::Spec> spec = spec::check(sources, diagnostics);
  INFO(spec::render(diagnostics, sources));
  REQUIRE(spec);
  const layout::Layout whole = layout::resolve(*spec);
  CHECK(whole.tensor("b").replicated);
  CHECK_FALSE(whole.tensor("qkvz").replicated);
  const std::string text = layout::shards_text(whole, 8);
  CHECK(text.find("b: every rank has all 48 elements of a row and reads elements 6r to 6r+5;") != std::string::npos);
  CHECK(text.find("replicated: b, a, ") != std::string::npos);
  // The kernel of a rank is made for its own heads; the row stride comes with the launch.
  const layout::Layout rank = layout::resolve(layout::shard(*spec, 8));
  CHECK(rank.tensor("b").inner == 6);
  CHECK(rank.tensor("b").launch_stride);
}
