// The host's cost of a launch without the driver's own: everything from gdn_launch() to the call that would enqueue.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "capi/handles.h"
#include "gdn/gdn.hpp"
#include "layout/resolve.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/specs.h"

namespace {

using namespace gdn;

constexpr int kRows = 64, kSlots = 128;

class IdleKernel final : public runtime::Kernel {
 public:
  explicit IdleKernel(const core::KernelPlan& plan) : Kernel(plan) {}
  bool on_host() const override { return false; }
  runtime::DeviceKind device_kind() const override { return runtime::DeviceKind::kCuda; }
  mutable long launches = 0;

 private:
  void start(const Args& args, runtime::Stream, runtime::Edge) const override { launches += args.rows != 0; }
};

// Microseconds of a call: the best of many batches, since what else the machine does only ever adds.
template <class Call>
double cost_us(const Call& call) {
  double best = 1e9;
  for (int batch = 0; batch < 200; ++batch) {
    constexpr int kCalls = 1000;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call();
    const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
    best = std::min(best, spent.count() / kCalls);
  }
  return best;
}

TEST_CASE("a launch costs the host at most 2.5 us, a prepared one 0.5 us") {
  const core::KernelPlan plan =
      plan::make(layout::resolve(test::released("qwen3_next_80b")), "decode", *plan::find_target("sm_90a")).kernel;
  const auto idle = std::make_shared<const IdleKernel>(plan);
  const gdn_kernel kernel{nullptr, idle};
  std::vector<View> views;
  std::vector<const gdn_view*> handles;
  std::uintptr_t address = std::uintptr_t{1} << 40;  // never dereferenced
  for (const core::Operand& operand : plan.operands) {
    std::vector<std::int64_t> sizes = {operand.inner};
    if (operand.role == core::Role::kSlots) sizes.clear();
    if (operand.leading == core::Leading::kToken) sizes.insert(sizes.begin(), kRows);
    if (operand.leading == core::Leading::kSlot) sizes.insert(sizes.begin(), kSlots);
    views.push_back(View::of(reinterpret_cast<void*>(address), static_cast<gdn_dtype>(operand.dtype), sizes, {},
                             Layout::from_text(operand.layout.text)));
    handles.push_back(views.back().get());
    address += std::uintptr_t{1} << 32;
  }
  bool good = true;
  const double launch = cost_us(
      [&] { good = gdn_launch(&kernel, kRows, kSlots, handles.data(), handles.size(), nullptr) == GDN_OK && good; });
  INFO(gdn_last_error_text());
  REQUIRE(good);
  gdn_prepared* raw = nullptr;
  REQUIRE(gdn_prepare(&kernel, kRows, kSlots, handles.data(), handles.size(), &raw) == GDN_OK);
  const Prepared prepared(raw);
  const double again = cost_us([&] { good = gdn_prepared_launch(raw, kRows, nullptr) == GDN_OK && good; });
  REQUIRE(good);
  CHECK(idle->launches == 2 * 200 * 1000);
  fmt::print("host cost of a launch with {} operands: {:.3f} us; prepared: {:.3f} us\n", plan.operands.size(), launch,
             again);
  CHECK(launch < 2.5);
  CHECK(again < 0.5);
}

}  // namespace
