// Checked mode finds bad slots and NaN in states, names them, and reads device memory only through its reader.
#include "checked.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "check.h"
#include "kernel.h"
#include "support/catch.h"
#include "support/environment.h"
#include "support/thrown.h"

namespace {

using namespace gdn;
using core::DType;
using runtime::Code;
using runtime::View;
using test::Environment;
using test::thrown_by;

constexpr int kRows = 3, kSlots = 5;
constexpr std::int64_t kInner = 8, kStride = 10;
constexpr std::uintptr_t kFar = std::uintptr_t{1} << 60;  // an address there faults when it is dereferenced

core::Operand operand(const char* name, core::Role role, DType dtype, core::Leading leading, std::int64_t inner) {
  core::Operand made;
  made.name = name;
  made.role = role;
  made.access = role == core::Role::kPool ? core::Access::kReadWrite : core::Access::kRead;
  made.dtype = dtype;
  made.leading = leading;
  made.launch_stride = true;
  made.inner = inner;
  made.layout = core::make_identity(std::string(name) + " layout");
  return made;
}

core::KernelPlan plan_of(DType state, DType slots, core::Padding padding) {
  core::KernelPlan plan;
  plan.symbol = "gdn_small_decode_sm_90a";
  plan.operation = "decode";
  plan.operands = {operand("slots", core::Role::kSlots, slots, core::Leading::kToken, 1),
                   operand("state", core::Role::kPool, state, core::Leading::kSlot, kInner)};
  plan.facts.slots_operand = 0;
  plan.facts.slot_dtype = slots;
  plan.facts.padding = padding;
  return plan;
}

// A kernel whose operands lie in "device" memory: host memory at addresses that the host can't read. Its launch writes
// NaN into an element of a slot where it was told to.
class FarKernel final : public runtime::Kernel {
 public:
  explicit FarKernel(const core::KernelPlan& plan) : Kernel(plan) {}
  bool on_host() const override { return false; }
  runtime::DeviceKind device_kind() const override { return runtime::DeviceKind::kCuda; }

  static void* far(const void* near) { return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(near) + kFar); }
  static void* near(const void* far) { return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(far) - kFar); }

  float* spoil = nullptr;
  mutable int launches = 0;

 private:
  class Reader final : public runtime::OperandReader {
   public:
    void read(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, near(from), bytes); }
  };
  void start(const Args&, runtime::Stream, runtime::Edge) const override {
    ++launches;
    if (spoil != nullptr) *spoil = std::numeric_limits<float>::quiet_NaN();
  }
  bool reaches(const void* address, std::string& whose) const override {
    if (reinterpret_cast<std::uintptr_t>(address) >= kFar) return true;
    whose = "the CPU";
    return false;
  }
  std::unique_ptr<runtime::OperandReader> reader(runtime::Stream) const override { return std::make_unique<Reader>(); }
};

struct Case {
  core::KernelPlan plan = plan_of(DType::kFp32, DType::kInt32, core::Padding::kNegative);
  std::vector<std::int32_t> slots = {4, -1, 2};
  std::vector<float> state = std::vector<float>(kSlots * kStride, 1.0f);
  std::vector<View> views() {
    return {{FarKernel::far(slots.data()), DType::kInt32, {kRows}, {1}, plan.operands[0].layout},
            {FarKernel::far(state.data()), DType::kFp32, {kSlots, kInner}, {kStride, 1}, plan.operands[1].layout}};
  }
};

TEST_CASE("checked mode names operation, row and slot, and launches nothing") {
  const Environment on("GDN_CHECK", "1");
  Case good;
  const FarKernel kernel(good.plan);
  kernel.launch(kRows, kSlots, good.views());
  CHECK(kernel.launches == 1);

  struct Bad {
    std::vector<std::int32_t> slots;
    int nan_at;  // element of the state; -1: none
    Code code;
    std::vector<const char*> words;
  };
  const std::vector<Bad> table = {
      {{4, -1, 5}, -1, Code::kSlotOutOfRange, {"decode", "row 2", "slot 5"}},
      {{4, 2, 4}, -1, Code::kSlotRepeated, {"decode", "rows 0 and 2", "slot 4"}},
      {{4, -1, 2},
       2 * kStride + 3,
       Code::kNanInState,
       {"operation decode", "state", "before", "row 2", "slot 2", "element 3 "}},
      {{4, -1, 2}, 4 * kStride, Code::kNanInState, {"row 0", "slot 4", "element 0 "}},
  };
  for (const Bad& bad : table) {
    Case c;
    c.slots = bad.slots;
    if (bad.nan_at >= 0) c.state[static_cast<std::size_t>(bad.nan_at)] = std::numeric_limits<float>::quiet_NaN();
    const FarKernel checked(c.plan);
    const auto thrown = thrown_by([&] { checked.launch(kRows, kSlots, c.views()); });
    INFO(thrown.text);
    CHECK(thrown.code == bad.code);
    for (const char* word : bad.words) CHECK(thrown.has(word));
    CHECK(checked.launches == 0);
  }
}

