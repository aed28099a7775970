// Sequences of many tokens through the emitted plain bodies, on the CPU: every length around a chunk's end, sequences
// of all kinds in one launch, what may be left out, and the ways in which prefill and decode have to agree.
#include <cmath>
#include <cstring>
#include <numeric>

#include "check.h"
#include "core/prefill.h"
#include "error.h"
#include "layout/resolve.h"
#include "oracle/parts.h"
#include "support/catch.h"
#include "support/rows.h"
#include "support/specs.h"
#include "support/thrown.h"
#include "verify/verify.h"

using namespace gdn;
using test::continue_behind_snapshot;
using test::copy_row;
using test::error_of;
using test::row_of;

namespace {

// fp32 from end to end, so that two ways to one result can be compared closely.
const char* const kExact = "fuzz_separate_grouped_kv_fp32_fp32";

struct Kernel {
  explicit Kernel(const spec::Spec& from, const std::string& operation)
      : spec(from),
        layout(layout::resolve(from)),
        executor(verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET))),
        loaded(executor->load(plan::make(layout, operation, executor->target()))) {}

  void run(oracle::Problem& problem) const { loaded->run(problem, verify::views_of(problem, layout)); }

  spec::Spec spec;
  layout::Layout layout;
  std::unique_ptr<verify::Executor> executor;
  std::unique_ptr<verify::Loaded> loaded;
};

oracle::Options with_lengths(std::vector<int> lengths) {
  oracle::Options options;
  options.lengths = std::move(lengths);
  return options;
}

// An fp32 body has fp32's errors, whatever the contract allows.
void check_closely(const oracle::Expectation& expectation, const oracle::Problem& problem) {
  for (const oracle::Deviation& deviation : oracle::compare(expectation, problem)) {
    INFO(problem.operation() << ": " << deviation.name << " " << deviation.error);
    CHECK(deviation.good());
    const bool sixteen = problem.buffer(deviation.name).dtype != core::DType::kFp32;
    CHECK(deviation.error <= (sixteen ? 2e-3 : 1e-4));
  }
}

}  // namespace

TEST_CASE("lengths around a chunk's end, alone and together") {
  const Kernel kernel(test::fuzz("fuzz_gdn"), "chunk_delta");
  const int chunk = *kernel.spec.prefill.chunk;
  const std::vector<std::vector<int>> cases = {
      {1},      {2},         {chunk - 1},         {chunk},  {chunk + 1}, {2 * chunk + 5},
      {15, 16}, {17, 1, 33}, {0, 1, 0, 0, 20, 0}, {0, 0, 3}};
  for (const std::vector<int>& lengths : cases) {
    oracle::Problem problem = oracle::make_problem(kernel.spec, "chunk_delta", with_lengths(lengths));
    for (int step = 0; step < 2; ++step) {
      if (step > 0) problem.next_step();
      const oracle::Expectation expectation = oracle::expect(problem);
      kernel.run(problem);
      INFO("first of " << lengths.size() << " lengths: " << lengths[0] << ", step " << step);
      check_closely(expectation, problem);
    }
  }
}

TEST_CASE("keys that resemble each other, decays that are weak") {
  for (const char* name : {"fuzz_gdn", "fuzz_flat_grouped_kv_fp32_bf16"}) {
    const Kernel kernel(test::fuzz(name), "chunk_delta");
    for (const oracle::Keys keys : {oracle::Keys::kRandom, oracle::Keys::kCorrelated, oracle::Keys::kRepeated}) {
      oracle::Options options = with_lengths({150, 7});
      options.keys = keys;
      options.strong_decay = false;
      oracle::Problem problem = oracle::make_problem(kernel.spec, "chunk_delta", options);
      const oracle::Expectation expectation = oracle::expect(problem);
      kernel.run(problem);
      INFO(name << ", keys " << static_cast<int>(keys));
      check_closely(expectation, problem);
    }
  }
}

TEST_CASE("a decay of nothing, and decays beyond fp32") {
  const spec::Spec spec =
      test::variant(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + kExact + ".yaml", "handover: ln}", "handover: exp}");
  const Kernel kernel(spec, "chunk_delta");
  oracle::Problem problem = oracle::make_problem(spec, "chunk_delta", with_lengths({40}));
  oracle::Buffer& g = problem.buffer("handover.g");
  for (const int row : {3, 4, 17, 30}) {
    for (std::int64_t i = 0; i < g.inner; ++i) {
      oracle::store(g.dtype, g.row(row) + static_cast<std::size_t>(i) * 4, row == 4 ? 1e-40 : 0);
    }
  }
  const oracle::Expectation expectation = oracle::expect(problem);
  kernel.run(problem);
  check_closely(expectation, problem);
}

