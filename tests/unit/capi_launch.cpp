// Launches behind the C interface over a kernel that stands for one on a GPU: what the driver is asked, what is
// allocated, and what a device that is too old is told.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <vector>

#include "capi/handles.h"
#include "capi/kernel_set.h"
#include "device/device.h"
#include "gdn/gdn.hpp"
#include "support/catch.h"

namespace {

// Counts, and fails the allocation of this number.
thread_local long allocations = 0, fail_at = -1, live = 0;

}  // namespace

// Not inlined: the compiler would pair malloc with the library's delete.
__attribute__((noinline)) void* operator new(std::size_t bytes) {
  if (allocations++ == fail_at) throw std::bad_alloc();
  void* const memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  ++live;
  return memory;
}
__attribute__((noinline)) void operator delete(void* memory) noexcept {
  if (memory != nullptr) --live;
  std::free(memory);
}
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }

namespace {

using namespace gdn;
using core::DType;

constexpr int kOperands = 13;

// As many operands as a fused decode takes, each with the text of a true layout's length.
core::KernelPlan plan_of_a_step() {
  core::KernelPlan plan;
  plan.symbol = "gdn_small_decode_sm_90a";
  plan.operation = "decode";
  plan.target = "sm_90a";
  for (int i = 0; i < kOperands; ++i) {
    core::Operand operand;
    operand.name = "operand" + std::to_string(i);
    operand.access = i > 10 ? core::Access::kReadWrite : core::Access::kRead;
    operand.dtype = DType::kBf16;
    operand.leading = core::Leading::kToken;
    operand.launch_stride = true;
    operand.inner = 64;
    operand.align = 16;
    operand.layout = core::make_identity(std::string(150, 'x') + std::to_string(i));
    plan.operands.push_back(operand);
  }
  return plan;
}

class FakeKernel final : public runtime::Kernel {
 public:
  FakeKernel() : Kernel(plan_of_a_step()) {}
  bool on_host() const override { return false; }
  runtime::DeviceKind device_kind() const override { return runtime::DeviceKind::kCuda; }

  mutable int launches = 0, questions = 0;
  mutable Args last = {};
  mutable runtime::Edge last_edge = runtime::Edge::kPlain;
  std::set<const void*> unreachable;

 private:
  void start(const Args& args, runtime::Stream, runtime::Edge edge) const override {
    last = args;
    last_edge = edge;
    ++launches;
  }
  bool reaches(const void* address, std::string& whose) const override {
    ++questions;
    whose = "the CPU";
    return unreachable.count(address) == 0;
  }
};

struct Launch {
  std::shared_ptr<FakeKernel> fake = std::make_shared<FakeKernel>();
  gdn_kernel kernel{nullptr, fake};
  alignas(64) unsigned char memory[kOperands][1024] = {};
  std::vector<View> views;
  std::vector<const gdn_view*> handles;

