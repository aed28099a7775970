// Prefill's kernels by the tensor cores of a target, as emitted, through the host shim: what holds of them whatever
// their form. The oracle judges states and outputs.
#include <cstring>

#include "chunked_form.h"
#include "error.h"
#include "support/parts_of_rows.h"
#include "support/rows.h"
#include "support/thrown.h"

using namespace gdn;
using namespace gdn::test;

namespace {

constexpr const char* kTarget = GDN_TEST_TARGET;

}  // namespace

TEST_CASE("lengths around a chunk's end, alone and together") {
  const spec::Spec spec = test::fuzz(GENERATE(as<std::string>{}, "fuzz_gdn", "fuzz_kda"));
  const std::optional<Form> form = Form::make(spec, kOne, "chunk_delta", kTarget);
  REQUIRE(form);
  for (const std::vector<int>& lengths :
       std::vector<std::vector<int>>{{1}, {63}, {64}, {65}, {133}, {63, 64, 65}, {0, 1, 0, 0, 70, 0}, {0, 0, 3}}) {
    check(*form, oracle::make_problem(spec, "chunk_delta", with_lengths(lengths)), 5,
          fmt::format("lengths {}", fmt::join(lengths, ", ")));
  }
}

TEST_CASE("a broken sequence does not reach its neighbours") {
  const spec::Spec spec = test::fuzz(GENERATE(as<std::string>{}, "fuzz_gdn", "fuzz_kda"));
  const std::optional<Form> form = Form::make(spec, kOne, "chunk_delta", kTarget);
  REQUIRE(form);
  oracle::Problem problem = oracle::make_problem(spec, "chunk_delta", with_lengths({70, 20, 66}));
  const oracle::Problem whole = problem;
  for (const char* name : {"handover.q", "handover.k", "handover.v", "handover.g", "handover.beta"}) {
    oracle::Buffer& buffer = problem.buffer(name);
    for (int row = 70; row < 90; ++row) {
      std::memset(buffer.row(row), 0xff, static_cast<std::size_t>(buffer.inner) * size_of(buffer.dtype));
    }
  }
  oracle::Problem got = problem, want = whole;
  form->run(got, 0);
  form->run(want, 1);
  for (int row = 0; row < 156; ++row) {
    if (row >= 70 && row < 90) continue;
    const oracle::Buffer& o = got.buffer("handover.o");
    INFO("row " << row);
    CHECK(std::memcmp(o.row(row), want.buffer("handover.o").row(row),
                      static_cast<std::size_t>(o.inner) * size_of(o.dtype)) == 0);
  }
}

TEST_CASE("values of any scale, and a jump of it inside a sequence, keep their precision") {
  const spec::Spec spec = test::fuzz("fuzz_interleaved_tiled_kv_fp16_fp16");
  const std::optional<Form> form = Form::make(spec, kOne, "chunk_delta", kTarget);
  REQUIRE(form);
  for (const double scale : {1e-3, 1.0, 1e3}) {
    oracle::Options options = with_lengths({140});
    oracle::Problem problem = oracle::make_problem(spec, "chunk_delta", options);
    oracle::Buffer& v = problem.buffer("handover.v");
    for (int row = 0; row < 140; ++row) {
      const double by = row < 70 ? 1.0 : scale;
      for (std::int64_t i = 0; i < v.inner; ++i) {
        std::byte* at = v.row(row) + static_cast<std::size_t>(i) * size_of(v.dtype);
        oracle::store(v.dtype, at, oracle::load(v.dtype, at) * by);
      }
    }
    check(*form, problem, 0, fmt::format("v times {} from row 70 on", scale));
  }
}

TEST_CASE("what a chunk's first tokens wrote is read exactly behind strong decays, where nothing else was written") {
  const spec::Spec spec = test::fuzz(GENERATE(as<std::string>{}, "fuzz_gdn", "fuzz_kda"));
  REQUIRE(*spec.decay.handover == core::Domain::kLn);
  const std::optional<Form> form = Form::make(spec, kOne, "chunk_delta", kTarget);
  REQUIRE(form);
  constexpr int kTokens = 40, kWritten = 8;
  oracle::Problem problem = oracle::make_problem(spec, "chunk_delta", with_lengths({3, kTokens}));
  const oracle::TokenRun& sequence = problem.sequences()[1];
  REQUIRE(!sequence.initial);
  // The last token written is e^-14 to e^-20 of what it was at the end, as its channels go.
  for (int i = 0; i < kTokens; ++i) {
    std::vector<double> g = part_of_row(problem, "in.g", sequence.first + i);
    for (std::size_t c = 0; c < g.size(); ++c) g[c] = -0.45 * (1 + 0.2 * static_cast<double>(c % 3));
    put_part(problem, "in.g", sequence.first + i, g);
    if (i >= kWritten) put_part(problem, "in.beta", sequence.first + i, std::vector<double>(6, 0.0));
  }
  oracle::Problem want = problem;
  oracle::apply(oracle::expect(problem), want);
  form->run(problem, 0);
  for (int i = 0; i < kTokens; ++i) {
    const int row = sequence.first + i;
    INFO("token " << i);
    CHECK(error_of(part_of_row(problem, "out.o", row), part_of_row(want, "out.o", row)) < 6e-3);
  }
}

