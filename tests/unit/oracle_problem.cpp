// The test bench itself: what it fills, what it notices, and that every mutant is caught.
#include <chrono>
#include <cmath>
#include <cstring>
#include <set>

#include "oracle/compare.h"
#include "oracle/convert.h"
#include "oracle/formulas.h"
#include "oracle/parts.h"
#include "oracle_specs.h"
#include "spec/parser.h"
#include "support/catch.h"

using namespace gdn;
using namespace gdn::oracle;
using test::Choice;
using test::Family;

namespace {

constexpr const char* kOperations[] = {"decode", "unpack", "conv_update", "gating", "delta_update", "norm_quant"};

std::vector<double> part_of(const Problem& problem, const std::string& key, std::int64_t row) {
  const BoundPart part = problem.operands().at(key);
  const Buffer& buffer = problem.buffers()[static_cast<std::size_t>(part.operand)];
  return load_part(buffer.dtype, buffer.row(row), *part.map);
}

Options options(int rows, int padding = 0) {
  Options o;
  o.rows = rows;
  o.padding_rows = padding;
  o.extra_stride = 64;
  return o;
}

const Deviation& of(const std::vector<Deviation>& deviations, const std::string& name) {
  for (const Deviation& d : deviations) {
    if (d.name == name) return d;
  }
  throw std::out_of_range(name);
}

std::vector<std::string> names(const Problem& problem) {
  std::vector<std::string> list;
  for (const Buffer& b : problem.buffers()) list.push_back(b.name);
  return list;
}

// What compare says about a kernel that was made for `made_for`.
std::vector<Deviation> judge(const Problem& problem, const spec::Spec& made_for, StepOrder order = StepOrder::kRule) {
  const Expectation right = expect(problem);
  Problem run = problem;
  apply(expect_as(problem, made_for, order), run);
  return compare(right, run);
}

}  // namespace

TEST_CASE("no conv output of a draft lies near a tie, whatever was accepted", "[oracle]") {
  for (const char* name : {"fuzz_spec_slots", "fuzz_spec_intermediate", "fuzz_spec_replay"}) {
    CAPTURE(name);
    const spec::Spec spec = spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml");
    const Problem p = make_problem(spec, "decode_spec", options(7));
    int outputs = 0;
    double nearest = 1;
    for (const TokenRun& sequence : p.sequences()) {
      if (sequence.padding || sequence.tokens == 0) continue;
      for (const std::string part : {"q", "k", "v"}) {
        const std::vector<double> weights = part_of(p, "conv_weight." + part, 0);
        std::vector<double> windows = part_of(p, "conv_state." + part, sequence.slots[0]);
        discard_oldest(spec, p.window_offset(sequence), windows);
        for (int t = 0; t < sequence.tokens; ++t) {
          const std::vector<double> current = part_of(p, "in." + part, sequence.first + t);
          for (std::size_t c = 0; c < current.size(); ++c) {
            double* rows = windows.data() + c * static_cast<std::size_t>(*spec.conv.window);
            const double* w = weights.data() + c * static_cast<std::size_t>(*spec.conv.width);
            const double y = activate(*spec.conv.activation, conv_channel(spec.conv, w, rows, current[c], 0));
            nearest = std::min(nearest, distance_from_tie(*spec.rounding.conv, y));
            shift_window(spec.conv, rows, current[c]);
            ++outputs;
          }
        }
      }
    }
    CHECK(outputs > 1000);
    CHECK(nearest > 0.01);
  }
}

