// Snapshots on the way through a sequence by the tensor cores' kernels: behind any row, not only behind a chunk's last.
// The oracle judges the slots that they are kept in as well as outputs and final states; rows of no sequence and
// snapshots with a padding slot are among them (usual_snapshots in generator/oracle).
#include <cstring>

#include "chunked_form.h"
#include "support/rows.h"

using namespace gdn;
using namespace gdn::test;

namespace {

const std::pair<std::string, std::string> kKeeping = {"snapshots: none}", "snapshots: slots}"};

struct Row {
  const char* spec;
  const char *heads, *dims;
  const char* target;
  std::vector<int> forms;
};

void check_rows(std::initializer_list<Row> rows, const char* operation) {
  for (const Row& row : rows) {
    const spec::Spec spec = sized(row.spec, row.heads, row.dims, kKeeping);
    for (const int number : row.forms) {
      const std::optional<Form> form = Form::make(spec, number, operation, row.target);
      INFO(operation << ' ' << row.target << ' ' << row.spec << ' ' << row.dims << " form " << number);
      REQUIRE(form);
      REQUIRE(form->plan().facts.snapshots);
      check_in_orders(*form, spec, {65, 0, 7, 133, 1}, {7u},
                      fmt::format("{} {} {} {} form {}", operation, row.target, row.spec, row.dims, number));
    }
  }
}

TEST_CASE("snapshots in every form of chunk_delta") {
  check_rows(
      {{"fuzz_gdn", "key: 1, value: 3, pairing: grouped", "key: 96, value: 192", "sm_90a", {kOne, kPair}},
       {"fuzz_gdn", "key: 1, value: 1, pairing: grouped", "key: 128, value: 128", "sm_90a", {kTwo, kFiveSegments}},
       {"fuzz_kda", "key: 2, value: 6, pairing: grouped", "key: 32, value: 48", "sm_90a", {kOne, kPair}},
       {"fuzz_gdn", "key: 2, value: 6, pairing: tiled", "key: 32, value: 48", "sm_80", {kOne}},
       {"fuzz_interleaved_tiled_kv_fp16_fp16",
        "key: 1, value: 2, pairing: tiled",
        "key: 64, value: 128",
        "sm_80",
        {kTwo}},
       {"fuzz_kda", "key: 1, value: 1, pairing: grouped", "key: 32, value: 64", "sm_120a", {kOne}}},
      "chunk_delta");
}

TEST_CASE("snapshots of whole layers: states and windows") {
  check_rows({{"fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 64, value: 128", "sm_90a", {kTwo, kPair}},
              {"fuzz_kda", "key: 1, value: 3, pairing: grouped", "key: 32, value: 48", "sm_80", {kOne}}},
             "prefill");
}

// Every row of a sequence, some of two neighbours, none.
TEST_CASE("many snapshots, and none") {
  const spec::Spec spec = sized("fuzz_gdn", "key: 1, value: 2, pairing: grouped", "key: 32, value: 64", kKeeping);
  for (const char* target : {"sm_90a", "sm_80"}) {
    const std::optional<Form> form = Form::make(spec, kOne, "chunk_delta", target);
    REQUIRE(form);
    oracle::Options options = with_lengths({5, 70, 130});
    options.snapshots = {0, 1, 2, 3, 4, 5, 70, 72, 73, 74, 75, 138, 139, 202, 203};
    check(*form, oracle::make_problem(spec, "chunk_delta", options), 5, fmt::format("{} many", target));

    // Lists that are not given: no state but the final ones is written.
    oracle::Problem with = oracle::make_problem(spec, "chunk_delta", options), without = with;
    form->run(with, 0);
    form->run_without(without, {"snapshot_rows", "snapshot_slots"});
    const oracle::Buffer &kept = with.buffer("state"), &left = without.buffer("state");
    const std::size_t bytes = kept.size_bytes() / static_cast<std::size_t>(with.slots());
    for (const auto& sequence : with.sequences()) {
      INFO(target << ", slot " << sequence.slot);
      // The same tokens in other chunks: rounding apart.
      CHECK(error_of(row_of(left, sequence.slot), row_of(kept, sequence.slot)) < 2e-3);
    }
    int unchanged = 0;
    const oracle::Problem fresh = oracle::make_problem(spec, "chunk_delta", options);
    for (const oracle::Snapshot& snapshot : with.snapshots()) {
      if (snapshot.padding) continue;
      const void* const was = fresh.buffer("state").row(snapshot.slot);
      CHECK(std::memcmp(left.row(snapshot.slot), was, bytes) == 0);
      CHECK(std::memcmp(kept.row(snapshot.slot), was, bytes) != 0);
      ++unchanged;
    }
    CHECK(unchanged >= 14);
  }
}

TEST_CASE("a sequence that goes on from a snapshot of the tensor cores is one long sequence") {
  for (const char* target : {"sm_90a", "sm_80"}) {
    const spec::Spec spec = sized("fuzz_kda", "key: 1, value: 2, pairing: grouped", "key: 32, value: 64", kKeeping);
    const std::optional<Form> form = Form::make(spec, kOne, "prefill", target);
    REQUIRE(form);
    constexpr int kFirst = 75, kSecond = 60;
    oracle::Options options = with_lengths({kFirst + kSecond});
    options.snapshots = {kFirst - 1};
    oracle::Problem whole = oracle::make_problem(spec, "prefill", options);
    options.lengths = {kSecond};
    options.snapshots = {kSecond};
    oracle::Problem second = oracle::make_problem(spec, "prefill", options);
    REQUIRE(second.sequences()[0].initial);
    form->run(whole, 0);
    continue_behind_snapshot(whole, kFirst, second);
    form->run(second, 0);
    INFO(target);
    for (int row = 0; row < kSecond; ++row) {
      CHECK(error_of(row_of(second.buffer("out"), row), row_of(whole.buffer("out"), kFirst + row)) < 2e-3);
    }
    CHECK(error_of(row_of(second.buffer("state"), second.sequences()[0].slot),
                   row_of(whole.buffer("state"), whole.sequences()[0].slot)) < 1e-3);
  }
}

}  // namespace
