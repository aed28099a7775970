// Each way in which views can disagree with a plan is its own error, and what agrees passes.
#include "check.h"

#include <cstdint>
#include <functional>
#include <vector>

#include "support/catch.h"
#include "support/thrown.h"

namespace {

using namespace gdn;
using core::DType;
using runtime::Code;
using runtime::View;
using test::Thrown;
using test::thrown_by;

constexpr int kRows = 3;
constexpr int kSlots = 5;

core::Operand operand(const char* name, core::Role role, core::Access access, DType dtype, core::Leading leading,
                      bool launch_stride, std::int64_t inner, std::int64_t align, const char* layout) {
  core::Operand made;
  made.name = name;
  made.role = role;
  made.access = access;
  made.dtype = dtype;
  made.leading = leading;
  made.launch_stride = launch_stride;
  made.inner = inner;
  made.align = align;
  made.layout = core::make_identity(layout);
  return made;
}

core::KernelPlan plan_of_a_step() {
  core::KernelPlan plan;
  plan.symbol = "gdn_small_decode_sm_90a";
  plan.operands = {
      operand("x", core::Role::kInput, core::Access::kRead, DType::kBf16, core::Leading::kToken, true, 24, 16,
              "bf16 [token, key_head=2, 12]"),
      operand("weight", core::Role::kParameter, core::Access::kRead, DType::kFp32, core::Leading::kNone, false, 12, 4,
              "fp32 [channel=12]"),
      operand("state", core::Role::kPool, core::Access::kReadWrite, DType::kFp32, core::Leading::kSlot, true, 32, 16,
              "fp32 [slot, value_dim=8, key_dim=4]"),
      operand("slots", core::Role::kSlots, core::Access::kRead, DType::kInt32, core::Leading::kToken, false, 1, 4,
              "int32 [token]"),
      operand("out", core::Role::kOutput, core::Access::kWrite, DType::kBf16, core::Leading::kToken, false, 16, 16,
              "bf16 [token, 16]"),
  };
  plan.operands[1].optional = true;
  plan.facts.slots_operand = 3;
  plan.facts.slot_dtype = DType::kInt32;
  plan.facts.padding = core::Padding::kNegative;
  return plan;
}

// Memory for each operand, 256-byte aligned, and views that agree with the plan.
struct Case {
  core::KernelPlan plan = plan_of_a_step();
  int rows = kRows;
  int slots = kSlots;
  std::vector<View> views;
  alignas(256) unsigned char memory[5][1024] = {};

  Case() {
    const std::vector<std::vector<std::int64_t>> sizes = {{kRows, 2, 12}, {12}, {kSlots, 8, 4}, {kRows}, {kRows, 16}};
    const std::vector<std::vector<std::int64_t>> strides = {{32, 12, 1}, {1}, {40, 4, 1}, {1}, {16, 1}};
    for (std::size_t i = 0; i < plan.operands.size(); ++i) {
      views.push_back({memory[i], plan.operands[i].dtype, sizes[i], strides[i], plan.operands[i].layout});
    }
  }
  View& x() { return views[0]; }
  View& weight() { return views[1]; }
  View& state() { return views[2]; }
  View& out() { return views[4]; }
  Thrown check() const {
    return thrown_by([this] { runtime::check(plan, rows, slots, views); });
  }
};

struct Bad {
  const char* what;
  std::function<void(Case&)> change;
  Code code;
  std::vector<const char*> words;  // all of them stand in the text
};

TEST_CASE("views that agree pass, and become the kernel's block") {
  Case good;
  CHECK_FALSE(good.check().code);
  const Args args = runtime::make_args(good.plan, good.rows, good.slots, good.views);
  CHECK(args.operand[0] == good.memory[0]);
  CHECK(args.operand[4] == good.memory[4]);
  CHECK(args.stride[0] == 32);
  CHECK(args.stride[1] == 0);
  CHECK(args.stride[2] == 40);
  CHECK(args.stride[3] == 1);
  CHECK(args.stride[4] == 16);
  CHECK(args.rows == kRows);
  CHECK(args.sequences == kRows);  // one token each
  CHECK(args.slots == kSlots);
  CHECK(args.operand[5] == nullptr);
}

// A plan that takes a workspace behind its other operands, and a launch of 3 rows in 3 sequences: of 2/4 heads, K = 64,
// a record is 2 * 16384 + 4 * (10240 + 1088) bytes, and there are 3 / 64 + 3 of them.
struct WithWorkspace : Case {
  static constexpr std::int64_t kNeeded = 3 * (2 * 16384 + 4 * (10240 + 1088));
  std::vector<unsigned char> bytes = std::vector<unsigned char>(kNeeded + 256);
  View workspace;