TEST_CASE("operands stand in the order of a launch", "[oracle]") {
  const spec::Spec spec = make_spec(Choice{});
  using L = std::vector<std::string>;
  CHECK((names(make_problem(spec, "decode", {})) ==
         L{"qkvz", "ba", "conv_weight", "a_log", "dt_bias", "norm_weight", "conv_state", "state", "slots", "out"}));
  CHECK((names(make_problem(spec, "unpack", {})) ==
         L{"qkvz", "ba", "handover.q", "handover.k", "handover.v", "handover.z", "handover.b", "handover.a"}));
  CHECK((names(make_problem(spec, "conv_update", {})) ==
         L{"qkvz", "conv_weight", "conv_state", "slots", "handover.q", "handover.k", "handover.v", "handover.z"}));
  CHECK((names(make_problem(spec, "gating", {})) == L{"ba", "a_log", "dt_bias", "handover.g", "handover.beta"}));
  CHECK((names(make_problem(spec, "delta_update", {})) ==
         L{"handover.q", "handover.k", "handover.v", "handover.g", "handover.beta", "state", "slots", "handover.o"}));
  CHECK((names(make_problem(spec, "norm_quant", {})) == L{"handover.o", "handover.z", "norm_weight", "out"}));
  CHECK_THROWS_WITH(make_problem(spec, "prefil", {}),
                    Catch::Matchers::Contains("the oracle has no operation 'prefil'"));
}

TEST_CASE("buffers are laid out as a caller would", "[oracle]") {
  const spec::Spec spec = make_spec(Choice{});
  const Problem p = make_problem(spec, "decode", options(5, 2));
  for (const Buffer& b : p.buffers()) {
    CAPTURE(b.name);
    CHECK(reinterpret_cast<std::uintptr_t>(b.data()) % 256 == 0);
    CHECK(b.size_bytes() == static_cast<std::size_t>(b.rows * b.stride) * core::size_of(b.dtype));
  }
  const Buffer& qkvz = p.buffer("qkvz");
  CHECK(qkvz.inner == 704);
  CHECK(qkvz.stride == 704 + 64);
  CHECK(qkvz.rows == 5);
  CHECK(p.buffer("conv_state").rows == 5);  // 3 rows that are no padding, and 2 more
  CHECK(p.buffer("conv_weight").stride == p.buffer("conv_weight").inner);
  CHECK(p.padding(1));
  CHECK(p.padding(2));
  std::set<std::int64_t> slots;
  for (const int row : {0, 3, 4}) {
    CHECK_FALSE(p.padding(row));
    slots.insert(p.row_slot(row));
  }
  CHECK(slots.size() == 3);
  CHECK(*slots.begin() >= 0);
  CHECK(*slots.rbegin() < p.slots());
  CHECK(std::isnan(load(core::DType::kBf16, qkvz.row(1))));            // a padding row's input
  CHECK(std::isnan(load(core::DType::kBf16, qkvz.row(0) + 704 * 2)));  // between two rows
  CHECK(std::isnan(load(core::DType::kBf16, p.buffer("out").row(0))));
  CHECK_THROWS_WITH(p.buffer("qkv"), Catch::Matchers::StartsWith("decode has no operand 'qkv': qkvz, ba, "));
}

TEST_CASE("zero may mark padding", "[oracle]") {
  spec::Spec spec = make_spec(Choice{});
  spec.slots.padding.value = core::Padding::kZeroOrNegative;
  spec.slots.dtype.value = core::DType::kInt64;
  const Problem p = make_problem(spec, "decode", options(6, 3));
  int padding = 0;
  for (int row = 0; row < 6; ++row) {
    padding += p.padding(row);
    CHECK(p.padding(row) == (p.row_slot(row) <= 0));
  }
  CHECK(padding == 3);
}

TEST_CASE("options without sense are refused", "[oracle]") {
  spec::Spec spec = make_spec(Choice{});
  Options few = options(4);
  few.slots = 3;
  CHECK_THROWS_WITH(make_problem(spec, "decode", few), "3 slots are too few, 4 rows need 4");
  CHECK_THROWS_WITH(make_problem(spec, "decode", options(0)), "a problem has at least one row");
  CHECK_THROWS_WITH(make_problem(spec, "decode", options(2, 3)), "3 padding rows of 2");
  spec.slots.padding.value = core::Padding::kNone;
  CHECK_THROWS_WITH(make_problem(spec, "decode", options(4, 1)),
                    "slots.padding is none: this spec has no padding rows");
}

