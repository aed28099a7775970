// Prefill's kernels for Hopper, as emitted, through the host shim: its models of warp-group products, barriers with
// phases, bulk copies and clusters stand for the hardware, and the oracle judges states and outputs. Every form that a
// launch can take, transfers as late and as early as they may be, lengths around a chunk's end.
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
      check_in_orders(*form, spec, {65, 0, 7, 133, 1}, {0u, 1u, 7u},
                      fmt::format("{} {} form {}", row.spec, row.dims, number));
      checked += 3;
    }
  }
  CHECK(checked == 30);
}

TEST_CASE("keys that resemble each other, and a decay that is weak, on Hopper") {
  const spec::Spec spec = sized("fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 128, value: 128");
  const std::optional<Form> form = Form::make(spec, kPair);
  REQUIRE(form);
  check_keys(*form, spec, {false}, "pair");
}

TEST_CASE("the same launch gives the same bits in every order, on Hopper") {
  const spec::Spec spec = sized("fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 128, value: 128");
  for (const int number : {kTwo, kPair, kThreeSegments}) {
    const std::optional<Form> form = Form::make(spec, number);
    REQUIRE(form);
    check_same_bits(*form, spec, fmt::format("form {}", number));
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
      check_in_orders(*form, spec, {65, 0, 7, 133, 1, 2}, {0u, 1u, 7u},
                      fmt::format("{} {} form {}", row.spec, row.dims, number));
    }
  }
}
