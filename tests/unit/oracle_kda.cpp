// KDA's mistakes, played: each takes the numbers of a right problem and computes what a kernel with that mistake would.
// The comparison has to notice in the output and in the state.
#include <cmath>
#include <functional>

#include "oracle/compare.h"
#include "oracle/formulas.h"
#include "oracle/parts.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;
using namespace gdn::oracle;

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

// The fuzz geometry with everything in fp32 and one line of its text replaced.
spec::Spec kda(const std::string& from = "", const std::string& to = "") {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_kda.yaml";
  std::string text = test::read_text(file);
  for (std::size_t at = text.find("bf16"); at != std::string::npos; at = text.find("bf16")) text.replace(at, 4, "fp32");
  if (!from.empty()) {
    REQUIRE(text.find(from) != std::string::npos);
    text.replace(text.find(from), from.size(), to);
  }
  return test::parse_spec(file, text);
}

const char* const kSoftplus = "form: softplus, threshold: 20";
const char* const kBounded = "form: bounded, bound: -5, bound_key: lower_bound";

// g of every value head and key channel, of one row.
using Decays = std::function<double(double a, double a_log, double dt_bias)>;

// A decode in which g comes out as `mistaken` says: the a that gives this g by the right formula stands in its place.
std::vector<Deviation> play(const spec::Spec& spec, const Decays& mistaken) {
  Options options;
  options.rows = 3;
  const Problem problem = make_problem(spec, "decode", options);
  Problem wrong = problem;
  const std::vector<double> a_log = get(problem, "a_log", 0), dt_bias = get(problem, "dt_bias", 0);
  for (int row = 0; row < options.rows; ++row) {
    std::vector<double> a = get(problem, "in.a", row);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double gain = std::exp(a_log[i / 32]), g = mistaken(a[i], a_log[i / 32], dt_bias[i]);
      if (*spec.decay.form == core::DecayForm::kBounded) {
        const double share = std::min(0.9999, std::max(1e-6, g / *spec.decay.bound));
        a[i] = std::log(share / (1 - share)) / gain - dt_bias[i];
      } else {
        a[i] = std::log(std::expm1(-g / gain)) - dt_bias[i];
      }
    }
    put(wrong, "in.a", row, a);
  }
  const Expectation right = expect(problem);
  Problem played = problem;
  const Expectation computed = expect(wrong);
  for (std::size_t i = 0; i < played.buffers().size(); ++i) {
    Buffer& buffer = played.buffers()[i];
    if (!buffer.written) continue;
    std::copy(computed.buffers[i].image.begin(), computed.buffers[i].image.end(), buffer.data());
  }
  return compare(right, played);
}

double error(const std::vector<Deviation>& deviations, const std::string& name) {
  for (const Deviation& d : deviations) {
    if (d.name == name) return d.error;
  }
  FAIL("no operand " << name);
  return 0;
}

}  // namespace

TEST_CASE("the right decay, played, is right", "[oracle]") {
  for (const char* form : {kSoftplus, kBounded}) {
    const spec::Spec spec = kda(kSoftplus, form);
    const auto deviations =
        play(spec, [&](double a, double a_log, double bias) { return log_decay(spec.decay, a, a_log, bias); });
    INFO(describe(deviations));
    CHECK(error(deviations, "state") < 2e-4);  // a was put through fp32 and back
    CHECK(error(deviations, "out") < 2e-4);
  }
}

TEST_CASE("mistaken forms of the bounded decay are caught", "[oracle]") {
  const spec::Spec spec = kda(kSoftplus, kBounded);
  const double bound = *spec.decay.bound;
  const std::pair<const char*, Decays> mistakes[] = {
      {"a clamp for the sigmoid",
       [&](double a, double a_log, double bias) { return std::max(bound, -std::exp(a_log) * softplus(a + bias, 20)); }},
      {"the bias added after the multiply",
       [&](double a, double a_log, double bias) { return bound * sigmoid(std::exp(a_log) * a + bias); }},
      {"A_log taken for absent", [&](double a, double, double bias) { return bound * sigmoid(a + bias); }},
      {"another bound",
       [&](double a, double a_log, double bias) { return 0.8 * bound * sigmoid(std::exp(a_log) * (a + bias)); }}};
  for (const auto& [what, decays] : mistakes) {
    CAPTURE(what);
    const auto deviations = play(spec, decays);
    INFO(describe(deviations));
    CHECK(error(deviations, "state") > 1e-2);
    CHECK(error(deviations, "out") > 1e-2);
  }
}