TEST_CASE("the numbers are far from degenerate", "[oracle]") {
  const spec::Spec spec = make_spec(Choice{{4, 12, 32, 48}});
  const Problem p = make_problem(spec, "gating", options(64));
  Problem run = p;
  apply(expect(p), run);
  double smallest = 1, largest = 0;
  for (int row = 0; row < 64; ++row) {
    for (const double g : part_of(run, "out.g", row)) {
      smallest = std::min(smallest, std::exp(g));
      largest = std::max(largest, std::exp(g));
    }
  }
  CHECK(smallest < 0.05);
  CHECK(smallest > 0.01);
  CHECK(largest > 0.99);
  CHECK(largest < 0.9999);

  const Problem d = make_problem(spec, "decode", options(3));
  double squares = 0, beyond = 0;
  for (const double w : part_of(d, "norm_weight", 0)) squares += (w - 1) * (w - 1);
  CHECK(squares > 1);
  for (const double a : part_of(d, "in.a", 0)) beyond += a > 40;
  CHECK(beyond > 0);  // a head beyond the softplus threshold
  const auto q = part_of(d, "in.q", 0);
  double small = 0, large = 0;
  for (int c = 0; c < 32; ++c) {
    large = std::max(large, std::fabs(q[static_cast<std::size_t>(c)]));
    small = std::max(small, std::fabs(q[static_cast<std::size_t>(32 + c)]));
  }
  CHECK(large > 0.5);
  CHECK(small < 0.01);
  CHECK(small > 1e-4);
}

TEST_CASE("a problem depends on its seed and on nothing else", "[oracle]") {
  const spec::Spec spec = make_spec(Choice{});
  const Problem a = make_problem(spec, "decode", options(3)), b = make_problem(spec, "decode", options(3));
  Options other = options(3);
  other.seed = 2;
  const Problem c = make_problem(spec, "decode", other);
  for (std::size_t i = 0; i < a.buffers().size(); ++i) {
    CAPTURE(a.buffers()[i].name);
    const std::size_t size = a.buffers()[i].size_bytes();
    CHECK(std::memcmp(a.buffers()[i].data(), b.buffers()[i].data(), size) == 0);
    const bool filled = a.buffers()[i].kind != Kind::kOutput && a.buffers()[i].kind != Kind::kSlots;
    CHECK((std::memcmp(a.buffers()[i].data(), c.buffers()[i].data(), size) != 0) ==
          (filled || a.buffers()[i].kind == Kind::kSlots));
  }
  // The very first numbers, so that another platform or compiler can't quietly make others.
  CHECK(part_of(a, "state", 0)[0] == Approx(part_of(b, "state", 0)[0]));
}

// The same numbers at other places give the same results: layouts, pairing written either way, strides.
TEST_CASE("results do not depend on the layout", "[oracle]") {
  Choice base;
  base.activations = core::DType::kFp32;
  const Problem reference = make_problem(make_spec(base), "decode", options(3));
  Problem reference_run = reference;
  apply(expect(reference), reference_run);
  for (const Family family : {Family::kFlat, Family::kFlatSplit, Family::kSeparate}) {
    Choice choice = base;
    choice.family = family;
    choice.conv_sd = family == Family::kFlat;
    choice.state_vk = family == Family::kSeparate;
    Problem p = make_problem(make_spec(choice), "decode", Options{1, 3, 0, 0, true, 0});
    apply(expect(p), p);
    for (int row = 0; row < 3; ++row) {
      CHECK((part_of(p, "out.out", row) == part_of(reference_run, "out.out", row)));
      const auto slot = p.row_slot(row);
      CHECK((part_of(p, "state", slot) == part_of(reference_run, "state", slot)));
      CHECK((part_of(p, "conv_state.v", slot) == part_of(reference_run, "conv_state.v", slot)));
    }
  }
}

