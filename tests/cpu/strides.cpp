// Layouts that no vector load fits: right all the same. And the numbers' choices, one by one, away from their usual
// values. All are edits of the fuzz geometry's text.
#include "harness.h"
#include "support/catch.h"

using namespace gdn;

namespace {

struct Edit {
  const char* from;
  const char* to;
};

struct Variant {
  const char* what;
  std::vector<Edit> edits;
};

spec::Spec edited(const std::vector<Edit>& edits) {
  spec::Diagnostics diagnostics;
  std::string text = *spec::read_file(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml", diagnostics);
  for (const Edit& edit : edits) {
    const std::size_t at = text.find(edit.from);
    if (at == std::string::npos) throw std::logic_error(std::string("the fuzz spec has no ") + edit.from);
    text.replace(at, std::string(edit.from).size(), edit.to);
  }
  const auto spec = spec::check("fuzz_gdn.yaml", text, diagnostics);
  if (!spec) throw std::logic_error(spec::render(diagnostics, "fuzz_gdn.yaml", text));
  return *spec;
}

// For layers whose numbers don't fit between the parts in bf16.
const Edit kWideHandover[] = {
    {"  q: {dtype: bf16, dims: [token@launch, key_head", "  q: {dtype: fp32, dims: [token@launch, key_head"},
    {"  k: {dtype: bf16, dims: [token@launch, key_head", "  k: {dtype: fp32, dims: [token@launch, key_head"},
    {"  v: {dtype: bf16, dims: [token@launch, value_head", "  v: {dtype: fp32, dims: [token@launch, value_head"},
    {"  z: {dtype: bf16, dims: [token@launch, value_head", "  z: {dtype: fp32, dims: [token@launch, value_head"},
    {"  o: {dtype: bf16, dims: [token@launch, value_head", "  o: {dtype: fp32, dims: [token@launch, value_head"}};

Variant widened(Variant variant) {
  for (const Edit& edit : kWideHandover) variant.edits.push_back(edit);
  return variant;
}

// A state of 16 bits says how it is rounded.
bool narrows_state(const std::vector<Edit>& edits) {
  return std::any_of(edits.begin(), edits.end(), [](const Edit& edit) {
    const std::string to = edit.to;
    return to.rfind("state: {dtype: bf16", 0) == 0 || to.rfind("state: {dtype: fp16", 0) == 0;
  });
}

void check(const Variant& variant) {
  std::vector<Edit> edits = variant.edits;
  if (narrows_state(edits)) edits.push_back({", norm: fp32}", ", state: nearest, norm: fp32}"});
  const spec::Spec spec = edited(edits);
  for (const auto& [target, operation] : test::kernels_of(spec)) {
    const core::KernelPlan plan = test::plan_of(spec, operation, target);
    const cpu::Kernel kernel = cpu::generate(plan);
    oracle::Options options;
    options.seed = 11;
    options.rows = 3;
    options.extra_stride = 5;
    oracle::Problem problem = oracle::make_problem(spec, operation, options);
    for (int step = 0; step < 2; ++step) {
      if (step > 0) problem.next_step();
      const auto deviations = test::judge(kernel, plan, problem);
      INFO(variant.what << ", " << operation << " on " << target << ", step " << step << "\n"
                        << oracle::describe(deviations));
      CHECK(oracle::all_good(deviations));
    }
  }
}

const char* const kQkvz = "qkvz: {dtype: bf16, dims: interleaved}";
const char* const kState = "state: {dtype: fp32, dims: [slot@launch, value_head, value_dim, key_dim]}";
const char* const kConvState = "conv_state: {dtype: bf16, dims: SD}";
const char* const kConvWeight = "conv_weight: {dtype: bf16, dims: [channel, tap]}";
const char* const kOut = "out: {dtype: bf16, dims: [token@launch, value_head, value_dim]}";

// Channels of a head two (q, k: the key heads) and six (v, z: the value heads) elements apart.
const char* const kTransposedBf16 =
    "qkvz: {dtype: bf16, dims: [token@launch, {q: [key_dim, key_head], k: [key_dim, key_head], v: [value_dim, "
    "value_head], z: [value_dim, value_head]}]}";
const char* const kTransposedFp32 =
    "qkvz: {dtype: fp32, dims: [token@launch, {q: [key_dim, key_head], k: [key_dim, key_head], v: [value_dim, "
    "value_head], z: [value_dim, value_head]}]}";

}  // namespace

TEST_CASE("inner strides other than one") {
  if (!test::runs_here()) return;
  const Variant variants[] = {
      {"projection rows with the heads innermost, bf16", {{kQkvz, kTransposedBf16}}},
      widened({"projection rows with the heads innermost, fp32", {{kQkvz, kTransposedFp32}}}),
      {"output with the heads innermost, bf16",
       {{kOut, "out: {dtype: bf16, dims: [token@launch, value_dim, value_head]}"}}},
      {"output with the heads innermost, fp32",
       {{kOut, "out: {dtype: fp32, dims: [token@launch, value_dim, value_head]}"}}},
      {"state with the heads innermost, fp32",
       {{kState, "state: {dtype: fp32, dims: [slot@launch, value_dim, key_dim, value_head]}"}}},
      {"state with the heads innermost, bf16",
       {{kState, "state: {dtype: bf16, dims: [slot@launch, key_dim, value_dim, value_head]}"}}},
      {"state with the group innermost, fp16",
       {{kState, "state: {dtype: fp16, dims: [slot@launch, key_head, value_dim, key_dim, group]}"}}},
      {"norm weight fp32, gate parameters bf16",
       {{"norm_weight: {dtype: bf16", "norm_weight: {dtype: fp32"}, {"a_log: {dtype: fp32", "a_log: {dtype: bf16"}}},
  };
  for (const Variant& variant : variants) check(variant);
}

TEST_CASE("windows and taps in every arrangement") {
  if (!test::runs_here()) return;
  for (const char* dtype : {"bf16", "fp16", "fp32"}) {
    for (const char* dims : {"SD", "DS"}) {
      for (const char* anchor : {"first", "last"}) {
        for (const char* window : {"3", "4", "5", "7"}) {
          const std::string state = std::string("conv_state: {dtype: ") + dtype + ", dims: " + dims + "}";
          const std::string rows = std::string("window: ") + window;
          const std::string end = std::string("anchor: ") + anchor;
          const std::string what = state + ", " + rows + ", " + end;
          check({what.c_str(),
                 {{kConvState, state.c_str()}, {"window: 3", rows.c_str()}, {"anchor: first", end.c_str()}}});
        }
      }
    }
  }
}

TEST_CASE("conv widths, weights and orders of taps") {
  if (!test::runs_here()) return;
  const Variant variants[] = {
      {"weights [tap, channel]", {{kConvWeight, "conv_weight: {dtype: bf16, dims: [tap, channel]}"}}},
      {"weights fp32", {{kConvWeight, "conv_weight: {dtype: fp32, dims: [channel, tap]}"}}},
      {"weights fp32 [tap, channel]", {{kConvWeight, "conv_weight: {dtype: fp32, dims: [tap, channel]}"}}},
      {"newest first", {{"taps: oldest_first", "taps: newest_first"}}},
      {"width 2", {{"width: 4", "width: 2"}, {"window: 3", "window: 1"}}},
      {"width 2, DS, window 2",
       {{"width: 4", "width: 2"}, {"window: 3", "window: 2"}, {kConvState, "conv_state: {dtype: bf16, dims: DS}"}}},
      {"width 3, DS",
       {{"width: 4", "width: 3"}, {"window: 3", "window: 2"}, {kConvState, "conv_state: {dtype: fp16, dims: DS}"}}},
      {"width 5, newest first",
       {{"width: 4", "width: 5"}, {"window: 3", "window: 4"}, {"taps: oldest_first", "taps: newest_first"}}},
      {"no activation", {{"activation: silu", "activation: none"}}},
  };
  for (const Variant& variant : variants) check(variant);
}

TEST_CASE("norms, gates and rounding points") {
  if (!test::runs_here()) return;
  const char* const qk = "qk_norm: {kind: l2, eps: 1e-6, eps_at: sum}";
  const char* const decay = "threshold: 20, a_log: log, handover: ln}";
  const char* const norm = "weight: w, gate: silu, order: norm_then_gate}";
  const char* const rounding = "rounding: {conv: bf16, qk: fp32, beta: fp32, o: bf16, norm: fp32}";
  const Variant variants[] = {
      {"eps at mean", {{qk, "qk_norm: {kind: l2, eps: 1e-6, eps_at: mean}"}}},
      {"eps at max", {{qk, "qk_norm: {kind: l2, eps: 1e-6, eps_at: max}"}}},
      {"both scaled", {{"k: 1}", "k: 0.5}"}}},
      {"no threshold, log2", {{decay, "threshold: none, a_log: log, handover: log2}"}}},
      {"exp handed over", {{decay, "threshold: 20, a_log: log, handover: exp}"}}},
      {"-exp(A_log) stored", {{decay, "threshold: 20, a_log: negative_exp, handover: ln}"}}},
      {"beta times 2", {{"factor: 1", "factor: 2"}}},
      {"1+w", {{norm, "weight: 1+w, gate: silu, order: norm_then_gate}"}}},
      {"2*(1+w), sigmoid", {{norm, "weight: 2*(1+w), gate: sigmoid, order: norm_then_gate}"}}},
      {"gate then norm", {{norm, "weight: w, gate: silu, order: gate_then_norm}"}}},
      {"no gate", {{norm, "weight: w, gate: none, order: norm_then_gate}"}}},
      widened({"no rounding", {{rounding, "rounding: {conv: fp32, qk: fp32, beta: fp32, o: fp32, norm: fp32}"}}}),
      {"rounding everywhere, bf16", {{rounding, "rounding: {conv: bf16, qk: bf16, beta: bf16, o: bf16, norm: bf16}"}}},
      widened({"rounding everywhere, fp16",
               {{rounding, "rounding: {conv: fp16, qk: fp16, beta: fp16, o: fp16, norm: fp16}"}}}),
      {"one value head a key head", {{"value: 6", "value: 2"}}},
      {"one key head", {{"key: 2, value: 6", "key: 1, value: 3"}}},
      {"seventeen value heads a key head", {{"value: 6", "value: 34"}}},
      {"tiled", {{"pairing: grouped", "pairing: tiled"}}},
      {"int64 slots, zero pads", {{"dtype: int32, padding: negative", "dtype: int64, padding: zero_or_negative"}}},
  };
  for (const Variant& variant : variants) check(variant);
}

TEST_CASE("head dimensions from 16 to 256, both orders of the state, all its types") {
  if (!test::runs_here()) return;
  const char* const sizes[] = {"dims: {key: 16, value: 16}",   "dims: {key: 16, value: 256}",
                               "dims: {key: 256, value: 16}",  "dims: {key: 48, value: 80}",
                               "dims: {key: 128, value: 128}", "dims: {key: 144, value: 208}",
                               "dims: {key: 192, value: 96}",  "dims: {key: 256, value: 256}"};
  for (const char* size : sizes) {
    for (const char* dims : {"value_dim, key_dim", "key_dim, value_dim"}) {
      for (const char* dtype : {"fp32", "bf16", "fp16"}) {
        const std::string state =
            std::string("state: {dtype: ") + dtype + ", dims: [slot@launch, value_head, " + dims + "]}";
        const std::string what = std::string(size) + ", " + state;
        check({what.c_str(), {{"dims: {key: 32, value: 48}", size}, {kState, state.c_str()}}});
      }
    }
  }
}