TEST_CASE("a broken sequence does not reach its neighbours") {
  const Kernel kernel(test::fuzz("fuzz_gdn"), "chunk_delta");
  const std::vector<int> lengths = {21, 9, 30};
  oracle::Problem problem = oracle::make_problem(kernel.spec, "chunk_delta", with_lengths(lengths));
  const oracle::Expectation expectation = oracle::expect(problem);
  for (const char* name : {"handover.q", "handover.k", "handover.v", "handover.g", "handover.beta"}) {
    oracle::Buffer& buffer = problem.buffer(name);
    for (int row = 21; row < 30; ++row)
      std::memset(buffer.row(row), 0xff, static_cast<std::size_t>(buffer.inner) * size_of(buffer.dtype));
  }
  kernel.run(problem);
  oracle::Problem wanted = problem;
  oracle::apply(expectation, wanted);
  const oracle::Buffer& got = problem.buffer("handover.o");
  const oracle::Buffer& want = wanted.buffer("handover.o");
  for (int row = 0; row < 60; ++row) {
    const double error = error_of(row_of(got, row), row_of(want, row));
    INFO("row " << row);
    if (row >= 21 && row < 30) {
      CHECK(std::isnan(error));
    } else {
      CHECK(error < 2e-3);
    }
  }
  for (const int sequence : {0, 2}) {
    const std::int64_t slot = problem.sequences()[static_cast<std::size_t>(sequence)].slot;
    CHECK(error_of(row_of(problem.buffer("state"), slot), row_of(wanted.buffer("state"), slot)) < 1e-4);
  }
}

TEST_CASE("prefill then decode is decode all the way") {
  const spec::Spec spec = test::fuzz(kExact);
  const Kernel prefill(spec, "chunk_delta"), decode(spec, "delta_update");
  constexpr int kTokens = 37;
  oracle::Problem whole = oracle::make_problem(spec, "chunk_delta", with_lengths({kTokens}));
  oracle::Options one;
  one.rows = 1;
  one.slots = whole.slots();
  oracle::Problem step = oracle::make_problem(spec, "delta_update", one);
  REQUIRE(whole.sequences()[0].initial);
  const std::int64_t from = whole.sequences()[0].slot, to = step.row_slot(0);
  copy_row(whole.buffer("state"), from, step.buffer("state"), to);
  // All but the last token by prefill.
  oracle::Problem part = oracle::make_problem(spec, "chunk_delta", with_lengths({kTokens - 1}));
  prefill.run(part);
  const auto decode_row = [&](oracle::Problem& state, int row) {
    for (const char* name : {"handover.q", "handover.k", "handover.v", "handover.g", "handover.beta"}) {
      copy_row(whole.buffer(name), row, state.buffer(name), 0);
    }
    decode.run(state);
    return row_of(state.buffer("handover.o"), 0);
  };
  std::vector<double> last;
  for (int row = 0; row < kTokens; ++row) {
    last = decode_row(step, row);
    if (row + 1 < kTokens) CHECK(error_of(row_of(part.buffer("handover.o"), row), last) < 1e-5);
  }
  oracle::Problem after = oracle::make_problem(spec, "delta_update", one);
  copy_row(part.buffer("state"), part.sequences()[0].slot, after.buffer("state"), after.row_slot(0));
  CHECK(error_of(decode_row(after, kTokens - 1), last) < 1e-5);
  CHECK(error_of(row_of(after.buffer("state"), after.row_slot(0)), row_of(step.buffer("state"), to)) < 1e-5);
}