TEST_CASE("NaN where no row looks is nobody's business") {
  const Environment on("GDN_CHECK", "1");
  Case c;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  c.state[1 * kStride] = nan;           // slot 1: no row names it
  c.state[2 * kStride + kInner] = nan;  // between two slots
  c.state[4 * kStride + 1] = std::numeric_limits<float>::infinity();
  const FarKernel kernel(c.plan);
  kernel.launch(kRows, kSlots, c.views());
  CHECK(kernel.launches == 1);
}

TEST_CASE("NaN that a launch writes is found after it, prepared or not") {
  const Environment on("GDN_CHECK", "1");
  Case c;
  FarKernel kernel(c.plan);
  kernel.spoil = &c.state[2 * kStride + 7];
  const auto thrown = thrown_by([&] { kernel.launch(kRows, kSlots, c.views()); });
  CHECK(thrown.code == Code::kNanInState);
  CHECK(thrown.has("after the launch: row 2, slot 2, element 7 of 8"));
  CHECK(kernel.launches == 1);
  *kernel.spoil = 0;
  const Args args = runtime::make_args(c.plan, kRows, kSlots, c.views());
  CHECK(thrown_by([&] { kernel.launch_prepared(args); }).code == Code::kNanInState);
}

TEST_CASE("without GDN_CHECK nothing is read; a host pointer is refused all the same") {
  for (const char* off : {"", "0"}) {
    const Environment environment("GDN_CHECK", off);
    Case c;
    c.slots = {4, 4, 99};
    const FarKernel kernel(c.plan);
    kernel.launch(kRows, kSlots, c.views());
    CHECK(kernel.launches == 1);
    std::vector<View> views = c.views();
    views[1].data = c.state.data();
    const auto thrown = thrown_by([&] { kernel.launch(kRows, kSlots, views); });
    CHECK(thrown.code == Code::kWrongDevice);
    CHECK(thrown.has("operand state"));
    CHECK(thrown.has("memory of the CPU"));
    CHECK(thrown.has("CUDA device 0"));
    CHECK(kernel.launches == 1);
  }
  const Environment garbage("GDN_CHECK", "yes");
  CHECK(thrown_by([] { FarKernel kernel(Case().plan); }).code == Code::kBadArgument);
}

TEST_CASE("a view that states another device is refused without asking a driver") {
  Case c;
  const FarKernel kernel(c.plan);
  const std::vector<std::pair<runtime::DeviceKind, int>> wrong = {
      {runtime::DeviceKind::kCpu, 0}, {runtime::DeviceKind::kHip, 0}, {runtime::DeviceKind::kCuda, 1}};
  for (const auto& [device, ordinal] : wrong) {
    std::vector<View> views = c.views();
    views[0].device = device;
    views[0].ordinal = ordinal;
    const auto thrown = thrown_by([&] { kernel.launch(kRows, kSlots, views); });
    CHECK(thrown.code == Code::kWrongDevice);
    CHECK(thrown.has("operand slots"));
    CHECK(thrown.has(runtime::device_text(device, ordinal).c_str()));
  }
  std::vector<View> right = c.views();
  right[0].device = runtime::DeviceKind::kCuda;
  kernel.launch(kRows, kSlots, right);
  CHECK(kernel.launches == 1);
}

TEST_CASE("NaN of every dtype, and int64 slots") {
  struct Pattern {
    DType dtype;
    std::uint32_t nan, largest;  // the largest bit pattern that is a number or infinity
  };
  const std::vector<Pattern> patterns = {{DType::kFp32, 0xff800001u, 0xff800000u},
                                         {DType::kBf16, 0xff81u, 0xff80u},
                                         {DType::kFp16, 0x7c01u, 0xfc00u},
                                         {DType::kE4m3fn, 0xffu, 0xfeu},
                                         {DType::kE4m3fnuz, 0x80u, 0xffu}};
  for (const Pattern& pattern : patterns) {
    INFO(core::to_string(pattern.dtype));
    const core::KernelPlan plan = plan_of(pattern.dtype, DType::kInt64, core::Padding::kZeroOrNegative);
    const std::size_t bytes = core::size_of(pattern.dtype);
    std::vector<std::uint8_t> state(kSlots * kInner * bytes);
    const std::int64_t slots[] = {0, 3, -7};
    Args args = {};
    args.operand[0] = const_cast<std::int64_t*>(slots);
    args.operand[1] = state.data();
    args.stride[1] = kInner;
    args.rows = 3;
    args.slots = kSlots;
    std::uint8_t* const place = state.data() + (3 * kInner + 5) * bytes;
    std::memcpy(place, &pattern.largest, bytes);
    runtime::check_contents(plan, args, runtime::HostReader(), runtime::Moment::kBefore);
    std::memcpy(place, &pattern.nan, bytes);
    const auto thrown =
        thrown_by([&] { runtime::check_contents(plan, args, runtime::HostReader(), runtime::Moment::kBefore); });
    CHECK(thrown.code == Code::kNanInState);
    CHECK(thrown.has("row 1, slot 3, element 5"));
  }
}

}  // namespace
