// Each row of the dispatch table, and what a batch is refused for.
#include <map>
#include <string>
#include <vector>

#include "dispatch/dispatch.h"
#include "support/catch.h"
#include "support/thrown.h"

namespace {

using namespace gdn::runtime;
using gdn::test::thrown_by;

const Rows kDecode{RowKind::kDecode, 3}, kSpeculative{RowKind::kSpeculative, 2}, kPrefill{RowKind::kPrefill, 1};

// Everything is there but the operations listed, each with its reason.
Availability without(const std::map<std::string, std::string, std::less<>>& missing) {
  return [missing](std::string_view operation) {
    const auto found = missing.find(operation);
    return found == missing.end() ? std::string() : found->second;
  };
}

struct Row {
  const char* what;
  std::vector<Rows> batch;
  std::map<std::string, std::string, std::less<>> missing;
  std::vector<Step> steps;
};

const std::vector<Row> kTable = {
    {"decode rows only", {kDecode}, {}, {{"decode", RowKind::kDecode, 0, 3}}},
    {"speculative rows", {kSpeculative}, {}, {{"decode_spec", RowKind::kSpeculative, 0, 2}}},
    {"prefill rows", {kPrefill}, {}, {{"prefill", RowKind::kPrefill, 0, 1}}},
    {"mixed: one call, split by rows",
     {kDecode, kSpeculative, kPrefill},
     {},
     {{"decode", RowKind::kDecode, 0, 3},
      {"decode_spec", RowKind::kSpeculative, 3, 2},
      {"prefill", RowKind::kPrefill, 5, 1}}},
    {"mixed, in the batch's order and not the table's",
     {kPrefill, kDecode, kPrefill},
     {},
     {{"prefill", RowKind::kPrefill, 0, 1}, {"decode", RowKind::kDecode, 1, 3}, {"prefill", RowKind::kPrefill, 4, 1}}},
    {"neighbours of one kind are one launch", {kDecode, kDecode}, {}, {{"decode", RowKind::kDecode, 0, 6}}},
    {"no fused decode: its parts",
     {kDecode},
     {{"decode", "too large"}},
     {{"conv_update", RowKind::kDecode, 0, 3},
      {"gating", RowKind::kDecode, 0, 3},
      {"delta_update", RowKind::kDecode, 0, 3},
      {"norm_quant", RowKind::kDecode, 0, 3}}},
    {"no fused prefill: its parts",
     {kDecode, kPrefill},
     {{"prefill", "too large"}},
     {{"decode", RowKind::kDecode, 0, 3},
      {"conv_prefill", RowKind::kPrefill, 3, 1},
      {"gating", RowKind::kPrefill, 3, 1},
      {"chunk_delta", RowKind::kPrefill, 3, 1},
      {"norm_quant", RowKind::kPrefill, 3, 1}}},
    {"a missing part does not matter where the fused operation is there",
     {kDecode},
     {{"gating", "not built"}},
     {{"decode", RowKind::kDecode, 0, 3}}},
};

TEST_CASE("every row of the dispatch table") {
  for (const Row& row : kTable) {
    INFO(row.what);
    const Decision decision = dispatch(row.batch, without(row.missing));
    CHECK(decision.supported());
    CHECK((decision.steps == row.steps));
  }
}

struct Refusal {
  const char* what;
  std::vector<Rows> batch;
  std::map<std::string, std::string, std::less<>> missing;
  std::vector<const char*> words;
};

TEST_CASE("what nothing fits is unsupported as a whole, with the reasons") {
  const std::vector<Refusal> table = {
      {"neither decode nor one of its parts",
       {kDecode},
       {{"decode", "64 KB of shared memory"}, {"delta_update", "no matrix cores"}},
       {"decode rows", "64 KB of shared memory", "delta_update", "no matrix cores"}},
      {"speculative rows have no parts",
       {kSpeculative},
       {{"decode_spec", "the spec has none"}},
       {"speculative rows", "the spec has none", "no parts"}},
      {"one kind of a mixed batch",
       {kDecode, kSpeculative},
       {{"decode_spec", "the spec has none"}},
       {"speculative rows", "decode_spec"}},
  };
  for (const Refusal& refusal : table) {
    INFO(refusal.what);
    const Decision decision = dispatch(refusal.batch, without(refusal.missing));
    CHECK_FALSE(decision.supported());
    CHECK(decision.steps.empty());
    for (const char* word : refusal.words) CHECK_THAT(decision.unsupported, Catch::Contains(word));
  }
}

TEST_CASE("batches that are none") {
  const auto code_of = [](const std::vector<Rows>& batch) {
    return thrown_by([&] { dispatch(batch, without({})); }).code;
  };
  CHECK(code_of({}) == Code::kBadArgument);
  CHECK(code_of({{RowKind::kDecode, 0}}) == Code::kBadArgument);
  CHECK(code_of({kDecode, {RowKind::kPrefill, -1}}) == Code::kBadArgument);
  CHECK(code_of({{RowKind::kDecode, 2147483647}, kPrefill}) == Code::kBadArgument);
}

}  // namespace
