// The field's accidents, each replayed: buffers in one layout are given to a kernel made for another one of the same
// shape. The launch is refused by identity; forced past the check, the kernel runs without any error and its output is
// wrong, so that the test proves that the check matters.
#include <fmt/format.h>

#include "error.h"
#include "layout/resolve.h"
#include "support/catch.h"
#include "support/specs.h"
#include "support/thrown.h"
#include "verify/verify.h"

using namespace gdn;

namespace {

const std::string kNext = std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml";
const std::string kFuzz = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml";

oracle::Options two_rows() {
  oracle::Options options;
  options.rows = 2;
  return options;
}

// Gives buffers of `owner` to the decode kernel of `kernel_spec`. `operand` is the one that the refusal must name.
void replay(const spec::Spec& owner, const spec::Spec& kernel_spec, const std::string& operand) {
  const auto executor = verify::open_executor("simt");
  const layout::Layout owned = layout::resolve(owner);
  const auto kernel = executor->load(plan::make(layout::resolve(kernel_spec), "decode", executor->target()));

  oracle::Problem problem = oracle::make_problem(owner, "decode", two_rows());
  const oracle::Expectation expectation = oracle::expect(problem);
  const std::vector<runtime::View> views = verify::views_of(problem, owned);
  const oracle::Problem before = problem;

  const test::Thrown thrown = test::thrown_by([&] { kernel->run(problem, views); });
  REQUIRE(thrown.code);
  CHECK(*thrown.code == runtime::Code::kLayoutMismatch);
  INFO(thrown.text);
  CHECK(thrown.has("operand " + operand));
  for (std::size_t i = 0; i < before.buffers().size(); ++i) {
    const oracle::Buffer& now = problem.buffers()[i];
    CHECK(std::equal(now.data(), now.data() + now.size_bytes(), before.buffers()[i].data()));
  }

  kernel->run_unchecked(problem, views);
  double worst = 0;
  for (const oracle::Deviation& deviation : oracle::compare(expectation, problem)) {
    if (deviation.name == "out") worst = deviation.error;
  }
  fmt::print("forced past the check, the output is wrong by {:.2g}\n", worst);
  CHECK(worst > 0.05);
}

}  // namespace

TEST_CASE("vllm_42880: Qwen3.5 rows given to the Qwen3-Next kernel") {
  replay(test::released("qwen3_5_35b_a3b"), test::released("qwen3_next_80b"), "qkvz");
}

TEST_CASE("swapped b and a") {
  const std::string order = "{b: [group], a: [group]}", swapped = "{a: [group], b: [group]}";
  replay(test::variant(kNext, order, swapped), test::load_spec(kNext), "ba");
}

TEST_CASE("transposed state: (K, V) given for (V, K) where K = V") {
  replay(test::variant(kNext, "[slot@launch, value_head, value_dim, key_dim]",
                       "[slot@launch, value_head, key_dim, value_dim]"),
         test::load_spec(kNext), "state");
}

TEST_CASE("tiled for grouped at group 3") {
  replay(test::variant(kFuzz, "pairing: grouped", "pairing: tiled"), test::load_spec(kFuzz), "qkvz");
}

TEST_CASE("A stored as -exp(A_log) given for A_log") {
  replay(test::variant(kNext, "a_log: log ", "a_log: negative_exp "), test::load_spec(kNext), "a_log");
}

TEST_CASE("KDA: decays by channel and head given for decays by head and channel") {
  const std::string ling = std::string(GDN_SOURCE_DIR) + "/specs/ling_3_0_tiny.yaml";
  replay(test::variant(ling, "a: {dtype: bf16, dims: [token@launch, value_head, key_dim]}       # f_a_proj",
                       "a: {dtype: bf16, dims: [token@launch, key_dim, value_head]}       # f_a_proj"),
         test::load_spec(ling), "a");
  replay(test::variant(ling, "[slot@launch, value_head, value_dim, key_dim]",
                       "[slot@launch, value_head, key_dim, value_dim]"),
         test::load_spec(ling), "state");
}

TEST_CASE("conv window: taps of the weight in the other order") {
  replay(test::variant(kNext, "taps: oldest_first", "taps: newest_first"), test::load_spec(kNext), "conv_weight");
}

TEST_CASE("q and k swapped where each is a tensor of its own") {
  const spec::Spec olmo = test::released("olmo_hybrid_7b");
  const auto executor = verify::open_executor("simt");
  const layout::Layout layout = layout::resolve(olmo);
  const auto kernel = executor->load(plan::make(layout, "decode", executor->target()));
  oracle::Problem problem = oracle::make_problem(olmo, "decode", two_rows());
  std::vector<runtime::View> views = verify::views_of(problem, layout);
  std::swap(views[0], views[1]);
  const test::Thrown thrown = test::thrown_by([&] { kernel->run(problem, views); });
  REQUIRE(thrown.code);
  CHECK(*thrown.code == runtime::Code::kLayoutMismatch);
  INFO(thrown.text);
  CHECK(thrown.has("operand q"));
}

TEST_CASE("undecayed prediction: the oracle tells it from the rule") {
  // A step that predicts from the state before its decay is wrong by a few percent only: the tolerance must see it.
  const spec::Spec spec = test::load_spec(kFuzz);
  oracle::Problem problem = oracle::make_problem(spec, "decode", two_rows());
  const oracle::Expectation right = oracle::expect(problem);
  oracle::apply(oracle::expect_as(problem, spec, oracle::StepOrder::kPredictUndecayed), problem);
  const auto deviations = oracle::compare(right, problem);
  CHECK_FALSE(oracle::all_good(deviations));
  for (const oracle::Deviation& deviation : deviations) {
    if (deviation.name == "out" || deviation.name == "state") CHECK(deviation.error > 4 * deviation.tolerance);
  }
}