  Launch() {
    for (int i = 0; i < kOperands; ++i) {
      const Layout layout = Layout::from_text(fake->plan().operands[static_cast<std::size_t>(i)].layout.text);
      views.push_back(View::of(memory[i], GDN_BF16, {4, 64}, {72, 1}, layout));
      handles.push_back(views.back().get());
    }
  }
  gdn_status run(int rows = 4) { return gdn_launch(&kernel, rows, 0, handles.data(), handles.size(), nullptr); }
};

TEST_CASE("a launch asks the driver about an address once, and allocates nothing") {
  Launch launch;
  REQUIRE(launch.run() == GDN_OK);
  CHECK(launch.fake->questions == kOperands);
  const long before = allocations;
  CHECK(launch.run() == GDN_OK);
  CHECK(allocations == before);
  CHECK(launch.fake->questions == kOperands);
  CHECK(launch.fake->launches == 2);
  CHECK(launch.fake->last.stride[3] == 72);

  launch.views[2].set_data(launch.memory[2] + 64);
  launch.views[2].set_leading(3, 64);
  CHECK(launch.run(3) == GDN_OK);
  CHECK(launch.fake->questions == kOperands + 1);
  CHECK(launch.fake->last.operand[2] == launch.memory[2] + 64);
  CHECK(launch.fake->last.stride[2] == 64);
}

TEST_CASE("a host pointer for a GPU kernel launches nothing") {
  Launch launch;
  launch.fake->unreachable.insert(launch.memory[5]);
  CHECK(launch.run() == GDN_WRONG_DEVICE);
  CHECK_THAT(gdn_last_error_text(), Catch::Contains("operand5") && Catch::Contains("memory of the CPU"));
  CHECK(launch.run() == GDN_WRONG_DEVICE);  // and is not believed the second time
  CHECK(launch.fake->launches == 0);
  launch.fake->unreachable.clear();
  launch.views[5].set_device(GDN_DEVICE_CPU);
  CHECK(launch.run() == GDN_WRONG_DEVICE);
  launch.views[5].set_device(GDN_DEVICE_CUDA, 1);
  CHECK(launch.run() == GDN_WRONG_DEVICE);
  CHECK_THAT(gdn_last_error_text(), Catch::Contains("CUDA device 1"));
  launch.views[5].set_device(GDN_DEVICE_CUDA, 0);
  CHECK(launch.run() == GDN_OK);
}

TEST_CASE("a prepared launch compares once and allocates nothing") {
  Launch launch;
  gdn_prepared* raw = nullptr;
  REQUIRE(gdn_prepare(&launch.kernel, 4, 0, launch.handles.data(), launch.handles.size(), &raw) == GDN_OK);
  const Prepared prepared(raw);
  launch.views[0].set_data(nullptr);  // taken at preparation
  const long before = allocations;
  CHECK(gdn_prepared_launch(prepared.get(), 4, nullptr) == GDN_OK);
  CHECK(gdn_prepared_launch(prepared.get(), 1, nullptr) == GDN_OK);
  CHECK(allocations == before);
  CHECK(launch.fake->last.rows == 1);
  CHECK(launch.fake->last.operand[0] == launch.memory[0]);
  for (const int rows : {-1, 5}) CHECK(gdn_prepared_launch(prepared.get(), rows, nullptr) == GDN_BAD_ARGUMENT);
  CHECK(launch.fake->launches == 2);
  CHECK(gdn_prepare(&launch.kernel, 4, 0, launch.handles.data(), launch.handles.size(), &raw) == GDN_BAD_ARGUMENT);
  CHECK(raw == nullptr);
}

TEST_CASE("a warm-up call asks the driver nothing and launches nothing") {
  Launch launch;
  CHECK(gdn_launch(&launch.kernel, 0, 0, nullptr, 0, nullptr) == GDN_OK);
  CHECK(launch.run(0) == GDN_OK);
  launch.handles[3] = nullptr;
  launch.handles.resize(7);
  CHECK(launch.run(0) == GDN_OK);
  CHECK(launch.run(-1) == GDN_BAD_ARGUMENT);

  const Launch whole;
  gdn_prepared* raw = nullptr;
  CHECK(gdn_prepare(&whole.kernel, 0, 0, whole.handles.data(), whole.handles.size(), &raw) == GDN_BAD_ARGUMENT);
  REQUIRE(gdn_prepare(&whole.kernel, 4, 0, whole.handles.data(), whole.handles.size(), &raw) == GDN_OK);
  const Prepared prepared(raw);
  CHECK(gdn_prepared_launch(prepared.get(), 0, nullptr) == GDN_OK);
  CHECK(whole.fake->launches == 0);

  const Layout other = Layout::from_text("bf16 [token@launch, 32]");
  const View wrong = View::of(nullptr, GDN_BF16, {4, 64}, {}, other);
  launch.handles[1] = wrong.get();
  CHECK(launch.run(0) == GDN_LAYOUT_MISMATCH);
  CHECK_THAT(gdn_last_error_text(), Catch::Contains("operand1") && Catch::Contains("[token@launch, 32]"));
  CHECK(launch.fake->launches + launch.fake->questions == 0);
}

TEST_CASE("edges and promises reach the kernel, and only those that are known") {
  Launch launch;
  const auto run = [&](const gdn_launch_options& options) {
    return gdn_launch_with(&launch.kernel, 4, 0, launch.handles.data(), launch.handles.size(), nullptr, &options);
  };
  CHECK(run(programmatic(GDN_PROMISE_POOLS_READY)) == GDN_OK);
  CHECK(launch.fake->last_edge == runtime::Edge::kProgrammatic);
  CHECK(launch.fake->last.promises == kPoolsAreReady);
  CHECK(run(programmatic()) == GDN_OK);
  CHECK(launch.fake->last_edge == runtime::Edge::kProgrammatic);
  CHECK(launch.fake->last.promises == 0);

  gdn_launch_options options = programmatic(GDN_PROMISE_POOLS_READY);
  options.edge = GDN_EDGE_PLAIN;
  CHECK(run(options) == GDN_OK);
  CHECK(launch.fake->last_edge == runtime::Edge::kPlain);
  CHECK(launch.fake->last.promises == 0);
  CHECK(launch.run() == GDN_OK);
  CHECK(launch.fake->last_edge == runtime::Edge::kPlain);

  gdn_prepared* raw = nullptr;
  REQUIRE(gdn_prepare(&launch.kernel, 4, 0, launch.handles.data(), launch.handles.size(), &raw) == GDN_OK);
  const Prepared prepared(raw);
  options = programmatic(GDN_PROMISE_POOLS_READY);
  const long before = allocations;
  CHECK(gdn_prepared_launch_with(prepared.get(), 2, nullptr, &options) == GDN_OK);
  CHECK(allocations == before);
  CHECK(launch.fake->last_edge == runtime::Edge::kProgrammatic);
  CHECK(launch.fake->last.promises == kPoolsAreReady);
  CHECK(gdn_prepared_launch(prepared.get(), 2, nullptr) == GDN_OK);
  CHECK(launch.fake->last.promises == 0);

  const int launches = launch.fake->launches;
  CHECK(run(programmatic(2)) == GDN_BAD_ARGUMENT);
  options.edge = static_cast<gdn_edge>(2);
  CHECK(run(options) == GDN_BAD_ARGUMENT);
  options = {};
  CHECK(run(options) == GDN_OTHER_VERSION);
  CHECK(launch.fake->launches == launches);
}

TEST_CASE("null handles and wrong counts") {
  Launch launch;
  CHECK(gdn_launch(nullptr, 4, 0, launch.handles.data(), launch.handles.size(), nullptr) == GDN_BAD_ARGUMENT);
  CHECK(gdn_launch(&launch.kernel, 4, 0, nullptr, kOperands, nullptr) == GDN_BAD_ARGUMENT);
  CHECK(gdn_launch(&launch.kernel, 4, 0, launch.handles.data(), 2, nullptr) == GDN_BAD_ARGUMENT);
  CHECK(gdn_launch(&launch.kernel, 4, 0, launch.handles.data(), 1000, nullptr) == GDN_BAD_ARGUMENT);
  launch.handles[7] = nullptr;  // left out, and this kernel can't do without it
  CHECK(launch.run() == GDN_BAD_ARGUMENT);
  CHECK_THAT(gdn_last_error_text(), Catch::Contains("operand7"));
  CHECK(launch.fake->launches == 0);
}

// Every allocation of a call fails once: the call says so, leaves nothing behind, and works the next time.
template <class Call, class Undo>
void fail_everywhere(const char* what, const Call& call, const Undo& undo) {
  INFO(what);
  gdn_set_last_error(GDN_OK, std::string(200, ' ').c_str());  // the thread's own text has its memory
  int failures = 0;
  for (long n = 0;; ++n) {
    const long before = live;
    allocations = 0;
    fail_at = n;
    const gdn_status status = call();
    fail_at = -1;
    if (status == GDN_OK) {
      undo();
      break;
    }
    const bool as_it_should = status == GDN_OUT_OF_MEMORY && live == before;
    if (!as_it_should) {
      CHECK(status == GDN_OUT_OF_MEMORY);
      CHECK(live == before);
      return;
    }
    ++failures;
    REQUIRE(n < 100000);
  }
  CHECK(failures > 0);
}

TEST_CASE("every allocation may fail") {
  Launch launch;
  gdn_layout* layout = nullptr;
  const std::string text(100, 'x');
  fail_everywhere(
      "layout", [&] { return gdn_layout_from_text(text.c_str(), &layout); }, [&] { gdn_layout_close(layout); });
  REQUIRE(gdn_layout_from_text(text.c_str(), &layout) == GDN_OK);
  gdn_view* view = nullptr;
  const std::int64_t sizes[] = {4, 64};
  fail_everywhere(
      "view", [&] { return gdn_view_create(launch.memory, GDN_BF16, 2, sizes, nullptr, layout, &view); },
      [&] { gdn_view_close(view); });
  gdn_pool* pool = nullptr;
  fail_everywhere(
      "pool", [&] { return gdn_pool_create(nullptr, GDN_FP32, 2, 64, 0, layout, "cpu", &pool); },
      [&] { gdn_pool_close(pool); });
  gdn_prepared* prepared = nullptr;
  fail_everywhere(
      "prepare",
      [&] { return gdn_prepare(&launch.kernel, 4, 0, launch.handles.data(), launch.handles.size(), &prepared); },
      [&] { gdn_prepared_close(prepared); });
  const std::string plan = core::to_text(plan_of_a_step());
  gdn_kernel_source source = {};
  source.struct_size = sizeof(source);
  source.plan = plan.c_str();
  gdn_set* set = nullptr;
  fail_everywhere("set", [&] { return gdn_set_open_kernels(&source, 1, nullptr, &set); }, [&] { gdn_set_close(set); });
  gdn_layout_close(layout);
}

runtime::Entry entry(const char* target, const char* unavailable = "") {
  runtime::Entry made;
  made.operation = "decode";
  made.target = target;
  made.unavailable = unavailable;
  return made;
}

TEST_CASE("of a set's targets the best that a device runs; a device older than all of them is told so") {
  std::vector<runtime::Entry> entries;
  for (const char* target : {"sm_80", "sm_90a", "gfx942"}) entries.push_back(entry(target));
  const auto chosen = [&](const char* device, std::string* why = nullptr) -> std::string {
    std::string reason;
    const runtime::Entry* best = runtime::choose(
        entries, "decode", std::string("cuda:0 (") + device + ")",
        [&](std::string_view target) { return runtime::runs_on(target, device); }, reason);
    if (why != nullptr) *why = reason;
    return best == nullptr ? "" : best->target;
  };
  CHECK(chosen("sm_80") == "sm_80");
  CHECK(chosen("sm_86") == "sm_80");
  CHECK(chosen("sm_90") == "sm_90a");
  CHECK(chosen("gfx942") == "gfx942");
  std::string why;
  CHECK(chosen("sm_75", &why).empty());
  CHECK_THAT(why, Catch::Contains("sm_80, sm_90a, gfx942") && Catch::Contains("sm_75"));
  entries.push_back(entry("gfx90a", "too little LDS"));
  CHECK(chosen("gfx90a", &why).empty());
  CHECK(why == "too little LDS");
}

TEST_CASE("places") {
  using runtime::parse_place;
  CHECK(to_string(parse_place("cuda")) == "cuda:0");
  CHECK(to_string(parse_place("hip:12")) == "hip:12");
  CHECK(to_string(parse_place("simt")) == "simt:sm_90a");
  CHECK(to_string(parse_place("simt:gfx942")) == "simt:gfx942");
  CHECK(to_string(parse_place("cpu")) == "cpu");
  for (const char* bad :
       {"", "cuda:", "cuda:x", "cuda:-1", "cuda:1234", "simt:avx2", "simt:", "cpu:0", "gpu", "sm_90a"}) {
    CHECK_THROWS_AS(parse_place(bad), runtime::Error);
  }
}

}  // namespace
