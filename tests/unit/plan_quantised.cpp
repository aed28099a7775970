// What a quantised output makes of plans, identities and views: the accidents that a launch must refuse.
#include <cstdint>
#include <string>
#include <vector>

#include "check.h"
#include "layout/resolve.h"
#include "layout/shard.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/refused.h"
#include "support/specs.h"
#include "support/thrown.h"

using namespace gdn;

namespace {

const plan::Target& target(const char* name) { return *plan::find_target(name); }

std::string file(const std::string& name) { return std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml"; }

layout::Layout of(const std::string& name) { return layout::resolve(test::fuzz(name)); }

// The operands of a plan at some address, as an owner with that layout would hand them over.
struct Given {
  core::KernelPlan plan;
  int rows;
  std::vector<runtime::View> views;

  Given(const layout::Layout& layout, const char* operation, int batch) : rows(batch) {
    plan = plan::make(layout, operation, target("sm_90a")).kernel;
    std::uintptr_t address = 1 << 20;
    for (const core::Operand& operand : plan.operands) {
      runtime::View view;
      view.data = reinterpret_cast<void*>(address);
      address += 1 << 24;
      view.dtype = operand.dtype;
      view.layout = operand.layout;
      if (operand.leading == core::Leading::kScaleGroup) {
        view.sizes = {operand.inner, rows};
        view.strides = {rows, 1};
      } else if (operand.leading == core::Leading::kToken) {
        view.sizes = {rows, operand.inner};
        view.strides = {operand.inner, 1};
      } else {
        view.sizes = {operand.inner};
        view.strides = {1};
      }
      views.push_back(std::move(view));
    }
  }
  runtime::View& scales() { return views.back(); }
  test::Thrown check() const {
    return test::thrown_by([this] { runtime::check(plan, rows, 1, views); });
  }
};

}  // namespace

TEST_CASE("groups that straddle heads: norm_quant has a plan, decode says why not") {
  const layout::Layout layout = of("fuzz_quant_straddle");
  CHECK(layout.numbers.quant_group == 128);
  CHECK(layout.tensor("out_scale").inner == 9);
  for (const char* name : {"sm_80", "sm_90a", "gfx942"}) {
    CHECK(test::refusal(layout, "norm_quant", target(name)).empty());
    const std::string why = test::refusal(layout, "decode", target(name));
    CHECK(why.find("output_quant.group = 128 does not divide a value head of 192 channels") != std::string::npos);
    CHECK(why.find("norm_quant") != std::string::npos);
  }
  // Two heads are three groups: a block has them whole.
  const core::KernelPlan plan = plan::make(layout, "norm_quant", target("sm_90a")).kernel;
  CHECK(6 % plan.launch.blocks_per_row == 0);
  CHECK(6 / plan.launch.blocks_per_row % 2 == 0);
  CHECK(test::refusal(of("fuzz_quant_token"), "decode", target("sm_90a")).find("288") != std::string::npos);
  CHECK(test::refusal(of("fuzz_quant_head"), "decode", target("sm_90a")).empty());
}

TEST_CASE("a group that shares no channel with a head is more than a block can hold") {
  // 5 * 13 heads of 256 channels in groups of 65: a piece is one channel.
  spec::Spec odd = test::fuzz("fuzz_quant_straddle");
  odd.heads.key.value = 13;
  odd.heads.value.value = 65;
  odd.dims.value.value = 256;
  odd.output_quant.group.value = 65;
  const std::string why = test::refusal(layout::resolve(odd), "norm_quant", target("sm_90a"));
  CHECK(why.find("bytes of shared memory a block") != std::string::npos);
}

TEST_CASE(
    "a CPU target quantises within heads by every operation, and rows of groups that straddle them by norm_quant") {
  for (const char* name : {"avx2", "avx512bf16", "amx"}) {
    for (const char* operation : {"decode", "norm_quant", "prefill"}) {
      CHECK(test::refusal(of("fuzz_quant_head"), operation, target(name)).empty());
    }
    const layout::Layout straddles = of("fuzz_quant_straddle");
    CHECK(plan::make(straddles, "norm_quant", target(name)).kernel.launch.blocks_per_row == 1);
    for (const char* operation : {"decode", "prefill"}) {
      const std::string why = test::refusal(straddles, operation, target(name));
      CHECK(why.find("needs heads that other threads compute") != std::string::npos);
      CHECK(why.find("quantise it with norm_quant") != std::string::npos);
    }
  }
}

TEST_CASE("scales token by token and group by group are two layouts, most of all where no shape tells them apart") {
  const spec::Spec by_group = test::fuzz("fuzz_quant_group");
  const spec::Spec by_token =
      test::variant(file("fuzz_quant_group"), "[scale_group@launch, token]", "[token@launch, scale_group]");
  const layout::Layout a = layout::resolve(by_group), b = layout::resolve(by_token);
  CHECK(layout::identity(a, a.tensor("out_scale")) != layout::identity(b, b.tensor("out_scale")));
  CHECK(layout::identity(a, a.tensor("out")) == layout::identity(b, b.tensor("out")));

  const int rows = 18;  // as many as groups
  Given given(a, "norm_quant", rows);
  CHECK_FALSE(given.check().code);
  given.scales().layout =
      layout::identity(b, b.tensor("out_scale"));  // its owner's word; sizes and strides are the same
  CHECK(given.check().code == runtime::Code::kLayoutMismatch);
  CHECK(given.check().has("out_scale"));
}

TEST_CASE("scales of another group's size are refused") {
  const layout::Layout layout = of("fuzz_quant_group");
  Given given(layout, "norm_quant", 5);
  CHECK_FALSE(given.check().code);
  // The owner thinks of heads: 6 scales a token.
  given.scales().sizes = {6, 5};
  CHECK(given.check().code == runtime::Code::kSizeMismatch);
  CHECK(given.check().has("18 groups"));
  given.scales().sizes = {18, 4};
  CHECK(given.check().code == runtime::Code::kSizeMismatch);
  given.scales().sizes = {18 * 5};
  given.scales().strides = {1};
  CHECK(given.check().code == runtime::Code::kSizeMismatch);
  given.scales().sizes = {18, 8};  // a larger buffer
  given.scales().strides = {8, 1};
  CHECK_FALSE(given.check().code);
  given.scales().strides = {1, 18};  // the transpose
  CHECK(given.check().code == runtime::Code::kStrideMismatch);

  Given rows(of("fuzz_quant_head"), "norm_quant", 5);
  CHECK_FALSE(rows.check().code);
  rows.scales().sizes = {5, 18};
  CHECK(rows.check().code == runtime::Code::kSizeMismatch);
}

TEST_CASE("scales group by group may not share memory with the output") {
  Given given(of("fuzz_quant_group"), "norm_quant", 5);
  given.scales().data = static_cast<unsigned char*>(given.views[given.views.size() - 2].data) + 288 * 4;
  CHECK(given.check().code == runtime::Code::kOverlap);
}

TEST_CASE("a rank's groups are whole, or the layer can't be cut") {
  const spec::Spec heads = layout::shard(test::fuzz("fuzz_quant_head"), 2);
  CHECK(layout::resolve(heads).tensor("out_scale").inner == 3);
  CHECK(layout::legal_ranks(test::fuzz("fuzz_quant_straddle")) == std::vector<int>{1});
  // 3 heads of 192 channels a rank, in groups of 128
  CHECK_THROWS_WITH(layout::shard(test::fuzz("fuzz_quant_straddle"), 2), Catch::Contains("groups of 128 channels"));
}

TEST_CASE("every number of the quantisation is in the kernel's identity") {
  const std::string name = "fuzz_quant_head";
  const auto identity = [&](const spec::Spec& spec) {
    return plan::make(layout::resolve(spec), "norm_quant", target("sm_90a")).kernel.identity;
  };
  const core::Identity plain = identity(test::fuzz(name));
  for (const auto& [from, to] : {std::pair<const char*, const char*>{"max: 448", "max: 240"},
                                 {"floor_at: amax", "floor_at: scale"},
                                 {"floor: 1e-10", "floor: 1e-9"},
                                 {"scale: fp32", "scale: ue8m0"},
                                 {"from: fp32", "from: bf16"},
                                 {"arithmetic: divide", "arithmetic: reciprocal"}}) {
    CAPTURE(to);
    CHECK(identity(test::variant(file(name), from, to)) != plain);
  }
}

TEST_CASE("drafts take states of 8 bits on every target; operations of whole sequences say why they can't") {
  const std::string state = "  state: {dtype: fp32, dims: [slot@launch, value_head, value_dim, key_dim]}\n";
  const auto eight = [&](const char* name) {
    std::string text = test::read_text(file(name));
    const std::size_t at = text.find(state);
    REQUIRE(at != std::string::npos);
    text.replace(at, state.size(),
                 "  state: {dtype: e4m3fn, dims: [slot@launch, value_head, value_dim, key_dim]}\n"
                 "  state_scale: {dtype: fp32, dims: [slot@launch, value_head, value_dim]}\n");
    return layout::resolve(test::parse_spec(std::string(name) + ".yaml", text));
  };
  const layout::Layout drafts = eight("fuzz_spec_slots"), whole = eight("fuzz_gdn");
  for (const char* on : {"sm_80", "sm_90a", "gfx942", "avx2", "avx512bf16", "amx"}) {
    INFO(on);
    for (const char* operation : {"decode", "decode_spec", "state_commit"}) {
      CHECK(test::refusal(drafts, operation, target(on)).empty());
    }
    for (const char* operation : {"chunk_delta", "prefill"}) {
      const std::string why = test::refusal(whole, operation, target(on));
      INFO(why);
      CHECK(why.find(std::string(operation) + " on " + on + ": pools.state is e4m3fn") == 0);
      CHECK(why.find("no kernel of whole sequences has an 8-bit state: it rounds what it stores to nearest") !=
            std::string::npos);
      CHECK(why.find("Let decode take the tokens one by one; or keep the state of sequences under way in 16 or 32") !=
            std::string::npos);
    }
  }
}
