// Every file in generated/ compiles to machine code for its target, from the text that is checked in, with nothing
// spilled, no local memory and, on AMD, no access whose memory the compiler did not know. A missing compiler fails.
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "compile/compiler.h"
#include "compile/headers.h"
#include "compile/resources.h"
#include "emit/source.h"
#include "layout/resolve.h"
#include "plan/operation.h"
#include "plan/plan.h"
#include "plan/target.h"
#include "support/catch.h"
#include "support/pace.h"
#include "support/specs.h"

using namespace gdn;

namespace {

struct Emitted {
  std::string path, target;
  std::vector<std::string> symbols;  // the kernel's, then those of its stages
};

std::vector<Emitted> emitted(plan::Family family) {
  const auto manifest =
      nlohmann::json::parse(test::read_text(std::string(GDN_SOURCE_DIR) + "/generated/manifest.json"));
  std::vector<Emitted> files;
  for (const auto& kernel : manifest.at("kernels")) {
    const std::string target = kernel.at("target");
    if (plan::find_target(target)->family != family) continue;
    std::vector<std::string> symbols = kernel.at("stages");
    symbols.insert(symbols.begin(), kernel.at("symbol").get<std::string>());
    files.push_back({kernel.at("path"), target, std::move(symbols)});
  }
  return files;
}

// The kernels of a source besides those that are named: a plan's entry points for few rows.
std::vector<std::string> with_variants(const std::string& text, std::vector<std::string> symbols) {
  static const std::regex kEntry("GDN_(?:RESIDENT_|CLUSTER_)?KERNEL\\([^)]*\\) (\\w+)\\(const gdn::Args");
  for (std::sregex_iterator at(text.begin(), text.end(), kEntry), end; at != end; ++at) {
    const std::string symbol = (*at)[1];
    if (std::find(symbols.begin(), symbols.end(), symbol) == symbols.end()) symbols.push_back(symbol);
  }
  return symbols;
}

// `array_bytes`: of a small array that a thread indexes (the words of a random number), which NVIDIA's compilers keep
// on the stack. So they do with the sums of a pass in kernels for few rows, of which each lane takes one.
void expect_lean(const runtime::Compiler& compiler, const runtime::Source& source,
                 const std::vector<std::string>& named, const std::string& target, int array_bytes = 0,
                 int lane_bytes = 16) {
  const std::vector<std::string> symbols = with_variants(source.text, named);
  runtime::Options options;
  options.assembly = true;
  INFO(source.name << " for " << target);
  const runtime::Binary binary = compiler.compile(source, target, options);
  CHECK(binary.bytes.size() > 256);
  for (const std::string& symbol : symbols) {
    INFO(symbol);
    const runtime::Resources resources = runtime::resources_of(binary, symbol);
    CHECK(resources.registers > 0);
    CHECK(resources.spill_bytes == 0);
    CHECK(resources.lane_bytes <=
          lane_bytes);  // four scalar registers in lanes are four instructions, outside of any loop
    const bool of_few_rows = std::find(named.begin(), named.end(), symbol) == named.end();
    const int allowed = target.substr(0, 3) == "sm_" ? std::max(array_bytes, of_few_rows ? 32 : 0) : 0;
    CHECK(resources.stack_bytes <= allowed);
    if (allowed == 0) CHECK_FALSE(resources.has_scratch);
    CHECK_FALSE(resources.has_flat);
  }
}

// Kernels of speculative decoding, which no released model's spec asks for by itself: a model with an engine's
// overlays.
void compile_speculative(plan::Family family, const runtime::Compiler& compiler) {
  const std::vector<std::vector<std::string>> combinations = {
      {"qwen3_5_27b", "engines/vllm_sd", "engines/mtp3"},
      {"qwen3_next_80b", "engines/vllm_ds", "engines/replay3"},
      {"olmo_hybrid_7b", "engines/transformers", "engines/replay3"}};
  for (const std::vector<std::string>& files : combinations) {
    std::vector<spec::Source> sources;
    for (const std::string& file : files) {
      const std::string path = std::string(GDN_SOURCE_DIR) + "/specs/" + file + ".yaml";
      sources.push_back({path, test::read_text(path)});
    }
    spec::Diagnostics diagnostics;
    const std::optional<spec::Spec> spec = spec::check(sources, diagnostics);
    INFO(spec::render(diagnostics, sources));
    REQUIRE(spec);
    layout::Layout layout = layout::resolve(*spec);
    for (const plan::Target& target : plan::targets()) {
      if (target.family != family || !compiler.knows(target.name)) continue;
      for (const char* operation : {"decode_spec", "state_commit"}) {
        const plan::Planned planned = plan::make(layout, operation, target);
        emit::EmittedFile file = emit::source(planned);
        expect_lean(compiler, {file.path, std::move(file.text), runtime::template_headers()}, {planned.kernel.symbol},
                    planned.kernel.target);
      }
    }
  }
}

void compile_all(plan::Family family, const runtime::Compiler& compiler) {
  const std::vector<Emitted> files = emitted(family);
  REQUIRE(!files.empty());
  for (const Emitted& file : files) {
    const runtime::Source source{file.path, test::read_text(std::string(GDN_SOURCE_DIR) + "/generated/" + file.path),
                                 runtime::template_headers()};
    // A convolved part's way to its rows, weights and windows: up to 17 scalars in lanes on gfx90a where each part has
    // a pool of windows of its own, outside of the loop over taps.
    const bool convolves = file.path.find("_conv_prefill_gfx9") != std::string::npos;
    expect_lean(compiler, source, file.symbols, file.target, 0, convolves ? 68 : 16);
  }
}

// Of some targets generated/ keeps one operation: the others, from specs whose sizes are all different. Not the plain
// body of chunk_delta, whose tiles are more than a thread's registers hold.
void compile_left_out(plan::Family family, const runtime::Compiler& compiler) {
  int compiled = 0;
  for (const char* spec : {"fuzz_gdn", "fuzz_kda"}) {
    const layout::Layout layout = layout::resolve(test::fuzz(spec));
    for (const plan::Target& target : plan::targets()) {
      if (target.family != family || target.kept.empty()) continue;
      for (const std::string_view operation : plan::operations_on(layout, target)) {
        if (operation == "chunk_delta") continue;
        const plan::Planned planned = plan::make(layout, operation, target);
        emit::EmittedFile file = emit::source(planned);
        expect_lean(compiler, {file.path, std::move(file.text), runtime::template_headers()}, {planned.kernel.symbol},
                    planned.kernel.target);
        ++compiled;
      }
    }
  }
  CHECK(compiled >= 24);
}

// Numbers that no released spec asks of a decode by itself: outputs of 8 bits, of GDN and of KDA, states of 8 bits and
// states rounded by chance in both orders.
void compile_numbers(plan::Family family, const runtime::Compiler& compiler) {
  constexpr int kStateScalars =
      512;  // AMD: addresses of scales, or words of a random number, that a wave has in common
  struct Laid {
    const char* model;
    const char* name;  // of the overlay
    std::string overlay;
    std::vector<const char*> operations;
  };
  const auto engine = [](const char* name) {
    return test::read_text(std::string(GDN_SOURCE_DIR) + "/specs/engines/" + name + ".yaml");
  };
  const std::string head = "gdn_gen: 1\noverlay: test\nengine: a test\n";
  const std::string scales = "  state_scale: {dtype: fp32, dims: [slot@launch, value_head, value_dim]}\n";
  const std::string by_rows = "dims: [slot@launch, value_head, value_dim, key_dim]}\n";
  const std::string by_columns = "dims: [slot@launch, value_head, key_dim, value_dim]}\n";
  const std::string by_chance = "rounding: {state: stochastic}\n";
  const std::string drafts =
      "conv: {window: 6, anchor: first}\n"
      "speculative: {tokens: 4, scheme: slots, counts: tokens, accepted: int32, offsets: int32}\n";
  const std::vector<const char*> spec_operations = {"decode_spec", "state_commit"};
  const std::vector<Laid> all = {
      {"qwen3_next_80b", "fp8_aiter", engine("fp8_aiter"), {"decode", "norm_quant"}},
      {"kimi_linear_48b", "fp8_vllm_group", engine("fp8_vllm_group"), {"decode", "norm_quant"}},
      {"olmo_hybrid_7b", "fp8_vllm_token", engine("fp8_vllm_token"), {"norm_quant"}},
      {"qwen3_next_80b", "vllm_core", engine("vllm_core"), {"decode"}},
      {"qwen3_next_80b", "test", head + "pools:\n  state: {dtype: e4m3fn, " + by_rows + scales, {"decode"}},
      {"kimi_linear_48b", "test", head + "pools:\n  state: {dtype: e4m3fn, " + by_columns + scales, {"decode"}},
      {"qwen3_next_80b", "test", head + "pools:\n  state: {dtype: bf16, " + by_rows + by_chance, {"decode"}},
      {"kimi_linear_48b", "test", head + "pools:\n  state: {dtype: bf16, " + by_rows + by_chance, {"decode"}},
      {"qwen3_next_80b", "test", head + "pools:\n  state: {dtype: bf16, " + by_columns + by_chance, {"decode"}},
      {"kimi_linear_48b", "test", head + "pools:\n  state: {dtype: fp16, " + by_columns + by_chance, {"decode"}},
      {"qwen3_next_80b", "test", head + drafts + "pools:\n  state: {dtype: e4m3fn, " + by_rows + scales,
       spec_operations},
      {"olmo_hybrid_7b", "test", head + drafts + "pools:\n  state: {dtype: e4m3fn, " + by_columns + scales,
       spec_operations},
      {"qwen3_next_80b", "test", head + drafts + "pools:\n  state: {dtype: bf16, " + by_rows + by_chance,
       spec_operations}};
  for (const Laid& laid : all) {
    const std::string model = std::string(GDN_SOURCE_DIR) + "/specs/" + laid.model + ".yaml";
    const std::vector<spec::Source> sources = {{model, test::read_text(model)},
                                               {laid.name + std::string(".yaml"), laid.overlay}};
    spec::Diagnostics diagnostics;
    const std::optional<spec::Spec> spec = spec::check(sources, diagnostics);
    INFO(spec::render(diagnostics, sources));
    REQUIRE(spec);
    const layout::Layout layout = layout::resolve(*spec);
    for (const plan::Target& target : plan::targets()) {
      if (target.family != family || !compiler.knows(target.name)) continue;
      for (const char* operation : laid.operations) {
        const plan::Planned planned = plan::make(layout, operation, target);
        emit::EmittedFile file = emit::source(planned);
        expect_lean(compiler, {file.path, std::move(file.text), runtime::template_headers()}, {planned.kernel.symbol},
                    planned.kernel.target, laid.overlay.find("stochastic") != std::string::npos ? 16 : 0,
                    kStateScalars);
      }
    }
  }
}

// What prefill may do beyond what released specs ask for: snapshots on the way, an output in 8 bits, or o itself.
void compile_extras(plan::Family family, const runtime::Compiler& compiler) {
  for (const char* spec :
       {"fuzz_snapshots", "fuzz_kda_snapshots", "fuzz_quant_group", "fuzz_quant_straddle", "fuzz_no_norm"}) {
    const layout::Layout layout = layout::resolve(test::fuzz(spec));
    for (const plan::Target& target : plan::targets()) {
      if (target.family != family || !compiler.knows(target.name)) continue;
      for (const char* operation : {"conv_prefill", "prefill"}) {
        const plan::Planned planned = plan::make(layout, operation, target);
        emit::EmittedFile file = emit::source(planned);
        std::vector<std::string> symbols = {planned.kernel.symbol};
        for (const core::Stage& stage : planned.kernel.stages) symbols.push_back(stage.symbol);
        // Seven scalars in lanes where the operands of snapshots come on top of three windows' own pools.
        expect_lean(compiler, {file.path, std::move(file.text), runtime::template_headers()}, symbols,
                    planned.kernel.target, 0, 28);
      }
    }
  }
}

}  // namespace

