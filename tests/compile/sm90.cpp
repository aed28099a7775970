// The kernels of templates/gdn/sm90 through NVRTC: they compile, keep to their registers, and their machine code holds
// the matrix instructions that were planned, with none of them serialised by ptxas.
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>

#include "compile/compiler.h"
#include "compile/headers.h"
#include "compile/resources.h"
#include "opcodes.h"
#include "support/catch.h"
#include "support/pace.h"

namespace {

using namespace gdn::runtime;

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Kernel {
  std::string call, bounds;
};

Binary compile(const std::string& facts, const Kernel& kernel) {
  Source source{"kernel.cu",
                "#include \"kernels.h\"\nusing F = hand::" + facts +
                    ";\nextern \"C\" __global__ void __launch_bounds__(" + kernel.bounds +
                    ") kernel(const __grid_constant__ gdn::Args args) { hand::" + kernel.call + "(args); }\n",
                template_headers()};
  source.headers.emplace_back("kernels.h", read_file(GDN_SOURCE_DIR "/tests/bench/sm90/kernels.h"));
  Options options;
  options.no_cache = true;
  return make_nvrtc()->compile(source, "sm_90a", options);
}

using gdn::test::count_opcode, gdn::test::kHgmma, gdn::test::kHgmmaShared, gdn::test::kHmma;

struct Row {
  const char* facts;  // key heads, group, K, V, norm, (K, V) order, state, activations
  Kernel kernel;
  int hgmma, hmma, spills;
};

// Of K = 128, 8 k-steps, and a chunk of 64 tokens, 4: S K 8, S Q 8, X M 2 + 4, X R 4, Y K 4 of N = 128 or 8 of N = 64.
// By channel, the levels of L and P are 10 products of 16x8 of each k-step, two more are P's diagonal, and joining
// M and making R takes as many as GDN of one head; its loop over channels leaves no registers for what waits behind it.
constexpr const char* kBf16 = "Facts<16, 2, 128, 128, false, false, float, gdn::Bf16>";
constexpr const char* kOblong = "Facts<2, 3, 96, 192, true, true, gdn::Bf16, gdn::Fp16>";
constexpr const char* kSmall = "Facts<1, 1, 64, 64, true, false, gdn::Fp16, gdn::Bf16>";
constexpr const char* kChannels = "ChannelFacts<32, 1, 128, 128, true, false, float, gdn::Bf16>";
constexpr const char* kOblongChannels = "ChannelFacts<2, 3, 96, 192, true, true, gdn::Bf16, gdn::Fp16>";
const Row kRows[] = {
    {kBf16, {"prep<F>", "128, 4"}, 16, 58, 16},
    {kBf16, {"chain<F, 1>", "256, 1"}, 30, 0, 0},
    {kBf16, {"chain<F, 2>", "384, 1"}, 30, 0, 0},
    {kBf16, {"pair<F>", "256, 1) __cluster_dims__(2, 1, 1"}, 22 + 12, 0, 0},
    {kBf16, {"carry<F>", "384, 1"}, 18, 0, 0},
    {kBf16, {"combine<F>", "256, 1"}, 0, 0, 0},
    {kBf16, {"segment<F, 1>", "256, 1"}, 30, 0, 0},
    // q and k normalised here, a pool in (K, V) order, fp16, K of one and a half tiles, three slices, two turns of
    // heads.
    {kOblong, {"prep<F>", "128, 3"}, 16, 116, 320},
    {kOblong, {"chain<F, 1>", "256, 1"}, 30, 0, 0},
    {kOblong, {"pair<F>", "256, 1) __cluster_dims__(2, 1, 1"}, 34, 0, 0},
    // One tile of K.
    {kSmall, {"prep<F>", "128, 4"}, 8, 29, 0},
    {kSmall, {"chain<F, 1>", "256, 1"}, 22, 0, 0},
    {kChannels, {"prep_channels<F>", "128, 3"}, 0, 2 * 24 + 29, 96},
    {kChannels, {"chain<F, 1>", "256, 1"}, 30, 0, 0},
    {kChannels, {"chain<F, 2>", "384, 1"}, 30, 0, 0},
    {kChannels, {"pair<F>", "256, 1) __cluster_dims__(2, 1, 1"}, 22 + 12, 0, 0},
    {kChannels, {"carry<F>", "384, 1"}, 18, 0, 0},
    {kChannels, {"segment<F, 1>", "256, 1"}, 30, 0, 0},
    {kOblongChannels, {"prep_channels<F>", "128, 3"}, 0, 2 * 24 + 29, 96},
    {kOblongChannels, {"chain<F, 1>", "256, 1"}, 30, 0, 0},
    {kOblongChannels, {"pair<F>", "256, 1) __cluster_dims__(2, 1, 1"}, 34, 0, 0},
};

TEST_CASE("the kernels of a prefill on Hopper hold the planned matrix instructions") {
  for (const Row& row : kRows) {
    INFO(row.kernel.call << " of " << row.facts);
    const gdn::test::Pace pace;
    const std::clock_t start = std::clock();
    const Binary binary = compile(row.facts, row.kernel);
    // Of the processor, not of the wall: other tests may run beside this one.
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    CHECK(count_opcode(binary, "kernel", kHgmma) + count_opcode(binary, "kernel", kHgmmaShared) == row.hgmma);
    CHECK(count_opcode(binary, "kernel", kHmma) == row.hmma);
    // C7510 to C7517: products that wait for each other, for one of several reasons. Information to ptxas.
    CHECK(binary.log.find("C75") == std::string::npos);
    const Resources resources = resources_of(binary, "kernel");
    CHECK(resources.spill_bytes <= row.spills);
    CHECK(seconds < pace.allow(5.0));
  }
}

TEST_CASE("the kernels of a whole layer on Hopper, as emitted, hold the planned matrix instructions") {
  struct Planned {
    const char* name;
    int hgmma;
  };
  // K = V = 128; and K of one and a half tiles, V of three slices.
  const Planned square[] = {{"prep", 16}, {"one", 30}, {"two", 30}, {"pair", 34}, {"carry", 18}, {"segment", 30}};
  const Planned oblong[] = {{"prep", 16}, {"one", 30}, {"pair", 34}};
  const auto check = [](const std::string& spec, const auto& kernels) {
    const std::string symbol = "gdn_" + spec + "_prefill_sm_90a", path = "cuda/" + symbol + ".cu";
    Options options;
    options.no_cache = true;
    const gdn::test::Pace pace;
    const std::clock_t start = std::clock();
    const Binary binary = make_nvrtc()->compile(
        {path, read_file(GDN_SOURCE_DIR "/generated/" + path), template_headers()}, "sm_90a", options);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    CHECK(binary.log.find("C75") == std::string::npos);
    for (const Planned& kernel : kernels) {
      const std::string name = symbol + "_" + kernel.name;
      INFO(name);
      CHECK(count_opcode(binary, name, kHgmma) + count_opcode(binary, name, kHgmmaShared) == kernel.hgmma);
      CHECK(resources_of(binary, name).spill_bytes <= (std::string(kernel.name) == "prep" ? 96 : 32));
    }
    INFO(spec << ": " << seconds << " s");
    CHECK(seconds < pace.allow(10.0));
  };
  check("qwen3_next_80b", square);
  check("olmo_hybrid_7b", oblong);
  // Of KDA prep has none that are a warp group's.
  const Planned by_channel[] = {{"prep", 0}, {"one", 30}, {"two", 30}, {"pair", 34}, {"carry", 18}, {"segment", 30}};
  check("kimi_linear_48b", by_channel);
  check("ling_3_0_tiny", by_channel);
}

TEST_CASE("a product that ptxas serialises is told from the log") {
  // The accumulators are touched between a product and its wait.
  const std::string serial =
      "#include \"gdn/sm90/wgmma.h\"\n"
      "extern \"C\" __global__ void __launch_bounds__(128) kernel(float* to, unsigned a0) {\n"
      "  using namespace gdn::sm90;\n"
      "  float d[32];\n"
      "  for (float& x : d) x = to[threadIdx.x];\n"
      "  unsigned a[4] = {a0, a0, a0, a0};\n"
      "  products_begin();\n"
      "  product_64(d, a, 0, k_major(0), true);\n"
      "  for (float& x : d) x *= 2.0f;\n"
      "  product_64(d, a, 0, k_major(0), true);\n"
      "  products_commit();\n"
      "  products_wait<0>();\n"
      "  for (int i = 0; i < 32; ++i) to[i * 128 + threadIdx.x] = d[i];\n"
      "}\n";
  Options options;
  options.no_cache = true;
  const Binary binary = make_nvrtc()->compile({"serial.cu", serial, template_headers()}, "sm_90a", options);
  CHECK_THAT(binary.log, Catch::Contains("C75"));
}

}  // namespace
