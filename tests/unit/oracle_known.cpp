// The whole decode against numbers that another program computed from the formulas, and KDA against GDN.
#include <cmath>
#include <cstring>

#include "oracle/compare.h"
#include "oracle/formulas.h"
#include "oracle/parts.h"
#include "oracle_specs.h"
#include "support/catch.h"

using namespace gdn;
using namespace gdn::oracle;
using test::Choice;

namespace {

std::vector<double> get(const Problem& problem, const std::string& key, std::int64_t row) {
  const BoundPart part = problem.operands().at(key);
  const Buffer& buffer = problem.buffers()[static_cast<std::size_t>(part.operand)];
  return load_part(buffer.dtype, buffer.row(row), *part.map);
}

void put(Problem& problem, const std::string& key, std::int64_t row, const std::vector<double>& values) {
  const BoundPart part = problem.operands().at(key);
  Buffer& buffer = problem.buffers()[static_cast<std::size_t>(part.operand)];
  REQUIRE(values.size() == part.map->offset.size());
  store_part(buffer.dtype, buffer.row(row), *part.map, values);
}

// Numbers between -2 and 2 in sixteenths.
std::vector<double> simple(int number, int count) {
  std::vector<double> values;
  for (int i = 0; i < count; ++i) values.push_back(((i * 37 + number * 11) % 64 - 32) / 16.0);
  return values;
}

void check_near(const std::vector<double>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(got[i] == Approx(want[i]).epsilon(1e-6).margin(2e-9));
}

}  // namespace

// One key head, two value heads, K=2, V=3, conv width 3, beta doubled: forty lines of Python gave these results.
TEST_CASE("a small decode, number by number", "[oracle]") {
  for (const bool first : {true, false}) {
    Choice choice{{1, 2, 2, 3}};
    choice.activations = core::DType::kFp32;
    choice.state_vk = choice.conv_sd = first;
    spec::Spec spec = make_spec(choice);
    spec.conv.width.value = 3;
    spec.conv.window.value = 2;
    spec.beta.factor.value = 2;
    Options options;
    options.rows = 1;
    Problem p = make_problem(spec, "decode", options);
    const std::int64_t slot = p.row_slot(0);
    const std::pair<const char*, std::vector<double>> inputs[] = {{"in.q", simple(1, 2)}, {"in.k", simple(2, 2)},
                                                                  {"in.v", simple(3, 6)}, {"in.z", simple(4, 6)},
                                                                  {"in.b", simple(5, 2)}, {"in.a", simple(6, 2)}};
    for (const auto& [key, values] : inputs) put(p, key, 0, values);
    put(p, "conv_weight.q", 0, simple(7, 6));
    put(p, "conv_weight.k", 0, simple(8, 6));
    put(p, "conv_weight.v", 0, simple(9, 18));
    put(p, "conv_state.q", slot, simple(10, 4));
    put(p, "conv_state.k", slot, simple(11, 4));
    put(p, "conv_state.v", slot, simple(12, 12));
    put(p, "a_log", 0, simple(13, 2));
    put(p, "dt_bias", 0, simple(14, 2));
    put(p, "norm_weight", 0, simple(15, 3));
    put(p, "state", slot, simple(16, 12));

    apply(expect(p), p);
    check_near(get(p, "out.out", 0), {-0.020965443, 0.625046137, 0.120207933, 0.005594581, 0.561833932, -0.035536385});
    check_near(get(p, "state", slot),
               {0.974037584, -2.099818123, 1.478834762, -0.100374643, 5.421602708, 0.993411879, 0.029008223,
                -0.368100097, 0.044996962, -0.144388632, 1.824541765, -0.223642465});
    check_near(get(p, "conv_state.v", slot),
               {0.5625, 0.0625, 1.1875, -1.625, 1.8125, 0.6875, -1.5625, -1.0, -0.9375, 1.3125, -0.3125, -0.375});
  }
}

// Both orders of norm and gate, with an eps that shows: from the same other program.
TEST_CASE("a small output norm, number by number", "[oracle]") {
  for (const bool norm_first : {true, false}) {
    CAPTURE(norm_first);
    Choice choice{{1, 2, 2, 3}};
    choice.activations = core::DType::kFp32;
    spec::Spec spec = make_spec(choice);
    spec.out_norm.eps.value = 0.5;
    spec.out_norm.weight.value = core::NormWeight::kTwiceOnePlusW;
    spec.out_norm.gate.value = core::Activation::kSigmoid;
    spec.out_norm.norm_before_gate.value = norm_first;
    Options options;
    options.rows = 1;
    Problem p = make_problem(spec, "norm_quant", options);
    put(p, "in.o", 0, simple(1, 6));
    put(p, "in.z", 0, simple(2, 6));
    put(p, "norm_weight", 0, simple(3, 3));
    apply(expect(p), p);
    check_near(get(p, "out.out", 0), norm_first ? std::vector<double>{-0.777267005, -0.843192734, -0.927352528,
                                                                      0.347785325, 0.032831454, -0.978685986}
                                                : std::vector<double>{-1.056841244, -1.146479720, -1.260910849,
                                                                      0.702176481, 0.066286508, -1.975961123});
  }
}

