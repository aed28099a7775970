// What the contract allows at 32768 tokens, by the tensor cores' kernels: one value head of few columns, whose chain is
// as long as any. Keys that resemble each other are the hard ones, for errors of the state then add up.
#include "chunked_form.h"

using namespace gdn;
using namespace gdn::test;

namespace {

// A kernel for one value head of few columns, and the problems it is given.
class Path {
 public:
  Path(const char* spec, const char* target, double beta)
      : name_(fmt::format("{} on {}, beta up to {}", spec, target, beta)),
        spec_(sized(spec, "key: 1, value: 1, pairing: grouped", "key: 32, value: 16",
                    {"beta: {", fmt::format("beta: {{input: logit, factor: {}}}", beta)})),
        form_(Form::make(spec_, kOne, "chunk_delta", target)) {}

  // State and outputs are off by at most `most`.
  void check(oracle::Keys keys, bool strong_decay, double most) const {
    REQUIRE(form_);
    oracle::Options options = with_lengths({32768});
    options.keys = keys;
    options.strong_decay = strong_decay;
    oracle::Problem problem = oracle::make_problem(spec_, "chunk_delta", options);
    REQUIRE(problem.sequences()[0].initial);
    const oracle::Expectation expectation = oracle::expect(problem);
    form_->run(problem, 1);
    int judged = 0;
    for (const oracle::Deviation& deviation : oracle::compare(expectation, problem)) {
      INFO(name_ << ", keys " << static_cast<int>(keys) << ", " << (strong_decay ? "strong" : "weak")
                 << " decay: " << deviation.name);
      CHECK(deviation.good());
      CHECK(deviation.error <= most);
      CHECK(deviation.error > 0);
      fmt::print("{}, {} decay, keys {}: {} {:.2e}\n", name_, strong_decay ? "strong" : "weak", static_cast<int>(keys),
                 deviation.name, deviation.error);
      ++judged;
    }
    CHECK(judged == 2);
  }

 private:
  std::string name_;
  spec::Spec spec_;
  std::optional<Form> form_;
};

struct Row {
  const char *spec, *target;
};
// KDA by warp groups; both rules by single warps.
const Row kRows[] = {{"fuzz_kda", "sm_90a"}, {"fuzz_gdn", "sm_80"}, {"fuzz_kda", "sm_80"}};

}  // namespace

TEST_CASE("32768 tokens: at most 6e-3, and 1e-2 of keys that repeat") {
  for (const Row& row : kRows) {
    const Path path(row.spec, row.target, 1);
    path.check(oracle::Keys::kCorrelated, false, 6e-3);
    path.check(oracle::Keys::kCorrelated, true, 6e-3);
    path.check(oracle::Keys::kRepeated, false, 1e-2);
  }
}

TEST_CASE("32768 tokens and beta up to 2: at most 1e-2") {
  for (const Row& row : kRows) Path(row.spec, row.target, 2).check(oracle::Keys::kCorrelated, false, 1e-2);
}
