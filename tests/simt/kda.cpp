// KDA's emitted GPU sources on the CPU, beside GDN's: with one decay for all key channels of a head they are the same
// layer. Built once for each wave: GDN_TEST_TARGET names the target.
#include "layout/resolve.h"
#include "oracle/compare.h"
#include "support/catch.h"
#include "support/parts_of_rows.h"
#include "support/rows.h"
#include "support/specs.h"
#include "verify/verify.h"

using namespace gdn;

namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  REQUIRE(text.find(from) != std::string::npos);
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

void run(verify::Executor& executor, const spec::Spec& spec, const std::string& operation, oracle::Problem& problem) {
  const layout::Layout layout = layout::resolve(spec);
  const auto kernel = executor.load(plan::make(layout, operation, executor.target()));
  kernel->run(problem, verify::views_of(problem, layout));
}

}  // namespace

TEST_CASE("KDA with one decay for all channels of a head is GDN") {
  const auto executor = verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET));
  const std::string file = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_kda.yaml";
  for (const char* state : {"value_dim, key_dim", "key_dim, value_dim"}) {
    const std::string text = replaced(replaced(test::read_text(file), "bf16", "fp32"), "value_head, value_dim, key_dim",
                                      std::string("value_head, ") + state);
    const spec::Spec kda = test::parse_spec(file, text);
    const spec::Spec gdn = test::parse_spec(
        file, replaced(replaced(replaced(text, "rule: kda", "rule: gdn"), "value_head, key_dim]", "value_head]"),
                       ", a: low_rank, a_rank: 8, z: single", ""));
    for (const std::string operation : {"decode", "delta_update"}) {
      CAPTURE(operation, state);
      oracle::Options options;
      options.rows = 3;
      oracle::Problem narrow = oracle::make_problem(gdn, operation, options);
      oracle::Problem wide = oracle::make_problem(kda, operation, options);
      const std::string gate = operation == "decode" ? "in.a" : "in.g";
      for (int row = 0; row < options.rows; ++row)
        test::put_part(wide, gate, row, test::widened(test::part_of_row(narrow, gate, row), 32));
      if (operation == "decode")
        test::put_part(wide, "dt_bias", 0, test::widened(test::part_of_row(narrow, "dt_bias", 0), 32));
      run(*executor, gdn, operation, narrow);
      run(*executor, kda, operation, wide);
      const std::string out = operation == "decode" ? "out.out" : "out.o";
      for (int row = 0; row < options.rows; ++row) {
        CHECK(test::error_of(test::part_of_row(wide, out, row), test::part_of_row(narrow, out, row)) < 2e-6);
        const std::int64_t slot = narrow.row_slot(row);
        CHECK(test::error_of(test::part_of_row(wide, "state", slot), test::part_of_row(narrow, "state", slot)) < 1e-6);
      }
    }
  }
}
