// Every operation of every spec on the CUDA GPU of this machine, compiled by NVRTC, against the oracle: fuzz geometries
// over several steps, released models at their true sizes.
#include "layout/resolve.h"
#include "plan/operation.h"
#include "skip.h"
#include "support/catch.h"
#include "support/specs.h"
#include "verify/verify.h"

using namespace gdn;

namespace {

void verify_all(const std::vector<std::string>& files, const verify::Options& options) {
  if (test::no_cuda()) return;
  const auto executor = verify::open_executor("cuda");
  for (const std::string& file : files) {
    const spec::Spec spec = test::load_spec(file);
    const layout::Layout layout = layout::resolve(spec);
    for (const std::string_view operation : plan::operations_on(layout, executor->target())) {
      const verify::Result result = verify::verify(*executor, spec, layout, std::string(operation), options);
      INFO(*spec.name << " " << operation << "\n" << oracle::describe(result.deviations));
      CHECK(!result.deviations.empty());
      CHECK(result.good);
    }
  }
}

}  // namespace

TEST_CASE("fuzz geometries on the GPU") {
  verify::Options options;
  options.rows = 7;
  options.padding_rows = 2;
  options.steps = 4;
  verify_all(test::fuzz_specs(), options);
}

TEST_CASE("released models at their true sizes on the GPU") {
  verify::Options options;
  options.rows = 16;
  verify_all(test::released_specs(), options);
}

TEST_CASE("decode for few rows and for many agrees with the oracle on the GPU: every entry point of the plan") {
  if (test::no_cuda()) return;
  const auto executor = verify::open_executor("cuda");
  for (const std::string& file : test::released_specs()) {
    const spec::Spec spec = test::load_spec(file);
    const layout::Layout layout = layout::resolve(spec);
    std::vector<int> rows;
    for (const core::Variant& variant : plan::make(layout, "decode", executor->target()).kernel.variants) {
      rows.push_back(variant.max_rows);
    }
    rows.push_back(rows.empty() ? 3 : rows.back() + 1);
    for (const int count : rows) {
      verify::Options options;
      options.rows = count;
      options.steps = 1;
      const verify::Result result = verify::verify(*executor, spec, layout, "decode", options);
      INFO(*spec.name << ", " << count << " rows\n" << oracle::describe(result.deviations));
      CHECK(!result.deviations.empty());
      CHECK(result.good);
    }
  }
}

TEST_CASE("the same launch twice gives the same bits") {
  if (test::no_cuda()) return;
  const auto executor = verify::open_executor("cuda");
  for (const std::string& file : test::released_specs()) {
    const spec::Spec spec = test::load_spec(file);
    const layout::Layout layout = layout::resolve(spec);
    const auto kernel = executor->load(plan::make(layout, "decode", executor->target()));
    oracle::Options options;
    options.rows = 8;
    oracle::Problem first = oracle::make_problem(spec, "decode", options);
    oracle::Problem second = first;
    kernel->run(first, verify::views_of(first, layout));
    kernel->run(second, verify::views_of(second, layout));
    for (std::size_t i = 0; i < first.buffers().size(); ++i) {
      const oracle::Buffer& a = first.buffers()[i];
      const oracle::Buffer& b = second.buffers()[i];
      INFO(*spec.name << " " << a.name);
      CHECK(std::equal(a.data(), a.data() + a.size_bytes(), b.data()));
    }
  }
}