TEST_CASE("an ideal kernel passes, for every operation and over several steps", "[oracle]") {
  for (const auto dtype : {core::DType::kBf16, core::DType::kFp16, core::DType::kFp32}) {
    for (const char* operation : kOperations) {
      CAPTURE(operation, std::string(core::to_string(dtype)));
      Choice choice;
      choice.activations = dtype;
      Problem p = make_problem(make_spec(choice), operation, options(5, 2));
      for (int step = 0; step < 3; ++step) {
        const Expectation expected = expect(p);
        CHECK_FALSE(all_good(compare(expected, p)));  // nothing has run: outputs are poison
        apply(expected, p);
        const auto deviations = compare(expected, p);
        CHECK(describe(deviations) == "");
        CHECK(all_good(deviations));
        for (const Deviation& d : deviations) CHECK(d.error == 0);
        p.next_step();
      }
    }
  }
}

TEST_CASE("the parts in turn equal the decode", "[oracle]") {
  for (const auto domain : {core::Domain::kLn, core::Domain::kLog2, core::Domain::kExp}) {
    spec::Spec spec = make_spec(Choice{});
    spec.decay.handover.value = domain;
    Problem decode = make_problem(spec, "decode", options(3));
    std::vector<Problem> parts;
    for (const char* operation : kOperations) parts.push_back(make_problem(spec, operation, options(3)));
    const auto hand = [](const Problem& from, Problem& to) {
      for (const Buffer& a : from.buffers()) {
        for (Buffer& b : to.buffers()) {
          if (a.name == b.name && a.written && b.kind == Kind::kInput) std::memcpy(b.data(), a.data(), a.size_bytes());
        }
      }
    };
    Problem &unpack = parts[1], &conv = parts[2], &gating = parts[3], &delta = parts[4], &norm = parts[5];
    // the inputs are the decode's own, ties avoided
    for (Problem* p : {&unpack, &conv, &gating}) {
      for (Buffer& b : p->buffers()) {
        if (b.kind == Kind::kInput) std::memcpy(b.data(), decode.buffer(b.name).data(), b.size_bytes());
      }
    }
    for (Problem* p : {&unpack, &conv, &gating}) apply(expect(*p), *p);
    hand(conv, delta);
    hand(gating, delta);
    apply(expect(delta), delta);
    hand(delta, norm);
    hand(conv, norm);
    apply(expect(norm), norm);
    CHECK((part_of(unpack, "out.z", 1) == part_of(conv, "out.z", 1)));

    const Expectation expected = expect(decode);
    apply(expected, decode);
    std::memcpy(decode.buffer("out").data(), norm.buffer("out").data(), norm.buffer("out").size_bytes());
    std::memcpy(decode.buffer("state").data(), delta.buffer("state").data(), delta.buffer("state").size_bytes());
    std::memcpy(decode.buffer("conv_state").data(), conv.buffer("conv_state").data(),
                conv.buffer("conv_state").size_bytes());
    const auto deviations = compare(expected, decode);
    CHECK(describe(deviations) == "");
    CHECK(of(deviations, "out").error < 1e-3);  // g and beta pass through fp32
    CHECK(of(deviations, "state").error < 1e-6);
    CHECK(of(deviations, "conv_state").error == 0);
  }
}