TEST_CASE("vllm_40956 in chunks: a state kept as (V, K) read as (K, V), from a state that is not zero") {
  struct Row {
    const char *spec, *heads, *dims;
  };
  const Row rows[] = {{"fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 32, value: 32"},
                      {"fuzz_gdn", "key: 2, value: 2, pairing: tiled", "key: 64, value: 64"},
                      {"fuzz_gdn", "key: 1, value: 3, pairing: grouped", "key: 128, value: 128"},
                      {"fuzz_kda", "key: 2, value: 2, pairing: grouped", "key: 32, value: 32"},
                      {"fuzz_kda", "key: 1, value: 1, pairing: grouped", "key: 128, value: 128"}};
  for (const char* activation : {"bf16", "fp16"}) {
    for (const Row& row : rows) {
      const std::string file = std::string(row.spec) + ".yaml";
      std::string text = test::read_text(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + file);
      const auto replace = [&](const std::string& from, const std::string& to) {
        for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
          text.replace(at, from.size(), to);
        }
      };
      replace("heads: {key: 2, value: 6, pairing: grouped}", std::string("heads: {") + row.heads + "}");
      replace("dims: {key: 32, value: 48}", std::string("dims: {") + row.dims + "}");
      for (const char* name : {"q", "k", "v", "z", "b", "a", "o", "out", "qkvz", "ba"}) {
        replace(std::string("  ") + name + ": {dtype: bf16", std::string("  ") + name + ": {dtype: " + activation);
      }
      replace("conv: bf16", std::string("conv: ") + activation);
      replace("o: bf16", std::string("o: ") + activation);
      const spec::Spec made_for = test::parse_spec(file, text);
      replace("[slot@launch, value_head, value_dim, key_dim]", "[slot@launch, value_head, key_dim, value_dim]");
      const spec::Spec owner = test::parse_spec(file, text);
      const std::optional<Form> form = Form::make(made_for, kOne, "chunk_delta", kTarget);
      REQUIRE(form);
      for (const int length : {1, 70}) {
        INFO(row.spec << ", " << activation << ", " << row.heads << ", " << row.dims << ", " << length << " tokens");
        oracle::Problem problem = oracle::make_problem(owner, "chunk_delta", with_lengths({length}));
        REQUIRE(problem.sequences()[0].initial);
        const oracle::Expectation expectation = oracle::expect(problem);
        // As its owner states it, it is refused; read all the same, it is wrong.
        const test::Thrown thrown = test::thrown_by([&] { form->run(problem, 0, layout::resolve(owner)); });
        REQUIRE(thrown.code);
        CHECK(*thrown.code == runtime::Code::kLayoutMismatch);
        CHECK(thrown.has("operand state"));
        form->run(problem, 0);
        CHECK_FALSE(oracle::all_good(oracle::compare(expectation, problem)));
      }
    }
  }
}

