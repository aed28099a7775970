// Prefill that keeps snapshots, by the tensor cores' kernels, through NVRTC: the same matrix instructions as without
// them, none serialised, and no more kept in local memory on the way from one to the next.
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <string>

#include "compile/compiler.h"
#include "compile/headers.h"
#include "core/prefill.h"
#include "emit/source.h"
#include "layout/resolve.h"
#include "opcodes.h"
#include "support/catch.h"
#include "support/pace.h"
#include "support/specs.h"

using namespace gdn;

namespace {

int products(const runtime::Binary& binary, const std::string& symbol) {
  return test::count_opcode(binary, symbol, test::kHgmma) + test::count_opcode(binary, symbol, test::kHgmmaShared) +
         test::count_opcode(binary, symbol, test::kHmma);
}

runtime::Binary compile(const spec::Spec& spec, const char* operation, const char* target, core::KernelPlan& plan) {
  const plan::Planned planned = plan::make(layout::resolve(spec), operation, *plan::find_target(target));
  plan = planned.kernel;
  const emit::EmittedFile file = emit::source(planned);
  runtime::Options options;
  options.no_cache = true;
  return runtime::make_nvrtc()->compile({file.path, file.text, runtime::template_headers()}, target, options);
}

struct Row {
  const char *spec, *operation, *target;
  int spills;  // words between products: as many as two slices of single warps have without snapshots
};

}  // namespace

TEST_CASE("kernels that keep snapshots hold the same matrix instructions as those that keep none") {
  for (const Row& row : {Row{"qwen3_next_80b", "prefill", "sm_90a", 0},
                         {"kimi_linear_48b", "chunk_delta", "sm_90a", 0},
                         {"qwen3_next_80b", "chunk_delta", "sm_80", 12}}) {
    const std::string path = std::string(GDN_SOURCE_DIR) + "/specs/" + row.spec + ".yaml";
    core::KernelPlan plan, plain;
    const test::Pace pace;
    const std::clock_t start = std::clock();
    const runtime::Binary binary =
        compile(test::variant(path, "snapshots: none", "snapshots: slots"), row.operation, row.target, plan);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    const runtime::Binary without = compile(test::released(row.spec), row.operation, row.target, plain);
    REQUIRE(plan.facts.snapshots);
    CHECK(binary.log.find("C75") == std::string::npos);
    int kernels = 0;
    for (const core::PrefillKernel& kernel : core::prefill_kernels(plan)) {
      const std::string name = "_" + std::string(kernel.name);
      INFO(plan.symbol << name);
      CHECK(products(binary, plan.symbol + name) == products(without, plain.symbol + name));
      const int spills = test::spills_among_products(binary, plan.symbol + name);
      CHECK(spills <= std::max(row.spills, test::spills_among_products(without, plain.symbol + name)));
      ++kernels;
    }
    CHECK(kernels >= 3);
    fmt::print("{} with snapshots: {:.1f} s\n", plan.symbol, seconds);
    CHECK(seconds < pace.allow(10.0));
  }
}