TEST_CASE("a damaged byte is found wherever it is", "[oracle]") {
  spec::Spec spec = make_spec(Choice{});
  spec.conv.window.value = 5;
  for (const bool zero : {true, false}) {
    spec.slots.padded_output.value = zero ? core::PaddedOutput::kZero : core::PaddedOutput::kUntouched;
    const Problem start = make_problem(spec, "decode", options(5, 2));
    const Expectation expected = expect(start);
    Problem good = start;
    apply(expected, good);
    REQUIRE(all_good(compare(expected, good)));

    std::int64_t unused = 0;
    for (std::set<std::int64_t> used{good.row_slot(0), good.row_slot(3), good.row_slot(4)}; used.count(unused);)
      ++unused;
    struct Row {
      const char* buffer;
      std::int64_t row, element;
      const char* message;
    };
    const Row rows[] = {
        {"qkvz", 0, 5, "must not touch; first: row 0, q, key head 0, key channel 5"},
        {"norm_weight", 0, 7, "must not touch; first: norm_weight, value channel 7"},
        {"state", unused, 3, "must not touch; first: slot"},
        {"state", good.row_slot(3), 2 * 32 * 48 * 3 + 1, "gaps between rows"},
        {"out", 0, 6 * 48 + 2, "gaps between rows"},
        {"out", 1, 48 + 2,
         zero ? "are not zero; first: row 1, out, value head 1 (key head 0, group 1), value channel 2"
              : "must not touch; first: row 1"},
        {"conv_state", good.row_slot(0), 3 * 416 + 1, "must not touch; first: slot"},  // behind the anchored window
        {"conv_state", good.row_slot(0), 2 * 416 + 1, "copied elements arrived wrong; first: slot"},
        {"slots", 4, 0, "must not touch; first: row 4"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.buffer, row.row, row.element, zero);
      Problem bad = good;
      Buffer& buffer = bad.buffer(row.buffer);
      buffer.row(row.row)[static_cast<std::size_t>(row.element) * core::size_of(buffer.dtype)] ^= std::byte{1};
      const auto deviations = compare(expected, bad);
      CHECK_FALSE(all_good(deviations));
      CHECK_THAT(describe(deviations), Catch::Matchers::Contains(row.message));
    }
    for (const std::ptrdiff_t outside :
         {std::ptrdiff_t{-1}, static_cast<std::ptrdiff_t>(good.buffer("out").size_bytes())}) {
      Problem bad = good;
      bad.buffer("out").data()[outside] = std::byte{0};
      CHECK_THAT(describe(compare(expected, bad)), Catch::Matchers::Contains("bytes outside the buffer were written"));
    }
    Problem nan = good;
    store(core::DType::kFp32, nan.buffer("state").row(nan.row_slot(4)) + 4 * 33, std::nan(""));
    const auto deviations = compare(expected, nan);
    CHECK(std::isinf(of(deviations, "state").error));
    CHECK_THAT(of(deviations, "state").worst,
               Catch::Matchers::EndsWith("value head 0 (key head 0, group 0), key channel 1, value channel 1"));
  }
}

TEST_CASE("swapped b and a are caught", "[oracle]") {
  for (const Family family : {Family::kInterleaved, Family::kFlat}) {
    Choice choice;
    choice.family = family;
    const spec::Spec spec = make_spec(choice);
    spec::Spec mutant = spec;
    auto& parts = test::find(mutant.inputs, "ba").dims.back().parts;
    std::swap(parts[0].name.value, parts[1].name.value);
    const auto deviations = judge(make_problem(spec, "decode", options(3)), mutant);
    CHECK(of(deviations, "out").error > 0.05);
    CHECK(of(deviations, "state").error > 0.05);
    CHECK_FALSE(all_good(judge(make_problem(spec, "unpack", options(3)), mutant)));
  }
}

TEST_CASE("a transposed state is caught", "[oracle]") {
  Choice choice;
  choice.geometry = {2, 6, 32, 32};
  const spec::Spec spec = make_spec(choice);
  choice.state_vk = false;
  const auto deviations = judge(make_problem(spec, "decode", options(3)), make_spec(choice));
  CHECK(of(deviations, "out").error > 0.3);
  CHECK(of(deviations, "state").error > 0.03);  // what is stored is the state as it was read, moved on wrongly
}