// The error is ||got - want|| / ||want||: every element twice as large is an error of one, not of a half.
TEST_CASE("the error is relative to what was wanted", "[oracle]") {
  Choice choice;
  choice.activations = core::DType::kFp32;
  Problem p = make_problem(make_spec(choice), "norm_quant", {});
  const Expectation expected = expect(p);
  apply(expected, p);
  for (int row = 0; row < p.rows(); ++row) {
    std::vector<double> out = get(p, "out.out", row);
    for (double& x : out) x *= 2;
    put(p, "out.out", row, out);
  }
  const auto deviations = compare(expected, p);
  REQUIRE(deviations.size() == 1);
  CHECK(deviations[0].error == Approx(1).epsilon(1e-12));
  CHECK(deviations[0].got == 2 * deviations[0].want);
}

// Each rounding point of a spec acts, and acts where it says.
TEST_CASE("rounding points", "[oracle]") {
  Choice choice;
  choice.activations = core::DType::kFp32;
  const spec::Spec exact = make_spec(choice);
  Options options;
  const Problem p = make_problem(exact, "decode", options);
  Problem exact_run = p;
  apply(expect(p), exact_run);
  struct Point {
    const char* name;
    spec::Located<core::DType> spec::Rounding::* member;
    bool changes_state;
  };
  for (const Point& point : {Point{"conv", &spec::Rounding::conv, true}, Point{"qk", &spec::Rounding::qk, true},
                             Point{"beta", &spec::Rounding::beta, true}, Point{"o", &spec::Rounding::o, false},
                             Point{"norm", &spec::Rounding::norm, false}}) {
    CAPTURE(point.name);
    spec::Spec rounded = exact;
    (rounded.rounding.*point.member).value = core::DType::kBf16;
    Problem run = p;
    apply(expect_as(p, rounded), run);
    const auto deviations = compare(expect(p), run);
    double out = 0, state = 0;
    for (const Deviation& d : deviations) {
      if (d.name == "out") out = d.error;
      if (d.name == "state") state = d.error;
    }
    CHECK(out > 1e-5);
    CHECK(out < 1e-2);
    CHECK((state > 1e-6) == point.changes_state);
    CHECK(state < 1e-2);
  }
}

namespace {

spec::Spec kda_spec(core::DType dtype) {
  Choice choice;
  choice.family = test::Family::kSeparate;
  choice.activations = dtype;
  spec::Spec spec = make_spec(choice);
  spec.rule.value = core::Rule::kKda;
  test::find(spec.inputs, "a").dims = test::dims("token@launch value_head key_dim");
  test::find(spec.parameters, "dt_bias").dims = test::dims("value_head key_dim");
  test::find(spec.handover, "a").dims = test::dims("token@launch value_head key_dim");
  test::find(spec.handover, "g").dims = test::dims("token@launch value_head key_dim");
  return spec;
}

}  // namespace

TEST_CASE("KDA's decay is a number per key channel", "[oracle]") {
  Options options;
  options.rows = 3;
  for (const bool bounded : {false, true}) {
    spec::Spec spec = kda_spec(core::DType::kBf16);
    if (bounded) {
      spec.decay.form.value = core::DecayForm::kBounded;
      spec.decay.bound.value = -5;
    }
    for (const char* operation : {"decode", "unpack", "gating", "delta_update"}) {
      CAPTURE(operation);
      Problem p = make_problem(spec, operation, options);
      const Expectation expected = expect(p);
      apply(expected, p);
      CHECK(describe(compare(expected, p)) == "");
    }
    Problem gating = make_problem(spec, "gating", options);
    apply(expect(gating), gating);
    const auto g = get(gating, "out.g", 1), a = get(gating, "in.a", 1), dt = get(gating, "dt_bias", 0),
               a_log = get(gating, "a_log", 0);
    REQUIRE(g.size() == 6 * 32);
    for (std::size_t i : {std::size_t{0}, std::size_t{33}, std::size_t{6 * 32 - 1}}) {
      CHECK(g[i] == Approx(log_decay(spec.decay, a[i], a_log[i / 32], dt[i])).epsilon(1e-6));
    }
  }
}

TEST_CASE("KDA with the same decay in every channel is GDN", "[oracle]") {
  Options options;
  options.rows = 3;
  Choice choice;
  choice.family = test::Family::kSeparate;
  choice.activations = core::DType::kFp32;
  Problem gdn = make_problem(make_spec(choice), "decode", options);
  Problem kda = make_problem(kda_spec(core::DType::kFp32), "decode", options);
  const auto widen = [](const std::vector<double>& heads) {
    std::vector<double> channels;
    for (const double x : heads) channels.insert(channels.end(), 32, x);
    return channels;
  };
  for (int row = 0; row < 3; ++row) put(kda, "in.a", row, widen(get(gdn, "in.a", row)));
  put(kda, "dt_bias", 0, widen(get(gdn, "dt_bias", 0)));
  apply(expect(gdn), gdn);
  apply(expect(kda), kda);
  for (const char* name : {"out", "state", "conv_state"}) {
    CHECK(std::memcmp(gdn.buffer(name).data(), kda.buffer(name).data(), gdn.buffer(name).size_bytes()) == 0);
  }
}
