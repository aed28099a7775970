// The emitted GPU sources, as emitted, run on the CPU for every operation of every spec, several steps, and agree with
// the oracle in every element they write, states included. Built once for each wave: GDN_TEST_TARGET names the target.
#include <cstdio>

#include "layout/resolve.h"
#include "plan/operation.h"
#include "support/catch.h"
#include "support/specs.h"
#include "verify/verify.h"

using namespace gdn;

namespace {

void verify_all(const std::string& file, const verify::Options& options) {
  const auto executor = verify::open_executor("simt", plan::find_target(GDN_TEST_TARGET));
  const spec::Spec spec = test::load_spec(file);
  const layout::Layout layout = layout::resolve(spec);
  for (const std::string_view operation : plan::operations_on(layout, executor->target())) {
    const verify::Result result = verify::verify(*executor, spec, layout, std::string(operation), options);
    INFO(*spec.name << " " << operation << " on " << GDN_TEST_TARGET << "\n" << oracle::describe(result.deviations));
    CHECK(!result.deviations.empty());
    CHECK(result.good);
  }
}

}  // namespace

TEST_CASE("fuzz geometries, three steps, rows in between that are padding") {
  for (const std::string& file : test::fuzz_specs()) {
    verify::Options options;
    options.rows = 5;
    options.padding_rows = 2;
    verify_all(file, options);
  }
}

TEST_CASE("released models at their true sizes, two steps") {
  for (const std::string& file : test::released_specs()) {
    verify::Options options;
    options.rows = 2;
    options.steps = 2;
    options.lengths = {18, 3};
    verify_all(file, options);
  }
}
