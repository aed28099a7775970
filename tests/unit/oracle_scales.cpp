// The verdict on outputs under scales that are powers of two: near a power the error before may lead to the next one.
#include <cmath>
#include <string>

#include "oracle/compare.h"
#include "oracle/convert.h"
#include "oracle/interpret.h"
#include "spec/parser.h"
#include "support/catch.h"

using namespace gdn;
using namespace gdn::oracle;

namespace {

std::size_t index_of(const Problem& problem, const std::string& name) {
  for (std::size_t i = 0; i < problem.buffers().size(); ++i) {
    if (problem.buffers()[i].name == name) return i;
  }
  throw std::out_of_range(name);
}

// Gives a group another scale, and its codes the nearest ones under it.
void rescale(const Expectation& expectation, Problem& problem, std::int64_t row, int group, double scale) {
  Buffer& scales = problem.buffer("out_scale");
  Buffer& codes = problem.buffer("out");
  const std::size_t offset = scales.offset(row, group);
  const double before = load(scales.dtype, expectation.buffers[index_of(problem, "out_scale")].image.data() + offset);
  store(scales.dtype, scales.data() + offset, scale);
  const std::vector<double>& exact = expectation.buffers[index_of(problem, "out")].exact;
  const int channels = channels_of_group(problem.spec());
  for (std::int64_t channel = group * channels; channel < (group + 1) * channels; ++channel) {
    const double number = exact[static_cast<std::size_t>(row * codes.inner + channel)];
    store(codes.dtype, codes.data() + codes.offset(row, channel), number * before / scale);
  }
}

}  // namespace

TEST_CASE("a scale may be the neighbouring power of two near a power, and nowhere else", "[oracle]") {
  const spec::Spec spec = spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_quant_group.yaml");
  Options options;
  options.rows = 64;
  for (const char* operation : {"norm_quant", "decode"}) {
    const Problem start = make_problem(spec, operation, options);
    Expectation expectation = expect(start);
    Problem good = start;
    apply(expectation, good);
    REQUIRE(describe(compare(expectation, good)) == "");

    const Buffer& scales = good.buffer("out_scale");
    std::vector<double>& exact = expectation.buffers[index_of(good, "out_scale")].exact;
    REQUIRE_FALSE(exact.empty());
    int tried = 0;
    for (std::int64_t row = 0; row < options.rows; ++row) {
      for (int group = 0; group < scales.inner; ++group) {
        const double want = load(scales.dtype, scales.data() + scales.offset(row, group));
        double& before = exact[static_cast<std::size_t>(row * scales.inner + group)];
        for (const double got : {want / 2, want * 2}) {
          const double boundary = std::min(got, want);
          if (std::fabs(before / boundary - 1) > 0.02) continue;  // the codes fit both scales
          ++tried;
          Problem moved = good, alone = good, further = good;
          rescale(expectation, moved, row, group, got);
          rescale(expectation, further, row, group, got * got / want);
          Buffer& changed = alone.buffer("out_scale");  // without its codes: numbers twice or half as large
          store(changed.dtype, changed.data() + changed.offset(row, group), got);
          const double real = before;
          for (const double away : {1e-5, -1e-5, 1e-3, -1e-3}) {  // the spec computes in fp32: its limit is 3e-5
            before = boundary * (1 + away);
            CAPTURE(operation, row, group, want, before, got);
            CHECK(all_good(compare(expectation, moved)) == (std::fabs(away) < 1e-4));
            CHECK_FALSE(all_good(compare(expectation, alone)));
            CHECK_FALSE(all_good(compare(expectation, further)));
          }
          before = real;
        }
      }
    }
    CHECK(tried >= 10);
  }
}
