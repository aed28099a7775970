// The form that a prefill takes on a Hopper GPU, and its workspace.
#include "core/prefill.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "support/catch.h"

namespace {

using namespace gdn::core;

PrefillWork work(int key_heads, int value_heads, std::int64_t sequences, std::int64_t length, int dim = 128) {
  return {key_heads, value_heads, dim, dim, sequences * length, sequences, length};
}

struct Row {
  PrefillWork work;
  PrefillForm form;
  int segments;
  double measured_us;  // of the chain, on the H200 of tests/bench/NOTES.md
};

KernelPlan plan_of(int key_heads, int value_heads, int dim) {
  KernelPlan plan;
  Facts& f = plan.facts;
  f.key_heads = key_heads, f.value_heads = value_heads, f.group = value_heads / key_heads;
  f.key_dim = f.value_dim = dim, f.chunk = 64;
  int operand = 0;
  for (Map* map : {&f.in_q, &f.in_k, &f.in_v, &f.out_o}) {
    map->operand = operand++;
    map->dtype = DType::kBf16;
    map->inner_stride = 1, map->align = dim, map->run = dim;
  }
  for (Map* map : {&f.in_g, &f.in_beta}) map->operand = operand++;
  plan.operands.resize(1);
  plan.target = "sm_90a";
  plan.operation = "chunk_delta";
  plan.operands[0].role = Role::kWorkspace;
  return plan;
}

TEST_CASE("the form and its estimate, against what was measured") {
  const Row rows[] = {
      {work(16, 32, 1, 32768), PrefillForm::kPair, 1, 542.0},   {work(16, 32, 1, 8192), PrefillForm::kPair, 1, 132.9},
      {work(16, 32, 1, 2048), PrefillForm::kPair, 1, 39.4},     {work(16, 32, 4, 8192), PrefillForm::kTwo, 1, 293.5},
      {work(16, 32, 8, 1024), PrefillForm::kTwo, 1, 93.1},      {work(16, 64, 1, 32768), PrefillForm::kOne, 1, 740.3},
      {work(2, 8, 1, 32768), PrefillForm::kSegments, 8, 210.7},
  };
  for (const Row& row : rows) {
    INFO(row.work.key_heads << '/' << row.work.value_heads << ' ' << row.work.sequences << 'x' << row.work.longest);
    const PrefillChoice choice = choose_prefill(row.work, prefill_costs_h200());
    CHECK(to_string(choice.form) == to_string(row.form));
    CHECK(choice.segments == row.segments);
    CHECK(choice.chain_us > 0.7 * row.measured_us);
    CHECK(choice.chain_us < 1.3 * row.measured_us);
  }
}

PrefillWork by_channel(int heads, std::int64_t sequences, std::int64_t length) {
  PrefillWork sizes = work(heads, heads, sequences, length);
  sizes.by_channel = true;
  return sizes;
}

TEST_CASE("the form where channels decay by themselves, and its workspace") {
  const Row rows[] = {{by_channel(32, 1, 32768), PrefillForm::kPair, 1, 0},
                      {by_channel(64, 1, 8192), PrefillForm::kOne, 1, 0},
                      {by_channel(96, 1, 8192), PrefillForm::kTwo, 1, 0},
                      {by_channel(4, 1, 32768), PrefillForm::kSegments, 16, 0}};
  for (const Row& row : rows) {
    INFO(row.work.value_heads << ' ' << row.work.sequences << 'x' << row.work.longest);
    const PrefillChoice choice = choose_prefill(row.work, prefill_costs_h200(true));
    CHECK(to_string(choice.form) == to_string(row.form));
    CHECK(choice.segments == row.segments);
    // A chunk of a value head takes longer than one that decays as a whole, and so does making its record.
    PrefillWork whole = row.work;
    whole.by_channel = false;
    const PrefillChoice other = choose_prefill(whole, prefill_costs_h200());
    CHECK(choice.chain_us > other.chain_us);
    CHECK(choice.prepare_us > other.prepare_us);
    // q, k and v in 16 bits, g and beta in 32.
    const double input =
        static_cast<double>(row.work.tokens) * row.work.value_heads * (2.0 * 3 * 128 + 4.0 * 128 + 4.0);
    CHECK(static_cast<double>(prefill_workspace_bytes(row.work, choice.segments)) < 1.2 * input);
  }
  // By hand: of 2/4 heads, K = 96 (two tiles), 4 (3 * 16384 + 2 * 5120 + 4 (256 + 128)) a chunk.
  PrefillWork sizes = work(2, 4, 1, 640);
  sizes.key_dim = 96, sizes.value_dim = 192, sizes.by_channel = true;
  CHECK(prefill_records_bytes(sizes) == 11 * 4 * (49152 + 10240 + 1536));
  KernelPlan plan = plan_of(2, 8, 128);
  plan.facts.rule = Rule::kKda;
  plan.facts.in_g.run = 128;
  const PrefillLaunches launches = prefill_launches(prefill_work(plan, 4096, 3), prefill_choice(plan, 4096, 3));
  CHECK(launches.list[0].kernel == "prep");
  CHECK(launches.list[0].grid_x == 67 * 8);
  for (const PrefillKernel& kernel : prefill_kernels(plan)) CHECK(kernel.shared_bytes <= 227 * 1024);
}

TEST_CASE("a whole layer's workspace has rows of v and o before the records where out can't hold them") {
  for (const auto& [key_heads, value_heads] : {std::pair{16, 32}, {16, 64}, {2, 8}}) {
    KernelPlan plan = plan_of(key_heads, value_heads, 128);
    const std::int64_t alone = workspace_bytes(plan, 32768, 1);
    plan.operation = "prefill";
    plan.facts.round_conv = plan.facts.round_o = DType::kBf16;
    plan.facts.out.dtype = DType::kBf16;
    CHECK(prefill_set(plan) == PrefillSet::kNone);  // no norm, and nobody else takes o from the workspace
    plan.facts.norm_w.operand = 8;
    CHECK(prefill_set(plan) == PrefillSet::kWarpGroups);
    CHECK_FALSE(holds_o(plan));
    plan.facts.out.operand = 9, plan.facts.out.inner_stride = 1, plan.facts.out.align = 128;
    CHECK(rows_in_out(plan));
    CHECK(held_bytes(plan, 32768) == 0);
    CHECK(workspace_bytes(plan, 32768, 1) == alone);
    const std::int64_t rows = std::int64_t{32768} * value_heads * 128 * 2;
    const double input = 32768.0 * (2.0 * 128 * (2 * key_heads + 2 * value_heads) + 4.0 * value_heads);
    INFO(key_heads << '/' << value_heads);
    const auto held = [&](auto change) {  // rows in the workspace, which is still at most 1.2 times the input
      KernelPlan other = plan;
      change(other.facts.out);
      CHECK_FALSE(rows_in_out(other));
      CHECK(held_bytes(other, 32768) == rows);
      CHECK(workspace_bytes(other, 32768, 1) == rows + alone);
      CHECK(static_cast<double>(workspace_bytes(other, 32768, 1)) < 1.2 * input);
      return holds_o(other);
    };
    CHECK_FALSE(held([](Map& out) { out.align = 4; }));
    CHECK_FALSE(held([](Map& out) { out.inner_stride = 2; }));
    CHECK_FALSE(held([](Map& out) { out.dtype = DType::kFp32; }));
    CHECK(held([](Map& out) { out.dtype = DType::kE4m3fn; }));  // such an output can't do without
    plan.facts.out.dtype = DType::kE4m3fn;
    plan.facts.round_conv = DType::kFp32;  // nor would 16 bits hold what the conv gives
    CHECK(prefill_set(plan) == PrefillSet::kNone);
    CHECK(workspace_bytes(plan, 32768, 1) == rows);
  }
}

TEST_CASE("a form that a plan asks for has its own estimates, and a name") {
  KernelPlan plan = plan_of(2, 8, 128);
  const PrefillChoice best = prefill_choice(plan, 32768, 1);
  CHECK(describe(best) == "segments 8");
  plan.choices = {{"form", 3}};
  const PrefillChoice pair = prefill_choice(plan, 32768, 1);
  CHECK(describe(pair) == "pair");
  CHECK(pair.chain_us > best.chain_us);
  CHECK(pair.prepare_us == Approx(best.prepare_us));
}

TEST_CASE("a form that can't hold the work is never the choice") {
  const PrefillCosts& costs = prefill_costs_h200();
  // Three slices a head: no block of two; K and V of no whole pairs of slices: no segments.
  PrefillWork odd = work(2, 4, 64, 4096);
  odd.value_dim = 192, odd.key_dim = 96;
  CHECK(std::isinf(prefill_chain_us(odd, costs, PrefillForm::kTwo)));
  CHECK(std::isinf(prefill_chain_us(odd, costs, PrefillForm::kSegments, 4)));
  CHECK(to_string(choose_prefill(odd, costs).form) == "one");
  // More slices than half the multiprocessors: no pairs.
  CHECK(std::isinf(prefill_chain_us(work(16, 34, 1, 4096), costs, PrefillForm::kPair)));
  CHECK(std::isfinite(prefill_chain_us(work(16, 33, 1, 4096), costs, PrefillForm::kPair)));
  // Two segments can't win, and short ones don't.
  CHECK(std::isinf(prefill_chain_us(work(2, 8, 1, 32768), costs, PrefillForm::kSegments, 2)));
  CHECK(std::isinf(prefill_chain_us(work(2, 8, 1, 4096), costs, PrefillForm::kSegments, 8)));
  CHECK(to_string(choose_prefill(work(2, 8, 1, 2048), costs).form) == "pair");
}

TEST_CASE("a long sequence among short ones decides") {
  PrefillWork ragged = work(16, 32, 2, 1024);
  const double even = choose_prefill(ragged, prefill_costs_h200()).chain_us;
  ragged.longest = 2000;
  CHECK(choose_prefill(ragged, prefill_costs_h200()).chain_us > 1.8 * even);
  ragged.longest = 0;  // not known: taken to be equal
  CHECK(choose_prefill(ragged, prefill_costs_h200()).chain_us == Approx(even));
}

TEST_CASE("the workspace is at most 1.2 times the input") {
  for (const auto& [key_heads, value_heads] : {std::pair{16, 32}, {16, 48}, {16, 64}, {8, 8}, {2, 8}}) {
    INFO(key_heads << '/' << value_heads);
    const PrefillWork sizes = work(key_heads, value_heads, 1, 32768);
    const double input = 32768.0 * (2.0 * (2 * key_heads + value_heads) * 128 + 8.0 * value_heads);
    CHECK(static_cast<double>(prefill_workspace_bytes(sizes)) < 1.2 * input);
  }
  // The rows that figures are kept of, with what the form that is taken adds.
  const PrefillWork figures[] = {work(16, 32, 1, 32768), work(16, 32, 1, 8192), work(16, 32, 1, 2048),
                                 work(16, 32, 4, 8192),  work(16, 32, 8, 1024), work(16, 48, 1, 32768),
                                 work(16, 64, 1, 32768), work(2, 8, 1, 32768),  work(16, 32, 1, 131072)};
  for (const PrefillWork& sizes : figures) {
    INFO(sizes.key_heads << '/' << sizes.value_heads << ' ' << sizes.sequences << 'x' << sizes.tokens);
    const double channels = 128.0 * (2 * sizes.key_heads + sizes.value_heads);
    const double input = static_cast<double>(sizes.tokens) * (2 * channels + 8.0 * sizes.value_heads);
    const PrefillChoice choice = choose_prefill(sizes, prefill_costs_h200());
    CHECK(static_cast<double>(prefill_workspace_bytes(sizes, choice.segments)) < 1.2 * input);
  }
  // By hand: a chunk's record of 2/4 heads, K = 96 (two tiles): 2 * 2 * 16384 + 4 * (10240 + 1088), and one more
  // number than chunks for the one sequence.
  PrefillWork sizes = work(2, 4, 1, 640);
  sizes.key_dim = 96, sizes.value_dim = 192;
  CHECK(prefill_records_bytes(sizes) == 11 * (65536 + 45312));
  CHECK(prefill_workspace_bytes(sizes) == prefill_records_bytes(sizes));
  CHECK(prefill_workspace_bytes(work(2, 8, 3, 32768), 8) - prefill_records_bytes(work(2, 8, 3, 32768)) ==
        3 * 8 * 8 * 4 * (256 * 128));
}

TEST_CASE("a snapshot may cost a chunk more, and nothing where a launch takes none") {
  KernelPlan plan = plan_of(16, 32, 128);
  const std::int64_t none = workspace_bytes(plan, 8192, 4);
  CHECK(workspace_bytes(plan, 8192, 4, 3) == none + 3 * prefill_records_bytes(prefill_work(plan, 63, 1)));
  const PrefillChoice choice = prefill_choice(plan, 8192, 4);
  CHECK(prefill_launches(prefill_work(plan, 8192, 4, 3), choice).list[0].grid_x == (128 + 4 + 3) * 16);

  // The lists are both given or there are no snapshots.
  plan.facts.snapshots = true, plan.facts.snapshot_rows_operand = 2, plan.facts.snapshot_slots_operand = 3;
  int something = 0;
  gdn::Args args = {};
  args.operand[2] = &something, args.stride[2] = 5;
  CHECK(snapshots_of(plan, args) == 0);
  args.operand[3] = &something;
  CHECK(snapshots_of(plan, args) == 5);
  plan.facts.snapshot_rows_operand = -1;
  CHECK(snapshots_of(plan, args) == 0);

  // Of few heads sequences are cut, and their ends take room as well: the most of 40 sequences and snapshots together
  // is of those few sequences that are cut most.
  KernelPlan few = plan_of(2, 8, 128);
  few.facts.snapshots = true;
  std::int64_t most = 0;
  for (int sequences = 1; sequences <= 40; ++sequences) {
    most = std::max(most, workspace_bytes(few, 32768, sequences, 40 - sequences));
  }
  CHECK(most_workspace_bytes(few, 32768, 40) == most);
  CHECK(most > workspace_bytes(few, 32768, 40));
  few.facts.snapshots = false;
  CHECK(most_workspace_bytes(few, 32768, 40) < most);
}

TEST_CASE("what a target takes: warp groups, single warps as far as shared memory goes, or the plain body") {
  struct Holding {
    const char* target;
    int key_dim, value_dim;
    PrefillSet set;
    const char* kernels;
  };
  constexpr auto kNone = PrefillSet::kNone, kGroups = PrefillSet::kWarpGroups, kWarps = PrefillSet::kWarps;
  const Holding rows[] = {
      {"sm_90a", 128, 128, kGroups, "prep one pair two carry combine segment"},
      {"sm_90a", 256, 128, kWarps, "prep one"},
      {"sm_80", 128, 128, kWarps, "prep one two"},
      {"sm_80", 96, 192, kWarps, "prep one"},  // three slices
      {"sm_80", 256, 256, kWarps, "prep one"},
      {"sm_100a", 128, 256, kWarps, "prep one two"},
      {"sm_120a", 128, 128, kWarps, "prep one two"},  // two slices ask for 97.25 KB
      {"sm_120a", 64, 128, kWarps, "prep one two"},
      {"sm_120a", 192, 128, kWarps, "prep one"},  // with room for one chunk
      {"sm_120a", 256, 128, kWarps, "prep one"},
      {"gfx942", 128, 128, kNone, ""},
  };
  for (const Holding& row : rows) {
    INFO(row.target << ", K = " << row.key_dim << ", V = " << row.value_dim);
    KernelPlan plan = plan_of(2, 6, 128);
    plan.target = row.target;
    plan.facts.key_dim = row.key_dim, plan.facts.value_dim = row.value_dim;
    CHECK(prefill_set(plan) == row.set);
    std::string names;
    for (const PrefillKernel& kernel : prefill_kernels(plan)) {
      names += (names.empty() ? "" : " ") + std::string(kernel.name);
      if (row.set == kWarps) CHECK(kernel.shared_bytes <= find_prefill_machine(row.target)->shared_bytes);
    }
    CHECK(names == row.kernels);
    plan.choices = {{"warps", 1}};
    CHECK((prefill_set(plan) == kWarps) == (row.set != kNone));
    // Channels that decay by themselves: the same.
    plan.facts.rule = Rule::kKda;
    CHECK((prefill_set(plan) == kWarps) == (row.set != kNone));
    for (const PrefillKernel& kernel : prefill_kernels(plan)) {
      CHECK(kernel.shared_bytes <= find_prefill_machine(row.target)->shared_bytes);
    }
  }
  // Code for sm_80 on a GPU with 99 KB: of 256 channels nothing fits. Where two slices a block do not, one is taken,
  // whatever else would be chosen.
  KernelPlan small = plan_of(16, 64, 128);
  small.target = "sm_80";
  CHECK(describe(prefill_choice(small, 32768, 1)) == "two");
  CHECK(describe(prefill_choice(small, 32768, 1, 163 * 1024)) == "two");
  CHECK(describe(prefill_choice(small, 32768, 1, 99 * 1024)) == "two");
  CHECK(describe(prefill_choice(small, 32768, 1, 96 * 1024)) == "one");
  CHECK(prefill_fits(small, 96 * 1024));
  CHECK_FALSE(prefill_fits(small, 48 * 1024));
  small.choices = {{"form", 2}};
  CHECK(describe(prefill_choice(small, 32768, 1, 96 * 1024)) == "one");
  small.facts.key_dim = 256;
  CHECK(prefill_fits(small, 163 * 1024));
  CHECK_FALSE(prefill_fits(small, 99 * 1024));
  // By hand: k, M, v and gates of K = 128 twice, q and R once.
  KernelPlan plan = plan_of(2, 6, 128);
  plan.target = "sm_80";
  CHECK(prefill_kernels(plan)[1].shared_bytes == 2 * (16384 + 5120 + 8192 + 1152) + 16384 + 5120);
  CHECK(prefill_kernels(plan)[2].shared_bytes == 2 * (16384 + 5120 + 2 * 8192 + 1152) + 16384 + 5120);
  // Of K = 256 in 99 KB, all of it once.
  plan.target = "sm_120a";
  plan.facts.key_dim = 256;
  CHECK(prefill_kernels(plan)[1].shared_bytes == 32768 + 5120 + 8192 + 1152 + 32768 + 5120);
  CHECK(prefill_kernels(plan)[1].body == "mma::chunk_chain<gdn::mma::OnePlace<{}>, 0>");
  // By channel beside it: k, q, the sums of one tile of them, 4 blocks of L, three numbers a token and the gates.
  plan.facts.rule = Rule::kKda;
  CHECK(prefill_kernels(plan)[0].shared_bytes == 2 * 32768 + 16384 + 4 * 1088 + 3 * 256 + 2048);
  CHECK(prefill_kernels(plan)[1].shared_bytes == 32768 + 5120 + 8192 + 2048 + 32768 + 5120);
}

TEST_CASE("the form of single warps: a slice a block where multiprocessors idle, two where they do not") {
  struct Taken {
    const char* target;
    int key_heads, value_heads, rows, sequences;
    const char* form;
  };
  for (const Taken& row : {Taken{"sm_80", 16, 32, 32768, 1, "one"},
                           {"sm_80", 16, 32, 32768, 4, "one"},
                           {"sm_80", 16, 32, 32768, 16, "two"},
                           {"sm_80", 16, 64, 32768, 1, "two"},
                           {"sm_120a", 16, 32, 32768, 4, "two"},
                           {"sm_100a", 16, 32, 8192, 1, "one"},
                           {"sm_100a", 16, 32, 8192, 8, "two"}}) {
    INFO(row.target << ' ' << row.key_heads << '/' << row.value_heads << ' ' << row.sequences);
    KernelPlan plan = plan_of(row.key_heads, row.value_heads, 128);
    plan.target = row.target;
    const PrefillChoice choice = prefill_choice(plan, row.rows, row.sequences);
    CHECK(describe(choice) == row.form);
    CHECK(std::isfinite(choice.chain_us));
    // The launch is of kernels that there are.
    const PrefillLaunches launches = prefill_launches(prefill_work(plan, row.rows, row.sequences), choice);
    REQUIRE(launches.count == 2);
    CHECK(launches.list[1].kernel == row.form);
    const double input = row.rows * (2.0 * (2 * row.key_heads + row.value_heads) * 128 + 8.0 * row.value_heads);
    CHECK(static_cast<double>(workspace_bytes(plan, row.rows, row.sequences)) < 1.2 * input);
  }
}

TEST_CASE("launches overlap where each kernel waits for what it needs") {
  struct Overlap {
    const char* target;
    int key_heads, value_heads, rows, sequences, form;
    bool overlaps;
  };
  for (const Overlap& row : {Overlap{"sm_90a", 16, 32, 8192, 1, 0, true},  // pair
                             {"sm_90a", 16, 32, 8192, 8, 0, true},         // two
                             {"sm_90a", 16, 64, 32768, 1, 1, true},        // one
                             {"sm_90a", 2, 8, 32768, 1, 0, false},         // segments
                             {"sm_80", 16, 32, 8192, 1, 0, false}}) {
    INFO(row.target << ' ' << row.key_heads << '/' << row.value_heads << ' ' << row.sequences);
    KernelPlan plan = plan_of(row.key_heads, row.value_heads, 128);
    plan.target = row.target;
    plan.choices = {{"form", row.form}};
    CHECK(prefill_overlaps(plan, prefill_choice(plan, row.rows, row.sequences)) == row.overlaps);
  }
}

TEST_CASE("what the kernels can't hold stays with the plain body") {
  const Facts good = plan_of(2, 4, 128).facts;
  CHECK(holds_hopper_prefill(good));
  const auto without = [&](auto change) {
    Facts facts = good;
    change(facts);
    return !holds_hopper_prefill(facts);
  };
  CHECK(without([](Facts& f) { f.chunk = 32; }));
  CHECK(without([](Facts& f) { f.key_dim = 256; }));
  CHECK(without([](Facts& f) { f.value_dim = 100; }));
  CHECK(without([](Facts& f) { f.in_v.dtype = DType::kFp32; }));
  CHECK(without([](Facts& f) { f.in_k.align = 4; }));
  CHECK(without([](Facts& f) { f.out_o.inner_stride = 2; }));
  CHECK(without([](Facts& f) { f.in_g.run = 128; }));
  // A decay for each key channel is for the rule that has them, in whatever order they lie.
  CHECK_FALSE(without([](Facts& f) { f.rule = Rule::kKda, f.in_g.run = 128, f.in_g.inner_stride = 4; }));
}

TEST_CASE("a launch is the kernels of its form, and the plan can say which") {
  KernelPlan plan = plan_of(2, 8, 128);
  struct Form {
    int choice;
    const char* last;
    unsigned x, y;
  };
  // 8 value heads, 2 slices each, 3 sequences of 4096 tokens in all: 67 chunk numbers.
  for (const Form& form : {Form{1, "one", 48, 1}, {2, "two", 24, 1}, {3, "pair", 96, 1}, {7, "segment", 48, 6}}) {
    INFO(form.last);
    plan.choices = {{"form", form.choice}};
    const PrefillChoice choice = prefill_choice(plan, 4096, 3);
    CHECK(choice.segments == (form.choice >= 4 ? form.choice - 1 : 1));
    const PrefillLaunches launches = prefill_launches(prefill_work(plan, 4096, 3), choice);
    REQUIRE(launches.count == (form.choice >= 4 ? 4 : 2));
    CHECK(launches.list[0].kernel == "prep");
    CHECK(launches.list[0].grid_x == 67 * 2);
    const PrefillLaunch& last = launches.list[static_cast<std::size_t>(launches.count - 1)];
    CHECK(last.kernel == form.last);
    CHECK(last.grid_x == form.x);
    CHECK(last.grid_y == form.y);
    int known = 0;
    for (const PrefillKernel& kernel : prefill_kernels(plan)) {
      for (int i = 0; i < launches.count; ++i)
        known += kernel.name == launches.list[static_cast<std::size_t>(i)].kernel;
      CHECK(kernel.shared_bytes <= 227 * 1024);
    }
    CHECK(known == launches.count);
  }
  plan.choices.clear();
  std::int64_t most = 0;
  for (int sequences = 1; sequences <= 500; ++sequences) {
    most = std::max(most, workspace_bytes(plan, 32768, sequences));
  }
  CHECK(most_workspace_bytes(plan, 32768, 500) == most);
  CHECK(most_workspace_bytes(plan, 32768, 1) == workspace_bytes(plan, 32768, 1));
  plan.choices = {{"form", 7}};
  CHECK(workspace_bytes(plan, 4096, 3) == prefill_workspace_bytes(prefill_work(plan, 4096, 3), 6));
  plan.operands.clear();
  CHECK(workspace_bytes(plan, 4096, 3) == 0);
}

}  // namespace