TEST_CASE("mistakes in the order of a step are caught", "[oracle]") {
  for (const auto dtype : {core::DType::kBf16, core::DType::kFp32}) {
    Choice choice;
    choice.activations = choice.state = dtype;
    for (const test::Geometry geometry : {test::Geometry{}, test::Geometry{4, 8, 128, 128}}) {
      choice.geometry = geometry;
      const spec::Spec spec = make_spec(choice);
      const Problem p = make_problem(spec, "decode", options(3));
      for (const auto order : {StepOrder::kPredictUndecayed, StepOrder::kDecayAfter, StepOrder::kBetaOnValueOnly,
                               StepOrder::kReadBefore}) {
        CAPTURE(static_cast<int>(order), geometry.key_dim, std::string(core::to_string(dtype)));
        const auto deviations = judge(p, spec, order);
        CHECK(of(deviations, "out").error > 2 * of(deviations, "out").tolerance);
        if (order != StepOrder::kReadBefore)
          CHECK(of(deviations, "state").error > 2 * of(deviations, "state").tolerance);
      }
    }
  }
}

TEST_CASE("tiled for grouped is caught at group 3", "[oracle]") {
  for (const Family family : {Family::kInterleaved, Family::kFlat}) {
    Choice choice;
    choice.family = family;
    const spec::Spec spec = make_spec(choice);
    choice.pairing = core::Pairing::kTiled;
    const spec::Spec mutant = make_spec(choice);
    const auto deviations = judge(make_problem(spec, "decode", options(3)), mutant);
    CHECK(of(deviations, "out").error > 0.1);
  }
}

// Rows of one layout given to a kernel of the other; the shapes are the same.
TEST_CASE("flat rows read as interleaved are caught", "[oracle]") {
  Choice flat, interleaved;
  flat.family = Family::kFlat;
  const Problem p = make_problem(make_spec(flat), "decode", options(3));
  const auto deviations = judge(p, make_spec(interleaved));
  CHECK(of(deviations, "out").error > 0.5);
  CHECK_FALSE(of(deviations, "conv_state").good());
}

TEST_CASE("wrong numbers are caught", "[oracle]") {
  struct Row {
    const char* what;
    void (*change)(spec::Spec&);
  };
  const Row rows[] = {
      {"eps in the mean", [](spec::Spec& s) { s.qk_norm.eps_at.value = core::EpsAt::kMean; }},
      {"eps as a floor", [](spec::Spec& s) { s.qk_norm.eps_at.value = core::EpsAt::kMax; }},
      {"no norm of q and k", [](spec::Spec& s) { s.qk_norm.enabled.value = false; }},
      {"taps reversed", [](spec::Spec& s) { s.conv.taps_oldest_first.value = false; }},
      {"no activation", [](spec::Spec& s) { s.conv.activation.value = core::Activation::kNone; }},
      {"A stored as -exp", [](spec::Spec& s) { s.decay.a_log.value = core::AStored::kNegativeExp; }},
      {"bounded decay",
       [](spec::Spec& s) {
         s.decay.form.value = core::DecayForm::kBounded;
         s.decay.bound.value = -5;
       }},
      {"beta doubled", [](spec::Spec& s) { s.beta.factor.value = 2; }},
      {"1 + w", [](spec::Spec& s) { s.out_norm.weight.value = core::NormWeight::kOnePlusW; }},
      {"sigmoid gate", [](spec::Spec& s) { s.out_norm.gate.value = core::Activation::kSigmoid; }},
      {"gate first", [](spec::Spec& s) { s.out_norm.norm_before_gate.value = false; }},
      {"k scaled too", [](spec::Spec& s) { s.qk_scale.k.value = *s.qk_scale.q; }},
  };
  const spec::Spec spec = make_spec(Choice{});
  const Problem p = make_problem(spec, "decode", options(4));
  for (const Row& row : rows) {
    CAPTURE(row.what);
    spec::Spec mutant = spec;
    row.change(mutant);
    CHECK_FALSE(all_good(judge(p, mutant)));
  }
}