  WithWorkspace() {
    plan.facts.key_heads = 2, plan.facts.value_heads = 4, plan.facts.key_dim = plan.facts.value_dim = 64;
    plan.facts.group = 2, plan.facts.chunk = 64;
    plan.target = "sm_90a";
    plan.operation = "chunk_delta";
    for (core::Map* map : {&plan.facts.in_q, &plan.facts.in_k, &plan.facts.in_v, &plan.facts.out_o}) {
      map->operand = 0;
      map->dtype = DType::kBf16;
      map->inner_stride = 1, map->run = map->align = 64;
    }
    plan.facts.in_g.operand = plan.facts.in_beta.operand = 0;
    core::Operand made = operand("workspace", core::Role::kWorkspace, core::Access::kReadWrite, DType::kUint8,
                                 core::Leading::kNone, false, 0, 128, "uint8 [byte] workspace");
    made.optional = true;
    plan.operands.push_back(made);
    const auto behind = reinterpret_cast<std::uintptr_t>(bytes.data()) % 128;
    workspace = {bytes.data() + (128 - behind) % 128, DType::kUint8, {kNeeded}, {1}, made.layout};
  }
};

TEST_CASE("a workspace is large enough, or left out") {
  WithWorkspace none;
  CHECK_FALSE(none.check().code);
  CHECK(runtime::make_args(none.plan, none.rows, none.slots, none.views).operand[5] == nullptr);
  WithWorkspace null;
  null.views.push_back(null.workspace);
  null.views.back().data = nullptr;
  CHECK_FALSE(null.check().code);
  WithWorkspace good;
  good.views.push_back(good.workspace);
  CHECK_FALSE(good.check().code);
  CHECK(runtime::make_args(good.plan, good.rows, good.slots, good.views).operand[5] == good.workspace.data);

  WithWorkspace unstated;  // it belongs to no model, so nobody has to say what it is
  unstated.views.push_back(unstated.workspace);
  unstated.views.back().layout = {};
  CHECK_FALSE(unstated.check().code);
  WithWorkspace other;
  other.views.push_back(other.workspace);
  other.views.back().layout = other.plan.operands[0].layout;
  CHECK(other.check().code == Code::kLayoutMismatch);

  WithWorkspace small;
  small.views.push_back(small.workspace);
  small.views.back().sizes[0] -= 1;
  CHECK(small.check().code == Code::kSizeMismatch);
  CHECK(small.check().has("234240"));
  WithWorkspace askew;
  askew.views.push_back(askew.workspace);
  askew.views.back().data = static_cast<unsigned char*>(askew.workspace.data) + 16;
  CHECK(askew.check().code == Code::kAlignment);
  WithWorkspace shared;  // the state lies in it
  shared.views.push_back(shared.workspace);
  shared.state().data = static_cast<unsigned char*>(shared.workspace.data) + WithWorkspace::kNeeded / 128 * 64;
  CHECK(shared.check().code == Code::kOverlap);
  WithWorkspace two;
  two.views.push_back(two.workspace);
  two.views.push_back(two.workspace);
  CHECK(two.check().code == Code::kBadArgument);
  WithWorkspace missing;  // only the workspace may be
  missing.views.pop_back();
  CHECK(missing.check().code == Code::kBadArgument);
}

TEST_CASE("what a framework may hand over in good faith passes") {
  Case fewer;  // the buffers are longer than the batch
  fewer.rows = 1;
  CHECK_FALSE(fewer.check().code);

  Case flat;  // the inner dimensions merged
  flat.x().sizes = {kRows, 24};
  flat.x().strides = {32, 1};
  CHECK_FALSE(flat.check().code);

  Case ones;  // strides of dimensions of one element mean nothing
  ones.rows = 1;
  ones.x().sizes = {1, 1, 24};
  ones.x().strides = {7, 999, 1};
  CHECK_FALSE(ones.check().code);
  CHECK(runtime::make_args(ones.plan, 1, kSlots, ones.views).stride[0] == 24);

  Case absent;
  absent.weight() = View{};
  CHECK_FALSE(absent.check().code);
  CHECK(runtime::make_args(absent.plan, kRows, kSlots, absent.views).operand[1] == nullptr);

  Case stateless;  // no operand is indexed by slot: nobody asks how many there are
  stateless.plan.operands.resize(2);
  stateless.plan.facts.slots_operand = -1;
  stateless.views.resize(2);
  stateless.slots = 0;
  CHECK_FALSE(stateless.check().code);
}

TEST_CASE("where rows beyond the batch are zeroed, a launch knows how many rows its outputs have") {
  Case wide;
  CHECK(runtime::make_args(wide.plan, 2, kSlots, wide.views).out_rows == 0);
  wide.plan.facts.excess_output = core::PaddedOutput::kZero;
  wide.rows = 2;
  CHECK_FALSE(wide.check().code);
  const Args args = runtime::make_args(wide.plan, 2, kSlots, wide.views);
  CHECK(args.rows == 2);
  CHECK(args.out_rows == kRows);
  CHECK(core::grid_rows(wide.plan.launch, args) == kRows);

  core::Operand scales = wide.plan.operands[4];
  scales.name = "out_scale";
  scales.role = core::Role::kScale;
  wide.plan.operands.push_back(scales);
  wide.views.push_back(wide.views[4]);
  alignas(256) unsigned char more[1024] = {};
  wide.views[5].data = more;
  CHECK_FALSE(wide.check().code);
  wide.views[5].sizes[0] = kRows - 1;
  const Thrown thrown = wide.check();
  CHECK(thrown.code == Code::kSizeMismatch);
  CHECK(thrown.has("operand out_scale: 2 rows, and another output of the launch has 3"));
}

// x has tokens, out a row for each sequence, and the offsets say how many those are.
struct Ragged : Case {
  std::int32_t offsets[4] = {0, 1, 1, 3};
  Ragged() {
    core::Operand operand;
    operand.name = "cu_seqlens";
    operand.role = core::Role::kOffsets;
    operand.dtype = DType::kInt32;
    operand.leading = core::Leading::kSequence;
    operand.inner = 1;
    operand.align = 4;
    operand.layout = core::make_identity("int32 [sequence + 1]");
    plan.facts.offsets_operand = static_cast<int>(plan.operands.size());
    plan.operands[4].leading = core::Leading::kSequence;
    plan.operands.push_back(operand);
    views.push_back({offsets, DType::kInt32, {3}, {1}, operand.layout});
  }
  View& of_offsets() { return views[5]; }
};

TEST_CASE("a launch has as many sequences as its offsets say") {
  Ragged two;
  CHECK_FALSE(two.check().code);
  const Args args = runtime::make_args(two.plan, two.rows, two.slots, two.views);
  CHECK(args.rows == kRows);
  CHECK(args.sequences == 2);

  Ragged three;
  three.of_offsets().sizes = {4};
  CHECK_FALSE(three.check().code);
  CHECK(runtime::make_args(three.plan, three.rows, three.slots, three.views).sequences == 3);

  Ragged four;  // one more than `out` has rows for
  four.of_offsets().sizes = {5};
  const Thrown thrown = four.check();
  CHECK(thrown.code == Code::kSizeMismatch);
  CHECK(thrown.has("operand out: the launch has 4 sequences, and the view has only 3"));

  Ragged none;
  none.of_offsets().sizes = {1};
  CHECK(none.check().code == Code::kSizeMismatch);
}

TEST_CASE("a warm-up call takes what there is") {
  Case some;
  some.rows = some.slots = 0;
  CHECK_FALSE(some.check().code.has_value());
  some.x().sizes[0] = 1;  // sizes are not looked at
  some.state().data = nullptr;
  some.views.pop_back();
  CHECK_FALSE(some.check().code.has_value());
  some.views.clear();
  CHECK_FALSE(some.check().code.has_value());
}

TEST_CASE("each disagreement has its error") {
  const std::vector<Bad> table = {
      {"a warm-up call with a wrong layout",
       [](Case& c) {
         c.rows = c.slots = 0;
         c.state().layout = core::make_identity("fp32 [slot, key_dim=4, value_dim=8]");
       },
       Code::kLayoutMismatch,
       {"operand state"}},
      {"a warm-up call with a layout of no memory yet",
       [](Case& c) {
         c.rows = 0;
         c.state().data = nullptr;
         c.state().layout = core::make_identity("fp32 [slot, key_dim=4, value_dim=8]");
       },
       Code::kLayoutMismatch,
       {"operand state"}},
      {"a warm-up call with a wrong dtype",
       [](Case& c) {
         c.rows = 0;
         c.x().dtype = DType::kFp16;
       },
       Code::kDtypeMismatch,
       {"operand x"}},
      {"a warm-up call with a view too many",
       [](Case& c) {
         c.rows = 0;
         c.views.push_back(c.views[0]);
       },
       Code::kBadArgument,
       {"6 views given"}},
      {"fewer than no rows", [](Case& c) { c.rows = -4; }, Code::kBadArgument, {"-4 rows"}},
      {"no slots", [](Case& c) { c.slots = 0; }, Code::kBadArgument, {"0 slots"}},
      {"a view too few",
       [](Case& c) { c.views.pop_back(); },
       Code::kBadArgument,
       {"4 views given, 5 wanted", "x, weight, state, slots, out"}},
      {"a view too many", [](Case& c) { c.views.push_back(c.views[0]); }, Code::kBadArgument, {"6 views given"}},
      {"null", [](Case& c) { c.state().data = nullptr; }, Code::kBadArgument, {"operand state", "null"}},
      {"dtype", [](Case& c) { c.x().dtype = DType::kFp16; }, Code::kDtypeMismatch, {"operand x", "bf16", "fp16"}},
      {"layout",
       [](Case& c) { c.state().layout = core::make_identity("fp32 [slot, key_dim=4, value_dim=8]"); },
       Code::kLayoutMismatch,
       {"operand state", "fp32 [slot, value_dim=8, key_dim=4]", "fp32 [slot, key_dim=4, value_dim=8]",
        "Nothing was launched"}},
      {"no layout stated",
       [](Case& c) { c.x().layout = core::Identity{}; },
       Code::kLayoutMismatch,
       {"operand x", "not stated"}},
      {"a number that collides",
       [](Case& c) { c.x().layout.text = "another"; },
       Code::kLayoutMismatch,
       {"operand x", "another"}},
      {"too few rows", [](Case& c) { c.rows = 4; }, Code::kSizeMismatch, {"operand x", "4 rows", "only 3"}},
      {"other slots", [](Case& c) { c.slots = 4; }, Code::kSizeMismatch, {"operand state", "4 slots", "has 5"}},
      {"inner size",
       [](Case& c) { c.x().sizes = {kRows, 2, 11}; },
       Code::kSizeMismatch,
       {"operand x", "24 elements", "[3, 2, 11]"}},
      {"huge inner size",
       [](Case& c) { c.x().sizes = {kRows, std::int64_t{1} << 40, std::int64_t{1} << 40}; },
       Code::kSizeMismatch,
       {"operand x"}},
      {"whole size", [](Case& c) { c.weight().sizes = {13}; }, Code::kSizeMismatch, {"operand weight", "in all"}},
      {"a size of zero", [](Case& c) { c.x().sizes = {kRows, 0, 12}; }, Code::kSizeMismatch, {"[3, 0, 12]"}},
      {"no dimension",
       [](Case& c) { c.out().sizes = {}, c.out().strides = {}; },
       Code::kSizeMismatch,
       {"operand out", "no dimension"}},
      {"sizes without strides",
       [](Case& c) { c.x().strides.pop_back(); },
       Code::kBadArgument,
       {"3 sizes and 2 strides"}},
      {"transposed inner",
       [](Case& c) { c.state().strides = {40, 1, 8}; },
       Code::kStrideMismatch,
       {"operand state", "[40, 1, 8]", "dimension 2 should have stride 1"}},
      {"gaps between inner rows",
       [](Case& c) { c.state().strides = {64, 8, 1}; },
       Code::kStrideMismatch,
       {"dimension 1 should have stride 4"}},
      {"rows that overlap", [](Case& c) { c.x().strides[0] = 16; }, Code::kStrideMismatch, {"operand x", "16", "24"}},
      {"a broadcast pool", [](Case& c) { c.state().strides[0] = 0; }, Code::kStrideMismatch, {"operand state"}},
      {"a negative stride", [](Case& c) { c.state().strides[0] = -40; }, Code::kStrideMismatch, {"operand state"}},
      {"a stride beyond memory",
       [](Case& c) { c.state().strides[0] = std::int64_t{1} << 62; },
       Code::kStrideMismatch,
       {"operand state", "beyond any address"}},
      {"a stride where the spec fixed it",
       [](Case& c) { c.out().strides[0] = 24; },
       Code::kStrideMismatch,
       {"operand out", "exactly 16", "@launch"}},
      {"address",
       [](Case& c) { c.x().data = c.memory[0] + 8; },
       Code::kAlignment,
       {"operand x", "multiple of 16 bytes"}},
      {"stride in bytes", [](Case& c) { c.x().strides[0] = 28; }, Code::kAlignment, {"operand x", "56 bytes"}},
      {"output over input",
       [](Case& c) { c.out().data = c.memory[0] + 64; },
       Code::kOverlap,
       {"out", "x", "shares memory"}},
      {"output over pool",
       [](Case& c) { c.out().data = c.memory[2] + 640; },
       Code::kOverlap,
       {"state", "out", "shares memory"}},
  };
  for (const Bad& bad : table) {
    INFO(bad.what);
    Case changed;
    bad.change(changed);
    const Thrown thrown = changed.check();
    INFO(thrown.text);
    REQUIRE(thrown.code);
    CHECK(runtime::to_string(*thrown.code) == runtime::to_string(bad.code));
    CHECK(thrown.has("gdn_small_decode_sm_90a"));
    for (const char* word : bad.words) {
      INFO(word);
      CHECK(thrown.has(word));
    }
  }
}

TEST_CASE("operands cut out of one buffer are no overlap until they share a byte") {
  Case packed;  // 24 + 16 elements of a row of 40, 80 bytes
  packed.plan.operands[4].launch_stride = true;
  packed.x().strides[0] = 40;
  packed.out().data = packed.memory[0] + 48;
  packed.out().strides[0] = 40;
  CHECK_FALSE(packed.check().code);

  Case into_next = std::move(packed);  // the last 16 bytes of each run lie in the next row's input
  for (std::size_t i = 0; i < into_next.views.size(); ++i) into_next.views[i].data = into_next.memory[i];
  into_next.x().data = into_next.memory[0] + 16;
  into_next.out().data = into_next.memory[0] + 80;
  CHECK(into_next.check().code == Code::kOverlap);
  into_next.rows = 1;  // and with one row there is no next one
  CHECK_FALSE(into_next.check().code);

  Case other_step;  // interleaved with unlike steps: nothing shows that they stay apart
  other_step.plan.operands[4].launch_stride = true;
  other_step.x().strides[0] = 40;
  other_step.out().data = other_step.memory[0] + 48;
  other_step.out().strides[0] = 48;
  CHECK(other_step.check().code == Code::kOverlap);
}

template <class Index>
Thrown slots_thrown(core::Padding padding, const std::vector<Index>& values, int slots = kSlots) {
  core::KernelPlan plan = plan_of_a_step();
  plan.facts.padding = padding;
  plan.facts.slot_dtype = sizeof(Index) == 8 ? DType::kInt64 : DType::kInt32;
  return thrown_by([&] { runtime::check_slots(plan, static_cast<int>(values.size()), slots, values.data()); });
}

TEST_CASE("slot indices") {
  using core::Padding;
  CHECK_FALSE(slots_thrown<std::int32_t>(Padding::kNone, {0, 4, 2}).code);
  CHECK_FALSE(slots_thrown<std::int32_t>(Padding::kNegative, {-1, 4, -1, 0, -7}).code);
  CHECK_FALSE(slots_thrown<std::int32_t>(Padding::kZeroOrNegative, {0, 4, 0, -1, 1}).code);
  CHECK_FALSE(slots_thrown<std::int64_t>(Padding::kNegative, {-1, 4, 0}).code);

  const Thrown high = slots_thrown<std::int32_t>(Padding::kNegative, {0, 5, 2});
  CHECK(high.code == Code::kSlotOutOfRange);
  CHECK(high.has("row 1 has slot 5"));
  CHECK(high.has("0 to 4"));
  CHECK(slots_thrown<std::int32_t>(Padding::kNone, {0, -1}).has("knows no padding rows"));
  // An int64 index whose low half would be in range.
  CHECK(slots_thrown<std::int64_t>(Padding::kNone, {0, (std::int64_t{1} << 32) + 1}).code == Code::kSlotOutOfRange);

  const Thrown twice = slots_thrown<std::int32_t>(Padding::kNegative, {3, 1, -1, 3, -1});
  CHECK(twice.code == Code::kSlotRepeated);
  CHECK(twice.has("rows 0 and 3"));
  CHECK(twice.has("slot 3"));

  core::KernelPlan plan = plan_of_a_step();
  CHECK(thrown_by([&] { runtime::check_slots(plan, 1, 1, nullptr); }).code == Code::kBadArgument);
  plan.facts.slots_operand = -1;
  CHECK_FALSE(thrown_by([&] { runtime::check_slots(plan, 1, 1, nullptr); }).code);
}

}  // namespace
