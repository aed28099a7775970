// Prefill's kernels for Hopper, as emitted, through the host shim: its models of warp-group products, barriers with
// phases, bulk copies and clusters stand for the hardware, and the oracle judges states and outputs. Every form that a
// launch can take, transfers as late and as early as they may be, lengths around a chunk's end.
#include <cstring>

#include "chunked_form.h"

using namespace gdn;
using namespace gdn::test;

TEST_CASE("every form agrees with the oracle, in whatever order blocks, threads and transfers come") {
  struct Row {
    const char* spec;
    const char *heads, *dims;
    std::vector<int> forms;
  };
  // K of half a tile, of one and a half, of two; V of one slice that is not full, of two, of three.
  const Row rows[] = {
      {"fuzz_gdn", "key: 2, value: 6, pairing: grouped", "key: 32, value: 48", {kOne, kPair}},
      {"fuzz_gdn", "key: 1, value: 3, pairing: grouped", "key: 96, value: 192", {kOne, kPair}},
      {"fuzz_interleaved_tiled_kv_fp16_fp16", "key: 2, value: 4, pairing: tiled", "key: 64, value: 128", {kTwo}},
      {"fuzz_gdn",
       "key: 1, value: 2, pairing: grouped",
       "key: 128, value: 128",
       {kOne, kTwo, kPair, kThreeSegments, kFiveSegments}}};
  int checked = 0;
  for (const Row& row : rows) {
    const spec::Spec spec = sized(row.spec, row.heads, row.dims);
    for (const int number : row.forms) {
      const std::optional<Form> form = Form::make(spec, number);
      REQUIRE(form);
      oracle::Options options = with_lengths({65, 0, 7, 133, 1});
      options.padding_rows = form->plan().facts.padding == core::Padding::kNone ? 0 : 1;
      const oracle::Problem problem = oracle::make_problem(spec, "chunk_delta", options);
      for (const unsigned order : {0u, 1u, 7u}) {
        check(*form, problem, order, fmt::format("{} {} form {}", row.spec, row.dims, number));
        ++checked;
      }
    }
  }
  CHECK(checked == 30);
}

TEST_CASE("keys that resemble each other, and a decay that is weak, on Hopper") {
  const spec::Spec spec = sized("fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 128, value: 128");
  const std::optional<Form> form = Form::make(spec, kPair);
  REQUIRE(form);
  for (const oracle::Keys keys : {oracle::Keys::kRandom, oracle::Keys::kCorrelated, oracle::Keys::kRepeated}) {
    oracle::Options options = with_lengths({200, 63});
    options.keys = keys;
    options.strong_decay = false;
    check(*form, oracle::make_problem(spec, "chunk_delta", options), 3, fmt::format("keys {}", static_cast<int>(keys)));
  }
}

TEST_CASE("the same launch gives the same bits in every order, on Hopper") {
  const spec::Spec spec = sized("fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 128, value: 128");
  for (const int number : {kTwo, kPair, kThreeSegments}) {
    const std::optional<Form> form = Form::make(spec, number);
    REQUIRE(form);
    const oracle::Problem fresh = oracle::make_problem(spec, "chunk_delta", with_lengths({130, 40}));
    oracle::Problem first = fresh, second = fresh;
    form->run(first, 0);
    form->run(second, 12345);
    for (const char* name : {"state", "handover.o"}) {
      const oracle::Buffer& a = first.buffer(name);
      INFO("form " << number << " " << name);
      CHECK(std::memcmp(a.data(), second.buffer(name).data(), a.size_bytes()) == 0);
    }
  }
}

TEST_CASE("whole layers agree with the oracle in every form, on Hopper") {
  struct Row {
    const char* spec;
    const char *heads, *dims;
    std::vector<int> forms;
  };
  const Row rows[] = {
      {"fuzz_gdn", "key: 2, value: 6, pairing: grouped", "key: 32, value: 48", {kOne, kPair}},
      {"fuzz_gdn", "key: 1, value: 3, pairing: grouped", "key: 96, value: 192", {kOne}},
      {"fuzz_gdn", "key: 1, value: 2, pairing: tiled", "key: 128, value: 128", {kTwo, kPair, kThreeSegments}}};
  for (const Row& row : rows) {
    const spec::Spec spec = sized(row.spec, row.heads, row.dims);
    for (const int number : row.forms) {
      const std::optional<Form> form = Form::make(spec, number, "prefill");
      REQUIRE(form);
      oracle::Options options = with_lengths({65, 0, 7, 133, 1, 2});
      options.padding_rows = form->plan().facts.padding == core::Padding::kNone ? 0 : 1;
      const oracle::Problem problem = oracle::make_problem(spec, "prefill", options);
      for (const unsigned order : {0u, 1u, 7u}) {
        check(*form, problem, order, fmt::format("{} {} form {}", row.spec, row.dims, number));
      }
    }
  }
}
