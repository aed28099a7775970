// KDA's prefill kernels for Hopper, as emitted, through the host shim (hopper_prefill.cpp says how): decays by key
// channel, bounded and not, weak and strong, against the oracle, and against GDN's kernels where a head's channels all
// decay alike.
#include <fmt/format.h>

#include <cmath>

#include "chunked_form.h"
#include "support/parts_of_rows.h"
#include "support/rows.h"

using namespace gdn;
using namespace gdn::test;

namespace {

constexpr char kSquareHeads[] = "key: 1, value: 1, pairing: grouped", kSquare[] = "key: 128, value: 128";

// ln of a decay, as the spec hands it over.
double handed(const spec::Spec& spec, double g) {
  const core::Domain domain = *spec.decay.handover;
  return domain == core::Domain::kExp ? std::exp(g) : domain == core::Domain::kLog2 ? g / std::log(2.0) : g;
}

// g of every token, head and channel by a function of (row, channel).
template <class Of>
void set_decays(oracle::Problem& problem, Of of) {
  const int channels = *problem.spec().dims.key, heads = *problem.spec().heads.value;
  for (int row = 0; row < problem.buffer("handover.g").rows; ++row) {
    std::vector<double> g;
    for (int i = 0; i < heads * channels; ++i) g.push_back(handed(problem.spec(), of(row, i % channels)));
    put_part(problem, "in.g", row, g);
  }
}

}  // namespace

TEST_CASE("every form agrees with the oracle where channels decay by themselves") {
  struct Row {
    const char* spec;
    const char *heads, *dims;
    std::vector<int> forms;
  };
  // Groups of 3, 1 and 2; softplus and bounded; (V, K) states of fp32 and (K, V) ones of bf16; K of half a tile, of one
  // and a half, of two.
  const Row rows[] = {
      {"fuzz_kda", "key: 2, value: 6, pairing: grouped", "key: 32, value: 48", {kOne, kPair}},
      {"fuzz_kda_bounded", "key: 2, value: 6, pairing: tiled", "key: 32, value: 48", {kOne}},
      {"fuzz_kda_bounded", "key: 1, value: 2, pairing: tiled", "key: 96, value: 128", {kTwo, kPair}},
      {"fuzz_kda", "key: 1, value: 1, pairing: grouped", "key: 128, value: 128", {kOne, kTwo, kPair, kThreeSegments}}};
  for (const Row& row : rows) {
    const spec::Spec spec = sized(row.spec, row.heads, row.dims);
    for (const int number : row.forms) {
      const std::optional<Form> form = Form::make(spec, number);
      REQUIRE(form);
      check_in_orders(*form, spec, {65, 0, 7, 133, 1}, {0u, 7u},
                      fmt::format("{} {} form {}", row.spec, row.dims, number));
    }
  }
}

TEST_CASE("the specs of channels that decay by themselves, with their states and activations, on Hopper") {
  int checked = 0;
  for (const std::string& file : test::fuzz_specs()) {
    const spec::Spec spec = test::load_spec(file);
    if (*spec.rule != core::Rule::kKda || !*spec.prefill.enabled) continue;
    const std::optional<Form> form = Form::make(spec, kOne);
    if (!form) continue;
    check(*form, oracle::make_problem(spec, "chunk_delta", with_lengths({70, 64, 3})), 5, *spec.name);
    ++checked;
  }
  CHECK(checked >= 3);
}

TEST_CASE("keys that resemble each other, under weak and strong decays by channel, on Hopper") {
  for (const char* name : {"fuzz_kda", "fuzz_kda_bounded"}) {
    const spec::Spec spec = sized(name, kSquareHeads, kSquare);
    const std::optional<Form> form = Form::make(spec, kPair);
    REQUIRE(form);
    check_keys(*form, spec, {false, true}, name);
  }
}

TEST_CASE("decays at their bound, none and some of all kinds beside each other, on Hopper") {
  struct Row {
    const char* spec;
    double most;  // a token, ln
  };
  // The bounded form's bound, in the domain exp; beyond what any product of factors over a chunk could hold.
  for (const Row& row : {Row{"fuzz_kda_bounded", 5.0}, {"fuzz_kda", 5.0}, {"fuzz_kda", 60.0}}) {
    const spec::Spec spec = sized(row.spec, kSquareHeads, kSquare);
    const std::optional<Form> form = Form::make(spec, kOne);
    REQUIRE(form);
    using Of = double (*)(double most, int token, int channel);
    const Of kinds[] = {[](double most, int, int) { return -most; },
                        // All channels, for half of a chunk; then none, so that what is left decides.
                        [](double most, int token, int) { return token % 64 < 32 ? -most : -1e-3; },
                        // Each channel by itself: all the time, never, now and then, in turns.
                        [](double most, int token, int channel) {
                          return channel % 4 == 0   ? -most
                                 : channel % 4 == 1 ? 0.0
                                 : channel % 4 == 2 ? (token % 16 == channel % 16 ? -most : -0.01)
                                                    : ((token / 8 + channel) % 2 == 0 ? -most : -0.5);
                        }};
    for (std::size_t kind = 0; kind < std::size(kinds); ++kind) {
      oracle::Problem problem = oracle::make_problem(spec, "chunk_delta", with_lengths({150, 64}));
      set_decays(problem, [&](int token, int channel) { return kinds[kind](row.most, token, channel); });
      check(*form, problem, 9, fmt::format("{} kind {} of {}", row.spec, kind, row.most));
    }
  }
}