TEST_CASE("a sequence continued is one long sequence") {
  const spec::Spec spec = test::fuzz(kExact);
  const Kernel kernel(spec, "chunk_delta");
  constexpr int kFirst = 19, kSecond = 46;
  oracle::Problem whole = oracle::make_problem(spec, "chunk_delta", with_lengths({kFirst + kSecond}));
  oracle::Problem first = oracle::make_problem(spec, "chunk_delta", with_lengths({kFirst}));
  oracle::Problem second = oracle::make_problem(spec, "chunk_delta", with_lengths({kSecond}));
  REQUIRE(second.sequences()[0].initial);
  kernel.run(whole);
  kernel.run(first);
  copy_row(first.buffer("state"), first.sequences()[0].slot, second.buffer("state"), second.sequences()[0].slot);
  for (const char* name : {"handover.q", "handover.k", "handover.v", "handover.g", "handover.beta"}) {
    for (int row = 0; row < kSecond; ++row) copy_row(whole.buffer(name), kFirst + row, second.buffer(name), row);
  }
  kernel.run(second);
  const oracle::Buffer& all = whole.buffer("handover.o");
  for (int row = 0; row < kFirst; ++row)
    CHECK(error_of(row_of(first.buffer("handover.o"), row), row_of(all, row)) < 1e-5);
  for (int row = 0; row < kSecond; ++row) {
    CHECK(error_of(row_of(second.buffer("handover.o"), row), row_of(all, kFirst + row)) < 1e-5);
  }
  CHECK(error_of(row_of(second.buffer("state"), second.sequences()[0].slot),
                 row_of(whole.buffer("state"), whole.sequences()[0].slot)) < 1e-5);
}

TEST_CASE("vllm_40956: a state kept as (V, K) read as (K, V), from a state that is not zero") {
  // Shapes agree where K = V, and a new sequence's first chunk shows nothing: only a stored state does.
  for (const char* activation : {"bf16", "fp16"}) {
    for (const int dim : {32, 64}) {
      std::string text = test::read_text(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml");
      const auto replace = [&](const std::string& from, const std::string& to) {
        for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
          text.replace(at, from.size(), to);
        }
      };
      replace("dims: {key: 32, value: 48}",
              "dims: {key: " + std::to_string(dim) + ", value: " + std::to_string(dim) + "}");
      replace("dtype: bf16", std::string("dtype: ") + activation);
      replace("conv: bf16", std::string("conv: ") + activation);
      replace("o: bf16", std::string("o: ") + activation);
      replace("  conv_weight: {dtype: fp16", "  conv_weight: {dtype: bf16");
      replace("  dt_bias: {dtype: fp16", "  dt_bias: {dtype: bf16");
      replace("  norm_weight: {dtype: fp16", "  norm_weight: {dtype: bf16");
      const spec::Spec made_for = test::parse_spec("fuzz_gdn.yaml", text);
      replace("[slot@launch, value_head, value_dim, key_dim]", "[slot@launch, value_head, key_dim, value_dim]");
      const spec::Spec owner = test::parse_spec("fuzz_gdn.yaml", text);
      const Kernel kernel(made_for, "chunk_delta");
      for (const int length : {1, 5, 70}) {
        oracle::Problem problem = oracle::make_problem(owner, "chunk_delta", with_lengths({length}));
        REQUIRE(problem.sequences()[0].initial);
        const oracle::Expectation expectation = oracle::expect(problem);
        const std::vector<runtime::View> views = verify::views_of(problem, layout::resolve(owner));
        const test::Thrown thrown = test::thrown_by([&] { kernel.loaded->run(problem, views); });
        REQUIRE(thrown.code);
        CHECK(*thrown.code == runtime::Code::kLayoutMismatch);
        CHECK(thrown.has("operand state"));
        kernel.loaded->run_unchecked(problem, views);
        INFO(activation << ", K = V = " << dim << ", " << length << " tokens");
        CHECK_FALSE(oracle::all_good(oracle::compare(expectation, problem)));
      }
    }
  }
}

