// Prefill's kernels by products of single warps (templates/gdn/mma), as emitted, through NVRTC for every target that
// has them: they compile, keep to their registers, and their machine code holds the products that were planned.
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <string>

#include "compile/compiler.h"
#include "compile/headers.h"
#include "compile/resources.h"
#include "core/prefill.h"
#include "emit/source.h"
#include "layout/resolve.h"
#include "opcodes.h"
#include "plan/choices.h"
#include "support/catch.h"
#include "support/pace.h"
#include "support/specs.h"

using namespace gdn;

namespace {

spec::Spec with_key_dim(const std::string& name, int key_dim) {
  std::string text = test::read_text(std::string(GDN_SOURCE_DIR) + "/specs/" + name + ".yaml");
  const std::size_t at = text.find("  key: 128 ");
  REQUIRE(at != std::string::npos);
  text.replace(at, 11, "  key: " + std::to_string(key_dim) + " ");
  return test::parse_spec(name + ".yaml", text);
}

// Products of the chain's warp a chunk and slice: S K and S Q, 8 of 8 tokens each a step of 16 channels; X M and X R
// below the diagonal of 4x4 blocks, 2 a block; Y K as many as S K.
int chain_products(int key_dim, int slices) { return slices * (3 * 8 * (key_dim / 16) + 2 * 2 * 10); }
// Of prep: K K^T and Q K^T, every warp the code of four blocks of 16; then, a head, joining 3 + 6 and R 20.
int prep_products(int key_dim, int turns, int heads) { return key_dim / 16 * 16 + turns * heads * 29; }
// By channel: a loop over tiles of 64 channels, of which each has 4 steps of 16: the levels of L and P, 10 a step, and
// P's diagonal, 2; a head a block.
constexpr int kChannelProducts = 4 * 12 + 29;

struct Row {
  const char* target;
  const char* operation;
  int most_spills;  // bytes of two slices a block, whose state takes half of a thread's registers
};

void check(const spec::Spec& spec, const Row& row, int wide_spills) {
  const layout::Layout layout = layout::resolve(spec);
  const plan::Target& target = *plan::find_target(row.target);
  plan::TuningTable tuning = plan::TuningTable::none();
  plan::Choices choices = plan::model_bands(target, row.operation, layout.numbers)[0].choices;
  choices.emplace_back("warps", 1);
  tuning.set(row.target, row.operation, layout.spec, {{0, choices}});
  const plan::Planned planned = plan::make(layout, row.operation, target, tuning);
  const core::KernelPlan& plan = planned.kernel;
  REQUIRE(core::prefill_set(plan) == core::PrefillSet::kWarps);
  const emit::EmittedFile file = emit::source(planned);
  runtime::Options options;
  options.no_cache = true;
  const test::Pace pace;
  const std::clock_t start = std::clock();
  const runtime::Binary binary =
      runtime::make_nvrtc()->compile({file.path, file.text, runtime::template_headers()}, row.target, options);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const core::Facts& f = plan.facts;
  // Whole tiles of 64 channels in prep.
  const int tiles = (f.key_dim + 63) / 64, heads = std::min(2, f.group), turns = (f.group + heads - 1) / heads;
  for (const core::PrefillKernel& kernel : core::prefill_kernels(plan)) {
    const std::string symbol = plan.symbol + "_" + std::string(kernel.name);
    INFO(symbol);
    const bool two = kernel.name == "two";
    const int of_prep = f.rule == core::Rule::kKda ? kChannelProducts : prep_products(64 * tiles, turns, heads);
    CHECK(test::count_opcode(binary, symbol, test::kHmma) ==
          (kernel.name == "prep" ? of_prep : chain_products(f.key_dim, two ? 2 : 1)));
    const runtime::Resources resources = runtime::resources_of(binary, symbol);
    CAPTURE(resources.registers, resources.spill_bytes);
    CHECK(resources.spill_bytes <= (two ? row.most_spills : wide_spills));
  }
  INFO(plan.symbol << ": " << seconds << " s");
  fmt::print("{}: {:.1f} s\n", plan.symbol, seconds);
  CHECK(seconds < pace.allow(10.0));
}

}  // namespace

TEST_CASE("single warps: the planned products, and registers that hold what they need, K = V = 128") {
  const spec::Spec spec = test::released("qwen3_next_80b");
  for (const Row& row : {Row{"sm_80", "chunk_delta", 200},
                         {"sm_80", "prefill", 200},
                         {"sm_90a", "chunk_delta", 320},
                         {"sm_100a", "prefill", 250},
                         {"sm_120a", "prefill", 200}}) {
    check(spec, row, 0);
  }
}

TEST_CASE("single warps: the planned products where channels decay by themselves") {
  for (const Row& row : {Row{"sm_80", "chunk_delta", 420}, {"sm_100a", "prefill", 250}, {"sm_120a", "prefill", 60}}) {
    check(test::released("kimi_linear_48b"), row, 16);
  }
}

TEST_CASE("single warps: the planned products of K = 96, V = 192 and of K = 256") {
  for (const char* target : {"sm_80", "sm_120a"}) check(test::released("olmo_hybrid_7b"), {target, "prefill", 0}, 0);
  for (const char* target : {"sm_80", "sm_90a", "sm_100a", "sm_120a"}) {
    check(with_key_dim("qwen3_next_80b", 256), {target, "chunk_delta", 0},
          96);  // prep, or the state, takes all registers
    check(with_key_dim("kimi_linear_48b", 256), {target, "chunk_delta", 0}, 96);
  }
}
