// Prefill's kernels by products of single warps, as emitted, through the host shim: mma.sync, ldmatrix and movmatrix as
// collectives of a warp, copies of 16 bytes that land as late or as early as they may. Both forms, on every target that
// has them, and what stays with the plain bodies.
#include <cstring>

#include "chunked_form.h"

using namespace gdn;
using namespace gdn::test;

TEST_CASE("both forms of single warps agree with the oracle, in whatever order blocks, threads and copies come") {
  struct Row {
    const char* spec;
    const char *heads, *dims;
    const char* target;
    std::vector<int> forms;
  };
  // K of half a tile, of one, of one and a half, of two, of four; V of one slice that is not full, of two, of three.
  const Row rows[] = {
      {"fuzz_gdn", "key: 2, value: 6, pairing: grouped", "key: 32, value: 48", "sm_80", {kOne}},
      {"fuzz_gdn", "key: 1, value: 3, pairing: grouped", "key: 96, value: 192", "sm_120a", {kOne}},
      {"fuzz_interleaved_tiled_kv_fp16_fp16",
       "key: 2, value: 4, pairing: tiled",
       "key: 64, value: 128",
       "sm_120a",
       {kTwo}},
      {"fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 128, value: 128", "sm_80", {kOne, kTwo}},
      {"fuzz_gdn", "key: 1, value: 2, pairing: tiled", "key: 256, value: 64", "sm_90a", {kOne}},
      // Room for one chunk alone.
      {"fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 192, value: 48", "sm_120a", {kOne}},
      // Channels that decay by themselves.
      {"fuzz_kda", "key: 2, value: 6, pairing: grouped", "key: 32, value: 48", "sm_80", {kOne}},
      {"fuzz_kda_bounded", "key: 1, value: 3, pairing: tiled", "key: 96, value: 192", "sm_100a", {kOne}},
      {"fuzz_kda", "key: 1, value: 1, pairing: grouped", "key: 128, value: 128", "sm_80", {kTwo}},
      {"fuzz_kda", "key: 1, value: 1, pairing: grouped", "key: 128, value: 64", "sm_120a", {kOne}},
      {"fuzz_kda", "key: 1, value: 1, pairing: grouped", "key: 256, value: 96", "sm_80", {kOne}},
      {"fuzz_kda_bounded", "key: 1, value: 3, pairing: tiled", "key: 192, value: 64", "sm_90a", {kOne}},
      // Room for one chunk.
      {"fuzz_kda", "key: 1, value: 3, pairing: grouped", "key: 192, value: 48", "sm_120a", {kOne}},
      {"fuzz_kda_bounded", "key: 1, value: 1, pairing: tiled", "key: 256, value: 64", "sm_120a", {kOne}}};
  int checked = 0;
  for (const Row& row : rows) {
    const spec::Spec spec = sized(row.spec, row.heads, row.dims);
    for (const int number : row.forms) {
      const std::optional<Form> form = Form::make(spec, number, "chunk_delta", row.target);
      REQUIRE(form);
      REQUIRE(core::prefill_set(form->plan()) == core::PrefillSet::kWarps);
      check_in_orders(*form, spec, {65, 0, 7, 133, 1}, {0u, 1u, 7u},
                      fmt::format("{} {} form {}", row.spec, row.dims, number));
      checked += 3;
    }
  }
  CHECK(checked == 45);
}

TEST_CASE("the same launch of single warps gives the same bits in every order, and slices change rounding alone") {
  const spec::Spec spec = sized("fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 128, value: 128");
  const oracle::Problem fresh = oracle::make_problem(spec, "chunk_delta", with_lengths({130, 40}));
  for (const int number : {kOne, kTwo}) {
    const std::optional<Form> form = Form::make(spec, number, "chunk_delta", "sm_80");
    REQUIRE(form);
    check_same_bits(*form, spec, fmt::format("form {}", number));
  }
  // A block of one slice or of two: each slice's sums are the same, in the same order.
  oracle::Problem one = fresh, two = fresh;
  Form::make(spec, kOne, "chunk_delta", "sm_80")->run(one, 0);
  Form::make(spec, kTwo, "chunk_delta", "sm_80")->run(two, 0);
  for (const char* name : {"state", "handover.o"}) {
    CHECK(std::memcmp(one.buffer(name).data(), two.buffer(name).data(), one.buffer(name).size_bytes()) == 0);
  }
}

TEST_CASE("keys that resemble each other, and a decay that is weak or strong, by single warps") {
  const spec::Spec spec = sized("fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 128, value: 128");
  const std::optional<Form> form = Form::make(spec, kTwo, "chunk_delta", "sm_80");
  REQUIRE(form);
  check_keys(*form, spec, {false, true}, "two");
}

TEST_CASE("whole layers by single warps agree with the oracle on each target") {
  struct Row {
    const char* spec;
    const char *heads, *dims;
    const char* target;
    int form;
  };
  for (const Row& row :
       {Row{"fuzz_gdn", "key: 1, value: 3, pairing: grouped", "key: 96, value: 192", "sm_80", kOne},
        {"fuzz_gdn", "key: 1, value: 2, pairing: tiled", "key: 128, value: 128", "sm_100a", kTwo},
        {"fuzz_gdn", "key: 2, value: 6, pairing: grouped", "key: 32, value: 48", "sm_120a", kOne},
        {"fuzz_kda", "key: 2, value: 6, pairing: grouped", "key: 32, value: 48", "sm_80", kOne},
        {"fuzz_kda_bounded", "key: 1, value: 2, pairing: tiled", "key: 192, value: 48", "sm_120a", kOne},
        // Rows of padding stay as they are, though v passes through the rows of all others.
        {"fuzz_interleaved_tiled_kv_fp16_fp16", "key: 1, value: 1, pairing: tiled", "key: 32, value: 64", "sm_80",
         kOne}}) {
    const spec::Spec spec = sized(row.spec, row.heads, row.dims);
    const std::optional<Form> form = Form::make(spec, row.form, "prefill", row.target);
    REQUIRE(form);
    CHECK(core::rows_in_out(form->plan()));
    check_in_orders(*form, spec, {65, 0, 7, 133, 1, 2}, {7}, fmt::format("{} {}", row.target, row.dims));
  }
}

TEST_CASE("what single warps can't hold has no workspace, and runs by the plain body") {
  // Activations of 32 bits; chunks of other than 64 tokens.
  const spec::Spec wide = sized("fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 256, value: 64");
  CHECK(Form::make(wide, kOne, "chunk_delta", "sm_80"));
  CHECK(Form::make(wide, kOne, "chunk_delta", "sm_120a"));
  for (const char* name : {"fuzz_kda_wide", "fuzz_snapshots"}) {
    CHECK_FALSE(Form::make(fuzz(name), kOne, "chunk_delta", "sm_80"));
  }
  // Two slices a block of 128 channels are all that 99 KB hold; of 256 channels they ask for more registers than there
  // are.
  const spec::Spec square = sized("fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 128, value: 128");
  CHECK(Form::make(square, kOne, "chunk_delta", "sm_120a"));
  CHECK(Form::make(square, kTwo, "chunk_delta", "sm_120a"));
  CHECK_FALSE(Form::make(wide, kTwo, "chunk_delta", "sm_80"));
}