TEST_CASE("tags name the element that went astray", "[oracle]") {
  Choice choice;
  const spec::Spec spec = make_spec(choice);
  choice.pairing = core::Pairing::kTiled;
  const spec::Spec tiled = make_spec(choice);
  const Problem heads = make_tagged(spec, "unpack", options(2), Tag::kHead);
  CHECK(part_of(heads, "in.v", 1)[48 * 4] == 5);  // 1 + value head 4
  auto deviations = judge(heads, tiled);
  CHECK_THAT(describe(deviations),
             Catch::Matchers::Contains("handover.v: 384 copied elements arrived wrong; first: row 0, v, "
                                       "value head 1 (key head 0, group 1), value channel 0: got 4, want 2"));
  CHECK_THAT(describe(deviations), !Catch::Matchers::Contains("handover.q"));

  spec::Spec swapped = spec;
  auto& parts = test::find(swapped.inputs, "ba").dims.back().parts;
  std::swap(parts[0].name.value, parts[1].name.value);
  CHECK_THAT(describe(judge(make_tagged(spec, "unpack", options(2), Tag::kPart), swapped)),
             Catch::Matchers::Contains("row 0, b, value head 0 (key head 0, group 0): got 6, want 5"));

  // A window read in the wrong order: the taps and channels go astray, heads of equal tags may hide it.
  choice = Choice{};
  choice.conv_sd = false;
  int caught = 0;
  for (const Tag tag : kAllTags) {
    caught += !all_good(judge(make_tagged(spec, "conv_update", options(2), tag), make_spec(choice)));
    Problem ideal = make_tagged(spec, "conv_update", options(2), tag);
    const Expectation expected = expect(ideal);
    apply(expected, ideal);
    CHECK(describe(compare(expected, ideal)) == "");
  }
  CHECK(caught >= 3);
}

// An fp32 computation must round the conv's output to the same bf16 as the oracle.
TEST_CASE("conv outputs keep away from ties", "[oracle]") {
  spec::Spec spec = make_spec(Choice{});
  spec.rounding.conv.value = core::DType::kFp32;
  test::find(spec.handover, "v").dtype.value = core::DType::kFp32;
  spec::Spec rounded = spec;
  rounded.rounding.conv.value = core::DType::kBf16;
  const auto nearest = [](const spec::Spec& made, const spec::Spec& looked_at) {
    const Problem p = make_problem(made, "conv_update", options(40));
    Problem run = p;
    apply(expect_as(p, looked_at), run);
    double least = 1;
    for (int row = 0; row < 40; ++row) {
      for (const double y : part_of(run, "out.v", row))
        least = std::min(least, distance_from_tie(core::DType::kBf16, y));
    }
    return least;
  };
  CHECK(nearest(rounded, spec) > 0.01);
  CHECK(nearest(spec, spec) < 0.005);
}

TEST_CASE("tolerances", "[oracle]") {
  Choice choice;
  const auto of_buffer = [](const spec::Spec& spec, const char* name) {
    return tolerance(spec, make_problem(spec, "decode", {}).buffer(name));
  };
  spec::Spec spec = make_spec(choice);
  CHECK(of_buffer(spec, "state") == 1e-5);
  CHECK(of_buffer(spec, "out") == 5e-3);
  spec.rounding.qk.value = core::DType::kBf16;
  CHECK(of_buffer(spec, "state") == 5e-3);
  choice.activations = core::DType::kFp32;
  choice.state = core::DType::kBf16;
  spec = make_spec(choice);
  CHECK(of_buffer(spec, "state") == 5e-3);
  CHECK(of_buffer(spec, "out") == 1e-5);
  spec.rounding.o.value = core::DType::kBf16;
  CHECK(of_buffer(spec, "out") == 5e-3);
}

TEST_CASE("true sizes take little time", "[oracle]") {
  const spec::Spec spec = make_spec(Choice{{16, 32, 128, 128}});
  const auto begin = std::chrono::steady_clock::now();
  Problem p = make_problem(spec, "decode", options(4));
  const Expectation expected = expect(p);
  apply(expected, p);
  CHECK(all_good(compare(expected, p)));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  CAPTURE(took.count());
  CHECK(took.count() < 5);  // 0.2 s on an idle machine
}