#if defined(GDN_TEST_CUDA)
TEST_CASE("every emitted CUDA file compiles with NVRTC") { compile_all(plan::Family::kCuda, *runtime::make_nvrtc()); }

TEST_CASE("kernels of speculative decoding compile with NVRTC") {
  compile_speculative(plan::Family::kCuda, *runtime::make_nvrtc());
}

TEST_CASE("decodes of other numbers than released ones compile with NVRTC") {
  compile_numbers(plan::Family::kCuda, *runtime::make_nvrtc());
}

TEST_CASE("NVRTC compiles the operations that generated/ does not keep") {
  compile_left_out(plan::Family::kCuda, *runtime::make_nvrtc());
}

TEST_CASE("NVRTC compiles what released specs do not ask of prefill") {
  compile_extras(plan::Family::kCuda, *runtime::make_nvrtc());
}

TEST_CASE("a decode kernel compiles within half a second") {
  // A file holds a kernel for each band of batch sizes. Processor time, the best of three: the machine may be busy with
  // other tests, the compiler is not slower for that.
  const auto nvrtc = runtime::make_nvrtc();
  const std::string path = "cuda/gdn_qwen3_next_80b_decode_sm_90a.cu";
  const runtime::Source source{path, test::read_text(std::string(GDN_SOURCE_DIR) + "/generated/" + path),
                               runtime::template_headers()};
  int kernels = 0;
  for (std::size_t at = 0; (at = source.text.find("(const gdn::Args args)", at)) != std::string::npos; ++at) ++kernels;
  REQUIRE(kernels >= 1);
  runtime::Options options;
  options.no_cache = true;
  const test::Pace pace;
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const std::clock_t begin = std::clock();
    nvrtc->compile(source, "sm_90a", options);
    best = std::min(best, static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
  }
  fmt::print("NVRTC, decode of Qwen3-Next for sm_90a, no cache: {} kernels in {:.2f} s\n", kernels, best);
  CHECK(best / kernels < pace.allow(0.5));
}
#elif defined(GDN_TEST_HIP)
TEST_CASE("every emitted HIP file compiles with clang") { compile_all(plan::Family::kHip, *runtime::make_clang()); }