TEST_CASE("pools, slots and flags may be left out") {
  const Kernel kernel(test::fuzz("fuzz_gdn"), "chunk_delta");
  oracle::Problem problem = oracle::make_problem(kernel.spec, "chunk_delta", with_lengths({20, 3, 9}));
  const auto without = [&](oracle::Problem& of, std::vector<std::string> names) {
    std::vector<runtime::View> views = verify::views_of(of, kernel.layout);
    for (std::size_t i = 0; i < views.size(); ++i) {
      for (const std::string& name : names) {
        if (of.buffers()[i].name == name) views[i].data = nullptr;
      }
    }
    return views;
  };
  // No pool: all sequences start from zeros and leave nothing, as with a null has_initial_state but for what is stored.
  oracle::Problem no_pool = problem, no_flags = problem;
  kernel.loaded->run(no_pool, without(no_pool, {"state", "slots"}));
  kernel.loaded->run(no_flags, without(no_flags, {"has_initial_state"}));
  const oracle::Buffer& a = no_pool.buffer("handover.o");
  const oracle::Buffer& b = no_flags.buffer("handover.o");
  CHECK(std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
  CHECK(std::memcmp(no_pool.buffer("state").data(), problem.buffer("state").data(),
                    problem.buffer("state").size_bytes()) == 0);
  CHECK(std::memcmp(no_flags.buffer("state").data(), problem.buffer("state").data(),
                    problem.buffer("state").size_bytes()) != 0);
  oracle::Buffer& flags = problem.buffer("has_initial_state");
  std::memset(flags.data(), 0, flags.size_bytes());
  kernel.run(problem);
  CHECK(std::memcmp(problem.buffer("state").data(), no_flags.buffer("state").data(),
                    no_flags.buffer("state").size_bytes()) == 0);

  // Null slots: sequence i has slot i.
  oracle::Problem by_number = oracle::make_problem(kernel.spec, "chunk_delta", with_lengths({20, 3, 9}));
  oracle::Problem numbered = by_number;
  oracle::Buffer& slots = numbered.buffer("slots");
  for (int i = 0; i < 3; ++i) oracle::store(slots.dtype, slots.row(i), i);
  kernel.run(numbered);
  kernel.loaded->run(by_number, without(by_number, {"slots"}));
  for (const char* name : {"state", "handover.o"}) {
    CHECK(std::memcmp(by_number.buffer(name).data(), numbered.buffer(name).data(),
                      numbered.buffer(name).size_bytes()) == 0);
  }
}

TEST_CASE("a sequence continued from a snapshot is one long sequence") {
  // chunk_delta continues from the kept state alone, prefill from the state and the windows beside it.
  for (const char* operation : {"chunk_delta", "prefill"}) {
    const spec::Spec spec = test::variant(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + kExact + ".yaml",
                                          "snapshots: none", "snapshots: slots");
    const Kernel kernel(spec, operation);
    constexpr int kFirst = 21, kSecond = 30;
    oracle::Options options = with_lengths({kFirst + kSecond});
    options.snapshots = {kFirst - 1};
    oracle::Problem whole = oracle::make_problem(spec, operation, options);
    options.lengths = {kSecond};
    options.snapshots = {kSecond};
    oracle::Problem second = oracle::make_problem(spec, operation, options);
    REQUIRE(second.sequences()[0].initial);
    if (whole.snapshots()[0].padding) REQUIRE(false);
    kernel.run(whole);
    continue_behind_snapshot(whole, kFirst, second);
    kernel.run(second);
    const char* const out = std::string(operation) == "prefill" ? "out" : "handover.o";
    for (int row = 0; row < kSecond; ++row) {
      INFO(operation << ", row " << row);
      CHECK(error_of(row_of(second.buffer(out), row), row_of(whole.buffer(out), kFirst + row)) < 1e-5);
    }
    CHECK(error_of(row_of(second.buffer("state"), second.sequences()[0].slot),
                   row_of(whole.buffer("state"), whole.sequences()[0].slot)) < 1e-5);
  }
}

TEST_CASE("snapshots that no caller should name") {
  const Kernel kernel(test::fuzz("fuzz_snapshots"), "prefill");
  const auto thrown = [&](const std::function<void(oracle::Problem&)>& spoil) {
    oracle::Problem problem = oracle::make_problem(kernel.spec, "prefill", with_lengths({20, 12}));
    spoil(problem);
    return test::thrown_by([&] { kernel.run(problem); });
  };
  const auto put = [](oracle::Buffer& buffer, int i, std::int64_t value) {
    oracle::store(buffer.dtype, buffer.row(i), static_cast<double>(value));
  };
  const test::Thrown falling = thrown([&](auto& p) { put(p.buffer("snapshot_rows"), 2, 0); });
  CHECK(falling.has("rows ascend"));
  const test::Thrown beyond = thrown([&](auto& p) { put(p.buffer("snapshot_rows"), 4, p.rows()); });
  CHECK(beyond.has("the launch has rows 0 to"));
  const test::Thrown outside = thrown([&](auto& p) { put(p.buffer("snapshot_slots"), 0, p.slots()); });
  REQUIRE(outside.code);
  CHECK(*outside.code == runtime::Code::kSlotOutOfRange);
  const test::Thrown taken = thrown([&](auto& p) { put(p.buffer("snapshot_slots"), 0, p.sequences()[1].slot); });
  REQUIRE(taken.code);
  CHECK(*taken.code == runtime::Code::kSlotRepeated);
  CHECK(taken.has("which sequence 1 has"));
  const test::Thrown twice = thrown([&](auto& p) { put(p.buffer("snapshot_slots"), 2, p.snapshots()[0].slot); });
  CHECK(twice.has("which snapshot 0 has"));
  // Other numbers of slots than of rows.
  oracle::Problem problem = oracle::make_problem(kernel.spec, "prefill", with_lengths({20, 12}));
  std::vector<runtime::View> views = verify::views_of(problem, kernel.layout);
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (problem.buffers()[i].name == "snapshot_slots") --views[i].sizes[0];
  }
  const test::Thrown fewer = test::thrown_by([&] { kernel.loaded->run(problem, views); });
  CHECK(fewer.has("operand snapshot_slots"));
  // Without them nothing is kept, and everything else is the same.
  oracle::Problem with = problem, without = problem;
  kernel.run(with);
  views = verify::views_of(without, kernel.layout);
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (without.buffers()[i].name == "snapshot_rows" || without.buffers()[i].name == "snapshot_slots") {
      views[i].data = nullptr;
    }
  }
  kernel.loaded->run(without, views);
  CHECK(error_of(row_of(without.buffer("out"), 31), row_of(with.buffer("out"), 31)) < 1e-2);
  for (const oracle::Snapshot& snapshot : with.snapshots()) {
    if (snapshot.padding || snapshot.row >= 32) continue;
    const oracle::Buffer& state = without.buffer("state");
    const std::size_t bytes = static_cast<std::size_t>(state.inner) * size_of(state.dtype);
    CHECK(std::memcmp(state.row(snapshot.slot), problem.buffer("state").row(snapshot.slot), bytes) == 0);
  }
}