TEST_CASE("a sequence continued is one long sequence") {
  const spec::Spec spec = test::fuzz(GENERATE(as<std::string>{}, "fuzz_gdn", "fuzz_kda"));
  const std::optional<Form> form = Form::make(spec, kOne, "chunk_delta", kTarget);
  REQUIRE(form);
  constexpr int kFirst = 75, kSecond = 70;
  const auto bytes = [](const oracle::Buffer& b) { return static_cast<std::size_t>(b.inner) * size_of(b.dtype); };
  oracle::Problem whole = oracle::make_problem(spec, "chunk_delta", with_lengths({kFirst + kSecond}));
  oracle::Problem first = oracle::make_problem(spec, "chunk_delta", with_lengths({kFirst}));
  oracle::Problem second = oracle::make_problem(spec, "chunk_delta", with_lengths({kSecond}));
  REQUIRE(second.sequences()[0].initial);
  const oracle::Expectation all = oracle::expect(whole);
  form->run(first, 0);
  std::memcpy(second.buffer("state").row(second.sequences()[0].slot),
              first.buffer("state").row(first.sequences()[0].slot), bytes(first.buffer("state")));
  for (const char* name : {"handover.q", "handover.k", "handover.v", "handover.g", "handover.beta"}) {
    const oracle::Buffer& from = whole.buffer(name);
    for (int row = 0; row < kSecond; ++row)
      std::memcpy(second.buffer(name).row(row), from.row(kFirst + row), bytes(from));
  }
  form->run(second, 0);
  // The two launches' results in the place of the long one's: the oracle's for the whole sequence, step by step.
  oracle::Problem joined = whole;
  oracle::Buffer& o = joined.buffer("handover.o");
  for (int row = 0; row < kFirst; ++row) std::memcpy(o.row(row), first.buffer("handover.o").row(row), bytes(o));
  for (int row = 0; row < kSecond; ++row) {
    std::memcpy(o.row(kFirst + row), second.buffer("handover.o").row(row), bytes(o));
  }
  std::memcpy(joined.buffer("state").row(joined.sequences()[0].slot),
              second.buffer("state").row(second.sequences()[0].slot), bytes(joined.buffer("state")));
  const auto deviations = oracle::compare(all, joined);
  INFO(oracle::describe(deviations));
  CHECK(oracle::all_good(deviations));
}

TEST_CASE("whole layers with an output of 8 bits, a bias of the convolution, activations in fp16") {
  int checked = 0;
  for (const std::string& file : test::fuzz_specs()) {
    const spec::Spec spec = test::load_spec(file);
    if (!*spec.prefill.enabled || *spec.name == "fuzz_gdn") continue;
    const std::optional<Form> form = Form::make(spec, kOne, "prefill", kTarget);
    if (!form) continue;
    oracle::Options options = with_lengths({66, 5});
    options.excess_rows = 2;
    check(*form, oracle::make_problem(spec, "prefill", options), 11, *spec.name);
    ++checked;
  }
  CHECK(checked >= 3);
}

TEST_CASE("a layer's tokens prefilled, then decoded, are decode all the way") {
  const spec::Spec spec = test::fuzz("fuzz_gdn");
  const std::optional<Form> form = Form::make(spec, kOne, "prefill", kTarget);
  REQUIRE(form);
  constexpr int kTokens = 67;
  const auto bytes = [](const oracle::Buffer& b) { return static_cast<std::size_t>(b.inner) * size_of(b.dtype); };
  oracle::Problem whole = oracle::make_problem(spec, "prefill", with_lengths({kTokens}));
  oracle::Problem part = oracle::make_problem(spec, "prefill", with_lengths({kTokens - 1}));
  const oracle::Expectation all = oracle::expect(whole);
  form->run(part, 0);
  // The last token by decode, from the state and the windows that prefill left.
  oracle::Options one;
  one.rows = 1;
  one.slots = part.slots();
  oracle::Problem last = oracle::make_problem(spec, "decode", one);
  for (const char* name : {"qkvz", "ba"}) {
    std::memcpy(last.buffer(name).row(0), whole.buffer(name).row(kTokens - 1), bytes(last.buffer(name)));
  }
  const std::int64_t slot = part.sequences()[0].slot;
  for (const char* name : {"conv_state", "state"}) {
    std::memcpy(last.buffer(name).row(last.row_slot(0)), part.buffer(name).row(slot), bytes(last.buffer(name)));
  }
  const oracle::Expectation step = oracle::expect(last);
  oracle::apply(step, last);
  // Decode's results in the place of the whole prefill's last row and of its states.
  oracle::Problem joined = whole;
  oracle::Buffer& out = joined.buffer("out");
  for (int row = 0; row + 1 < kTokens; ++row) std::memcpy(out.row(row), part.buffer("out").row(row), bytes(out));
  std::memcpy(out.row(kTokens - 1), last.buffer("out").row(0), bytes(out));
  const std::int64_t joined_slot = joined.sequences()[0].slot;
  for (const char* name : {"conv_state", "state"}) {
    std::memcpy(joined.buffer(name).row(joined_slot), last.buffer(name).row(last.row_slot(0)),
                bytes(last.buffer(name)));
  }
  const auto deviations = oracle::compare(all, joined);
  INFO(oracle::describe(deviations));
  CHECK(oracle::all_good(deviations));
}