TEST_CASE("rows whose slow channels are empty keep what their fast ones say, on Hopper") {
  // q of the last tokens lies in channels that have decayed by e^-30, where the others have not at all: a tile of fp16
  // with one factor for a row would hold nothing of it.
  const spec::Spec spec = sized("fuzz_kda", kSquareHeads, kSquare);
  const std::optional<Form> form = Form::make(spec, kOne);
  REQUIRE(form);
  constexpr int kTokens = 64, kFast = 8;
  oracle::Problem problem = oracle::make_problem(spec, "chunk_delta", with_lengths({kTokens}));
  set_decays(problem, [&](int, int channel) { return channel < kFast ? -1.0 : 0.0; });
  for (int row = 0; row < kTokens; ++row) {
    std::vector<double> q = part_of_row(problem, "in.q", row);
    for (std::size_t c = 0; c < q.size(); ++c) q[c] = c < kFast ? 1.0 + 0.1 * static_cast<double>(c) : 0.0;
    put_part(problem, "in.q", row, q);
    put_part(problem, "in.beta", row, {0.0});
  }
  REQUIRE(problem.sequences()[0].initial);
  oracle::Problem want = problem;
  oracle::apply(oracle::expect(problem), want);
  form->run(problem, 0);
  for (int row = 0; row < kTokens; ++row) {
    INFO("row " << row);
    CHECK(error_of(part_of_row(problem, "out.o", row), part_of_row(want, "out.o", row)) < 6e-3);
  }
}

TEST_CASE("KDA with one decay for all channels of a head is GDN, on Hopper") {
  const spec::Spec kda = sized("fuzz_kda", kSquareHeads, kSquare);
  std::string text = test::read_text(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_kda.yaml");
  const auto replace = [&](const std::string& from, const std::string& to) {
    REQUIRE(text.find(from) != std::string::npos);
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
      text.replace(at, from.size(), to);
    }
  };
  replace("rule: kda", "rule: gdn");
  replace("value_head, key_dim]", "value_head]");
  replace(", a: low_rank, a_rank: 8, z: single", "");
  replace("key: 2, value: 6, pairing: grouped", kSquareHeads);
  replace("key: 32, value: 48", kSquare);
  const spec::Spec gdn = test::parse_spec("fuzz_kda.yaml", text);
  for (const int number : {kOne, kPair, kThreeSegments}) {
    const std::optional<Form> of_kda = Form::make(kda, number), of_gdn = Form::make(gdn, number);
    REQUIRE(of_kda);
    REQUIRE(of_gdn);
    oracle::Problem narrow = oracle::make_problem(gdn, "chunk_delta", with_lengths({150, 40}));
    oracle::Problem wide = oracle::make_problem(kda, "chunk_delta", with_lengths({150, 40}));
    for (int row = 0; row < 190; ++row) put_part(wide, "in.g", row, widened(part_of_row(narrow, "in.g", row), 128));
    of_gdn->run(narrow, 0);
    of_kda->run(wide, 0);
    INFO("form " << number);
    for (int row = 0; row < 190; ++row) {
      INFO("row " << row);
      CHECK(error_of(part_of_row(wide, "out.o", row), part_of_row(narrow, "out.o", row)) < 5e-3);
    }
    for (const oracle::TokenRun& sequence : narrow.sequences()) {
      CHECK(error_of(part_of_row(wide, "state", sequence.slot), part_of_row(narrow, "state", sequence.slot)) < 2e-3);
    }
  }
}

TEST_CASE("the same launch gives the same bits in every order, channels decaying by themselves") {
  const spec::Spec spec = sized("fuzz_kda", kSquareHeads, kSquare);
  for (const int number : {kTwo, kPair, kThreeSegments}) {
    const std::optional<Form> form = Form::make(spec, number);
    REQUIRE(form);
    check_same_bits(*form, spec, fmt::format("form {}", number));
  }
}

TEST_CASE("whole layers of KDA agree with the oracle on Hopper") {
  struct Row {
    const char* spec;
    const char *heads, *dims;
    std::vector<int> forms;
  };
  const Row rows[] = {{"fuzz_kda", "key: 2, value: 6, pairing: grouped", "key: 32, value: 48", {kOne, kPair}},
                      {"fuzz_kda_bounded", "key: 2, value: 6, pairing: tiled", "key: 32, value: 48", {kPair}},
                      {"fuzz_kda", kSquareHeads, kSquare, {kTwo, kThreeSegments}}};
  for (const Row& row : rows) {
    const spec::Spec spec = sized(row.spec, row.heads, row.dims);
    for (const int number : row.forms) {
      const std::optional<Form> form = Form::make(spec, number, "prefill");
      REQUIRE(form);
      check_in_orders(*form, spec, {65, 0, 7, 133, 1, 2}, {0u, 7u},
                      fmt::format("{} {} form {}", row.spec, row.dims, number));
    }
  }
}