TEST_CASE("a quantised output's o waits in a workspace, which the launch can't do without") {
  const spec::Spec spec = test::fuzz("fuzz_quant_straddle");
  const layout::Layout layout = layout::resolve(spec);
  for (const char* target : {"sm_80", "gfx942"}) {
    const core::KernelPlan plan = plan::make(layout, "prefill", *plan::find_target(target)).kernel;
    REQUIRE(core::workspace_operand(plan) >= 0);
    CHECK_FALSE(plan.operands.back().optional);
    CHECK(core::holds_o(plan));
    CHECK(core::prefill_set(plan) == core::PrefillSet::kNone);
    // 6 heads of 192 channels of fp32 a row, whatever the sequences.
    CHECK(core::workspace_bytes(plan, 100, 3) == 100 * 6 * 192 * 4);
    CHECK(core::most_workspace_bytes(plan, 100, 7) == 100 * 6 * 192 * 4);
    oracle::Problem problem = oracle::make_problem(spec, "prefill", with_lengths({9, 4}));
    std::vector<runtime::View> views = verify::views_of(problem, layout);
    const test::Thrown missing = test::thrown_by([&] { runtime::check(plan, problem.rows(), problem.slots(), views); });
    CHECK(missing.has("workspace"));
    const std::vector<std::byte> memory = verify::add_workspace(plan, problem.rows(), views);
    views.back().sizes[0] -= 1;
    const test::Thrown small = test::thrown_by([&] { runtime::check(plan, problem.rows(), problem.slots(), views); });
    CHECK(small.has("ask workspace_bytes"));
    views.back().sizes[0] += 1;
    runtime::check(plan, problem.rows(), problem.slots(), views);
  }
  // An output of 16 bits holds o itself.
  const layout::Layout plain = layout::resolve(test::fuzz("fuzz_gdn"));
  CHECK(core::workspace_operand(plan::make(plain, "prefill", *plan::find_target("gfx942")).kernel) < 0);
}

TEST_CASE("an output narrower than o takes o through the workspace") {
  // rounding.o: fp32, out: bf16.
  std::string text = test::read_text(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml");
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"beta: fp32, o: bf16", "beta: fp32, o: fp32"}, {"  o: {dtype: bf16", "  o: {dtype: fp32"}}) {
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
  }
  const spec::Spec spec = test::parse_spec("fuzz_gdn.yaml", text);
  const Kernel kernel(spec, "prefill");
  CHECK(core::holds_o(plan::make(kernel.layout, "prefill", kernel.executor->target()).kernel));
  oracle::Problem problem = oracle::make_problem(spec, "prefill", with_lengths({40, 3}));
  const oracle::Expectation expectation = oracle::expect(problem);
  kernel.run(problem);
  check_closely(expectation, problem);
}