TEST_CASE("the softplus decay taken for the bounded one is caught", "[oracle]") {
  const spec::Spec spec = kda(), bounded = kda(kSoftplus, kBounded);
  Options options;
  options.rows = 3;
  Problem problem = make_problem(spec, "decode", options);
  const Expectation right = expect(problem);
  apply(expect_as(problem, bounded), problem);
  const auto deviations = compare(right, problem);
  CHECK(error(deviations, "state") > 0.05);
  CHECK(error(deviations, "out") > 0.05);
}

// A kernel that steps through a (or g) by head, as for GDN, where each head has key channels: head h's channel c is
// then read at h + c instead of at h * K + c. And one that has a head's first channel decay for all of them.
TEST_CASE("gates that advance by head instead of by head and channel are caught", "[oracle]") {
  for (const char* operation : {"decode", "delta_update"}) {
    for (const bool first_channel : {false, true}) {
      CAPTURE(operation, first_channel);
      const std::string part = operation == std::string("decode") ? "in.a" : "in.g";
      Options options;
      options.rows = 3;
      const Problem problem = make_problem(kda(), operation, options);
      Problem wrong = problem;
      for (int row = 0; row < options.rows; ++row) {
        const std::vector<double> right = get(problem, part, row);
        std::vector<double> read(right.size());
        for (std::size_t i = 0; i < right.size(); ++i) {
          const std::size_t head = i / 32, channel = i % 32;
          read[i] = right[first_channel ? head * 32 : head + channel];
        }
        put(wrong, part, row, read);
      }
      const Expectation expected = expect(problem);
      const Expectation computed = expect(wrong);
      Problem played = problem;
      for (std::size_t i = 0; i < played.buffers().size(); ++i) {
        Buffer& buffer = played.buffers()[i];
        if (buffer.written) {
          std::copy(computed.buffers[i].image.begin(), computed.buffers[i].image.end(), buffer.data());
        }
      }
      const auto deviations = compare(expected, played);
      CHECK(error(deviations, "state") > 0.05);
      CHECK(error(deviations, operation == std::string("decode") ? "out" : "handover.o") > 0.05);
    }
  }
}

// Six heads, eight entries, two ranks: rank 1 has heads 3 to 5. Half of the stored entries in place of half of the
// heads' would be entries 4 to 7, the last two of them zeros.
TEST_CASE("a padded A_log cut by its entries instead of by its heads is caught", "[oracle]") {
  const spec::Spec whole = test::fuzz("fuzz_kda_padded");
  Options options;
  options.rows = 3;
  const Problem problem = make_problem(whole, "decode", options);
  CHECK(problem.buffer("a_log").inner == 8);
  const std::vector<double> a_log = get(problem, "a_log", 0);
  REQUIRE(a_log.size() == 6);
  Problem wrong = problem;
  std::vector<double> cut = a_log;  // what each head gets from both ranks
  for (std::size_t head = 0; head < 6; ++head) {
    const std::size_t entry = head / 3 * 4 + head % 3;
    cut[head] = entry < 6 ? a_log[entry] : 0;
  }
  put(wrong, "a_log", 0, cut);
  const Expectation expected = expect(problem), computed = expect(wrong);
  Problem played = problem;
  for (std::size_t i = 0; i < played.buffers().size(); ++i) {
    Buffer& buffer = played.buffers()[i];
    if (buffer.written) std::copy(computed.buffers[i].image.begin(), computed.buffers[i].image.end(), buffer.data());
  }
  const auto deviations = compare(expected, played);
  CHECK(error(deviations, "state") > 4 * tolerance(whole, problem.buffer("state")));
  CHECK(error(deviations, "out") > 4 * tolerance(whole, problem.buffer("out")));
}

TEST_CASE("a layer without A_log has exp(A_log) = 1", "[oracle]") {
  spec::Spec without = kda();
  without.decay.a_log.value = core::AStored::kAbsent;
  spec::Decay decay = without.decay;
  CHECK(log_decay(decay, 1, 123, 0.5) == -softplus(1.5, 20));
  decay.form.value = core::DecayForm::kBounded;
  decay.bound.value = -5;
  CHECK(log_decay(decay, 1, 123, 0.5) == -5 * sigmoid(1.5));
}