TEST_CASE("kernels of speculative decoding compile with clang") {
  compile_speculative(plan::Family::kHip, *runtime::make_clang());
}

TEST_CASE("decodes of other numbers than released ones compile with clang") {
  compile_numbers(plan::Family::kHip, *runtime::make_clang());
}

TEST_CASE("clang compiles the operations that generated/ does not keep") {
  compile_left_out(plan::Family::kHip, *runtime::make_clang());
}

TEST_CASE("clang compiles what released specs do not ask of prefill") {
  compile_extras(plan::Family::kHip, *runtime::make_clang());
}

TEST_CASE("hiprtc compiles the gfx90a kernels") {
  const auto hiprtc = runtime::make_hiprtc();
  int compiled = 0;
  for (const Emitted& file : emitted(plan::Family::kHip)) {
    if (file.target != "gfx90a") continue;
    INFO(file.path);
    const runtime::Source source{file.path, test::read_text(std::string(GDN_SOURCE_DIR) + "/generated/" + file.path),
                                 runtime::template_headers()};
    const runtime::Binary binary = hiprtc->compile(source, file.target);
    for (const std::string& symbol : file.symbols) {
      const runtime::Resources resources = runtime::resources_of(binary, symbol);
      CHECK(resources.spill_bytes == 0);
      CHECK(resources.stack_bytes == 0);
    }
    ++compiled;
  }
  CHECK(compiled > 0);
}
#endif
