// Every operation of every spec on the CUDA GPU of this machine, compiled by NVRTC, against the oracle: fuzz geometries
// over several steps, released models at their true sizes.
#include <cstdlib>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "core/arrivals.h"
#include "core/prefill.h"
#include "layout/resolve.h"
#include "plan/choices.h"
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
    const core::KernelPlan plan = plan::make(layout, "decode", executor->target()).kernel;
    for (const core::Edge edge : {core::Edge::kPlain, core::Edge::kProgrammatic}) {
      int most = 2;
      std::vector<int> rows;
      for (const core::Variant& variant : plan.variants) {
        if (variant.max_rows == 0 || !core::has(variant.edges, edge)) continue;
        if (edge == core::Edge::kPlain || variant.edges != core::Edges::kBoth) rows.push_back(variant.max_rows);
        most = std::max(most, variant.max_rows);
      }
      rows.push_back(most + 1);
      for (const int count : rows) {
        verify::Options options;
        options.rows = count;
        options.steps = 1;
        options.edge = edge;
        const verify::Result result = verify::verify(*executor, spec, layout, "decode", options);
        INFO(*spec.name << ", " << count << " rows on " << core::to_string(edge) << " edges\n"
                        << oracle::describe(result.deviations));
        CHECK(!result.deviations.empty());
        CHECK(result.good);
      }
    }
  }
}

TEST_CASE("decode's blocks that meet in memory agree with the oracle on the GPU") {
  if (test::no_cuda()) return;
  const auto executor = verify::open_executor("cuda");
  const std::string target(executor->target().name);
  for (const char* name : {"specs/qwen3_next_80b.yaml", "specs/qwen3_5_27b.yaml", "specs/kimi_linear_48b.yaml"}) {
    const spec::Spec spec = test::load_spec(std::string(GDN_SOURCE_DIR) + "/" + name);
    const layout::Layout layout = layout::resolve(spec);
    for (const char* parts : {"head_parts=1 row_parts=2", "head_parts=1 row_parts=4"}) {
      verify::Options options;
      options.rows = 9;
      options.steps = 3;
      options.tuning = plan::TuningTable::parse("gdn-gen tuning 3\n" + target +
                                                " decode * * threads=128 rows_per_pass=4 arrivals=1 " + parts + "\n");
      REQUIRE(core::arrivals_operand(plan::make(layout, "decode", executor->target(), options.tuning).kernel) >= 0);
      const verify::Result result = verify::verify(*executor, spec, layout, "decode", options);
      INFO(*spec.name << ", " << parts << "\n" << oracle::describe(result.deviations));
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

// In parts that can run side by side: a process of NVRTC compiles one kernel after the other.
constexpr int kParts = 8;

// Each way of spreading chunk_delta over the GPU, whatever the plan would choose for so small a problem.
TEMPLATE_TEST_CASE_SIG("every form of a prefill on Hopper agrees with the oracle", "", ((int part), part), 0, 1, 2, 3,
                       4, 5, 6, 7) {
  static_assert(part < kParts);
  if (test::no_cuda()) return;
  const auto executor = verify::open_executor("cuda");
  if (executor->target().name != "sm_90a") return;
  std::vector<std::string> files = test::fuzz_specs();
  for (const std::string& file : test::released_specs()) files.push_back(file);
  const oracle::Keys all_keys[] = {oracle::Keys::kRandom, oracle::Keys::kCorrelated, oracle::Keys::kRepeated};
  int checked = 0, dealt = 0;
  for (const std::string& file : files) {
    const spec::Spec spec = test::load_spec(file);
    const layout::Layout layout = layout::resolve(spec);
    for (const char* operation : {"chunk_delta", "prefill"}) {
      // One, two, pair, 3 segments, 5 segments, as the choice "form" numbers them; then, as negative numbers, those of
      // single warps.
      std::vector<std::pair<int, plan::Planned>> plans;
      for (const int form : {1, 2, 3, 4, 6, -1, -2}) {
        plan::Choices choices = plan::model_bands(executor->target(), operation, layout.numbers)[0].choices;
        choices.emplace_back("form", std::abs(form));
        if (form < 0) choices.emplace_back("warps", 1);
        plan::TuningTable tuning = plan::TuningTable::none();
        tuning.set("sm_90a", operation, layout.spec, {{0, choices}});
        try {
          plan::Planned planned = plan::make(layout, operation, executor->target(), tuning);
          if (core::prefill_set(planned.kernel) == core::PrefillSet::kNone) continue;
          plans.emplace_back(form, std::move(planned));
        } catch (const plan::Unplannable&) {
          continue;
        }
      }
      if (plans.empty() || dealt++ % kParts != part) continue;
      const bool pads = plans[0].second.kernel.facts.padding != core::Padding::kNone;
      // A compiler takes some seconds for each.
      std::vector<std::pair<int, std::future<std::unique_ptr<verify::Loaded>>>> loads;
      for (const auto& [form, planned] : plans) {
        loads.emplace_back(
            form, std::async(std::launch::async, [&executor, &planned = planned] { return executor->load(planned); }));
      }
      std::vector<std::pair<int, std::unique_ptr<verify::Loaded>>> forms;
      for (auto& [form, load] : loads) forms.emplace_back(form, load.get());
      // The oracle takes longer than all the forms.
      for (const oracle::Keys keys : all_keys) {
        oracle::Options options;
        options.keys = keys;
        options.padding_rows = pads ? 1 : 0;
        options.extra_stride = 64;
        if (keys != oracle::Keys::kRandom) options.lengths = std::vector<int>{700, 64, 63};
        const oracle::Problem untouched = oracle::make_problem(spec, operation, options);
        const oracle::Expectation expectation = oracle::expect(untouched);
        for (const auto& [form, kernel] : forms) {
          oracle::Problem problem = untouched;
          kernel->run(problem, verify::views_of(problem, layout));
          const auto deviations = oracle::compare(expectation, problem);
          INFO(*spec.name << " " << operation << " form " << form << " keys " << static_cast<int>(keys) << "\n"
                          << oracle::describe(deviations));
          CHECK(oracle::all_good(deviations));
          ++checked;
        }
      }
    }
  }
  CHECK(checked > 0);
}
