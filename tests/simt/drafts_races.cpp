// No two accesses of decode_spec and state_commit race, as emitted, in every scheme of roll-back, in each form that a
// launch can take, whatever the order in which blocks and threads run; and races that are planted in them are found.
#include <dlfcn.h>

#include <cstring>

#include "check.h"
#include "layout/resolve.h"
#include "plan/plan.h"
#include "race_detector.h"
#include "support/catch.h"
#include "support/specs.h"
#include "verify/executor.h"

using namespace gdn;

namespace {

using KernelFunction = void (*)(Args);

KernelFunction function(const std::string& symbol) {
  INFO(symbol);
  void* const found = dlsym(nullptr, symbol.c_str());  // of this program: the build emits and compiles the files
  REQUIRE(found != nullptr);
  return reinterpret_cast<KernelFunction>(found);
}

struct Form {
  std::string symbol;
  core::LaunchRule rule;
};

// Those of a plan, largest launches last.
std::vector<Form> forms_of(const core::KernelPlan& plan) {
  std::vector<Form> forms;
  for (const core::Variant& variant : plan.variants) forms.push_back({variant.symbol, variant.launch});
  forms.push_back({plan.symbol, plan.launch});
  return forms;
}

struct Found {
  races::Report races;
  std::string fault;  // that the shim found
};

// A launch of five sequences of a few tokens, with none to all of the last launch's accepted. `cluster`: how many
// blocks run as one.
Found launch(const spec::Spec& spec, const core::KernelPlan& plan, const Form& form, unsigned order, int cluster,
             bool repeat_slot = false) {
  oracle::Options options;
  options.rows = 5;
  options.seed = 11 + order;
  options.extra_stride = 64;
  options.padding_rows = plan.facts.padding != core::Padding::kNone ? 1 : 0;
  oracle::Problem problem = oracle::make_problem(spec, plan.operation, options);
  const int most = plan.facts.tokens;
  const std::vector<int> tokens = {most, 2, most - 1, 1, most}, accepted = {most - 1, most, 2, 0, most};
  problem.arrange(tokens, accepted);
  std::vector<runtime::View> views = verify::views_of(problem, layout::resolve(spec));
  if (repeat_slot) {  // every sequence has the slots of the first
    oracle::Buffer& slots = problem.buffers()[static_cast<std::size_t>(plan.facts.slots_operand)];
    const auto bytes = static_cast<std::size_t>(slots.inner) * core::size_of(slots.dtype);
    for (std::int64_t row = 1; row < slots.rows; ++row) std::memcpy(slots.row(row), slots.row(0), bytes);
  }
  const Args args = runtime::make_args(plan, problem.rows(), problem.slots(), views);
  for (const oracle::Buffer& buffer : problem.buffers()) races::watch(buffer.data(), buffer.size_bytes());
  char message[512] = {};
  const int rows = core::grid_rows(form.rule, args);
  const int x = form.rule.one_dimension ? rows * form.rule.blocks_per_row : rows;
  const int y = form.rule.one_dimension ? 1 : form.rule.blocks_per_row;
  gdn_host_launch(function(form.symbol), &args, x, y, form.rule.threads, cluster, form.rule.shared_bytes, order,
                  message, sizeof(message));
  return {races::stop(), message};
}

core::KernelPlan plan_of(const spec::Spec& spec, const char* operation) {
  return plan::make(layout::resolve(spec), operation, *plan::find_target("sm_90a")).kernel;
}

const char* const kSpecs[] = {
    "fuzz_spec_slots",  "fuzz_spec_slots_kv",  "fuzz_spec_intermediate", "fuzz_spec_intermediate_kv",
    "fuzz_spec_replay", "fuzz_spec_replay_kv", "fuzz_spec_kda",          "fuzz_spec_kda_kv"};

}  // namespace

TEST_CASE("no accesses of decode_spec and state_commit race, in any order of blocks and threads") {
  int split = 0;
  for (const char* name : kSpecs) {
    const spec::Spec spec = test::fuzz(name);
    for (const char* operation : {"decode_spec", "state_commit"}) {
      const core::KernelPlan plan = plan_of(spec, operation);
      for (const Form& form : forms_of(plan)) {
        split += form.rule.cluster > 1 ? 1 : 0;
        for (const unsigned order : {0u, 1u, 977u}) {
          CAPTURE(form.symbol, order);
          const Found found = launch(spec, plan, form, order, form.rule.cluster);
          CHECK(found.fault == "");
          CHECK(found.races.first == "");
          CHECK(found.races.races == 0);
        }
      }
    }
  }
  CHECK(split >= 5);  // forms whose value heads are shared by a cluster
}

TEST_CASE("parts of a key head that do not meet race for the windows that all of them read, and the detector sees it") {
  int planted = 0;
  for (const char* name : kSpecs) {
    const spec::Spec spec = test::fuzz(name);
    const core::KernelPlan plan = plan_of(spec, "decode_spec");
    for (const Form& form : forms_of(plan)) {
      if (form.rule.cluster == 1) continue;
      if (plan.facts.rollback == core::Rollback::kIntermediate)
        continue;  // its launches leave what is read where it is
      ++planted;
      for (const unsigned order : {0u, 1u, 977u}) {
        CAPTURE(form.symbol, order);
        CHECK(launch(spec, plan, form, order, 1).races.races > 0);  // each block a cluster by itself: nobody waits
      }
    }
  }
  CHECK(planted >= 5);
}

TEST_CASE("sequences that share a slot race, and the detector sees it") {
  for (const char* name : kSpecs) {
    const spec::Spec spec = test::fuzz(name);
    for (const char* operation : {"decode_spec", "state_commit"}) {
      CAPTURE(name, operation);
      const core::KernelPlan plan = plan_of(spec, operation);
      const Form form = forms_of(plan).back();
      CHECK(launch(spec, plan, form, 0, form.rule.cluster, true).races.races > 0);
    }
  }
}
