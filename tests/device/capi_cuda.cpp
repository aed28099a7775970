// The C interface on a GPU: right numbers, refused pointers, checked mode, and what a launch costs the host.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "compile/compiler.h"
#include "compile/headers.h"
#include "device/device.h"
#include "device/gpu_api.h"
#include "emit/source.h"
#include "gdn/jit.hpp"
#include "layout/resolve.h"
#include "oracle/compare.h"
#include "oracle/problem.h"
#include "oracle/reference.h"
#include "plan/plan.h"
#include "skip.h"
#include "support/catch.h"
#include "support/command_line.h"
#include "support/environment.h"
#include "support/specs.h"

namespace {

using gdn::Kernel;
using gdn::Set;
using gdn::View;
using gdn::runtime::Buffer;
using gdn::runtime::Device;
namespace oracle = gdn::oracle;

const std::string kSpec = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml";

// A problem of the oracle whose operands lie on a device.
struct Step {
  Device device;
  oracle::Problem problem;
  std::vector<Buffer> buffers;
  std::vector<View> views;

  Step(Device where, const std::string& spec, int rows, const char* operation = "decode")
      : device(std::move(where)), problem(oracle::make_problem(gdn::test::load_spec(spec), operation, options(rows))) {
    for (oracle::Buffer& buffer : problem.buffers()) {
      std::vector<std::int64_t> sizes, strides;
      if (buffer.leading != oracle::Leading::kNone) {
        sizes.push_back(buffer.rows);
        strides.push_back(buffer.stride);
      }
      const bool indices = buffer.kind == oracle::Kind::kSlots || buffer.kind == oracle::Kind::kIndices;
      if (!indices || buffer.inner > 1) {
        sizes.push_back(buffer.inner);
        strides.push_back(1);
      }
      buffers.push_back(device.alloc(buffer.size_bytes()));
      device.copy_in(buffers.back().data(), buffer.data(), buffer.size_bytes());
      views.push_back(View::of(buffers.back().data(), static_cast<gdn_dtype>(buffer.dtype), sizes, strides,
                               gdn::layout_of_spec(spec, operation, buffer.name)));
    }
  }
  static oracle::Options options(int rows) {
    oracle::Options made;
    made.rows = rows;
    return made;
  }
  // The next step's inputs, over the states that the last one left.
  void next() {
    problem.next_step();
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      device.copy_in(buffers[i].data(), problem.buffers()[i].data(), problem.buffers()[i].size_bytes());
    }
  }
  void fetch() {
    device.synchronize();
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      device.copy_out(problem.buffers()[i].data(), buffers[i].data(), problem.buffers()[i].size_bytes());
    }
  }
  std::size_t index(const std::string& name) const {
    for (std::size_t i = 0; i < problem.buffers().size(); ++i) {
      if (problem.buffers()[i].name == name) return i;
    }
    throw std::out_of_range(name);
  }
  gdn_status launch(const Kernel& kernel) const {
    const gdn::ViewList list(views);
    return gdn_launch(kernel.get(), problem.rows(), problem.slots(), list.data(), list.size(), nullptr);
  }
};

TEST_CASE("a kernel opened from a spec is right on a GPU, launched and prepared") {
  if (gdn::test::no_cuda()) return;
  const Kernel kernel = gdn::open_spec(kSpec).open("decode", "cuda:0");
  for (const bool prepared : {false, true}) {
    Step step(gdn::runtime::open_cuda(), kSpec, 3);
    const oracle::Expectation expectation = oracle::expect(step.problem);
    if (prepared) {
      kernel.prepare(step.problem.rows(), step.problem.slots(), step.views).launch(step.problem.rows());
    } else {
      kernel.launch(step.problem.rows(), step.problem.slots(), step.views);
    }
    step.fetch();
    const auto deviations = oracle::compare(expectation, step.problem);
    INFO(oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));
  }
}

TEST_CASE("a chain of programmatic launches computes what plain ones do, with and without promises") {
  if (gdn::test::no_cuda()) return;
  struct Chained {
    const char *operation, *file;
  };
  for (const Chained& chained : {Chained{"decode", "fuzz_gdn"}, Chained{"decode_spec", "fuzz_spec_slots"},
                                 Chained{"decode_spec", "fuzz_spec_replay"}}) {
    const std::string spec = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + chained.file + ".yaml";
    const Kernel kernel = gdn::open_spec(spec).open(chained.operation, "cuda:0");
    for (const std::uint32_t promises : {0u, static_cast<std::uint32_t>(GDN_PROMISE_POOLS_READY)}) {
      INFO(chained.operation << " of " << chained.file << ", promises " << promises);
      const gdn_launch_options options = gdn::programmatic(promises);
      // Steps with operands of their own: no launch writes what another one reads, so the promise holds for all.
      std::vector<std::unique_ptr<Step>> steps;
      std::vector<oracle::Expectation> expectations;
      for (int i = 0; i < 8; ++i) {
        steps.push_back(std::make_unique<Step>(gdn::runtime::open_cuda(), spec, 3 + i, chained.operation));
        expectations.push_back(oracle::expect(steps.back()->problem));
      }
      kernel.warm_up(steps.front()->views);
      for (const auto& step : steps) {
        kernel.launch(step->problem.rows(), step->problem.slots(), step->views, nullptr, &options);
      }
      for (std::size_t i = 0; i < steps.size(); ++i) {
        steps[i]->fetch();
        const auto deviations = oracle::compare(expectations[i], steps[i]->problem);
        INFO("launch " << i << "\n" << oracle::describe(deviations));
        CHECK(oracle::all_good(deviations));
      }
      // Of one state, step after step: nothing can be promised, and each launch waits for the one before it.
      if (promises != 0) continue;
      Step again(gdn::runtime::open_cuda(), spec, 3, chained.operation);
      for (int i = 0; i < 3; ++i) {
        if (i != 0) again.next();
        const oracle::Expectation expectation = oracle::expect(again.problem);
        kernel.launch(again.problem.rows(), again.problem.slots(), again.views, nullptr, &options);
        again.fetch();
        CHECK(oracle::all_good(oracle::compare(expectation, again.problem)));
      }
    }
  }
}

TEST_CASE("a kernel built ahead into a bundle is right on a GPU, with no compiler allowed") {
  if (gdn::test::no_cuda()) return;
  const gdn::test::TemporaryFolder folder;
  const std::string bundle = (folder.path() / "fuzz.gdnb").string();
  const auto built = gdn::test::CommandLine::run(
      {GDN_PROGRAM, "build", kSpec, "--target", "sm_80,sm_90a", "--operation", "decode", "--bundle", bundle});
  INFO(built.output);
  REQUIRE(built.status == 0);
  const gdn::test::Environment no_compiler("GDN_JIT", "off");
  const gdn::test::Environment no_nvrtc("GDN_NVRTC", "/nonexistent/libnvrtc.so");
  const Kernel kernel = Set::open_bundle(bundle).open("decode", "cuda:0");
  Step step(gdn::runtime::open_cuda(), kSpec, 3);
  const oracle::Expectation expectation = oracle::expect(step.problem);
  kernel.launch(step.problem.rows(), step.problem.slots(), step.views);
  step.fetch();
  const auto deviations = oracle::compare(expectation, step.problem);
  INFO(oracle::describe(deviations));
  CHECK(oracle::all_good(deviations));
}

TEST_CASE("host memory is refused on a GPU; pinned and managed memory would not be") {
  if (gdn::test::no_cuda()) return;
  const Kernel kernel = gdn::open_spec(kSpec).open("decode", "cuda:0");
  Step step(gdn::runtime::open_cuda(), kSpec, 3);
  const std::size_t at = step.index("ba");
  std::vector<std::uint8_t> host(step.problem.buffers()[at].size_bytes() + 64);
  auto address = reinterpret_cast<std::uintptr_t>(host.data());
  address += (64 - address % 64) % 64;
  step.views[at].set_data(reinterpret_cast<void*>(address));
  CHECK(step.launch(kernel) == GDN_WRONG_DEVICE);
  CHECK_THAT(gdn_last_error_text(), Catch::Contains("operand ba") && Catch::Contains("memory of the CPU"));
  step.views[at].set_data(step.buffers[at].data());
  CHECK(step.launch(kernel) == GDN_OK);
  step.device.synchronize();
}

TEST_CASE("checked mode on a GPU: slots and NaN, read back through the driver") {
  if (gdn::test::no_cuda()) return;
  const gdn::test::Environment on("GDN_CHECK", "1");
  const Kernel kernel = gdn::open_spec(kSpec).open("decode", "cuda:0");
  Step good(gdn::runtime::open_cuda(), kSpec, 3);
  CHECK(good.launch(kernel) == GDN_OK);

  Step repeated(gdn::runtime::open_cuda(), kSpec, 3);
  const std::int32_t slots[] = {1, 2, 1};
  repeated.device.copy_in(repeated.buffers[repeated.index("slots")].data(), slots, sizeof(slots));
  CHECK(repeated.launch(kernel) == GDN_SLOT_REPEATED);
  CHECK_THAT(gdn_last_error_text(), Catch::Contains("rows 0 and 2"));

  Step spoiled(gdn::runtime::open_cuda(), kSpec, 3);
  const std::size_t at = spoiled.index("state");
  const oracle::Buffer& state = spoiled.problem.buffers()[at];
  const auto slot = spoiled.problem.row_slot(2);
  const std::size_t bytes = gdn_dtype_bytes(static_cast<gdn_dtype>(state.dtype));
  spoiled.device.fill(
      static_cast<std::uint8_t*>(spoiled.buffers[at].data()) + static_cast<std::size_t>(slot * state.stride) * bytes,
      0xff, bytes);
  spoiled.device.synchronize();
  CHECK(spoiled.launch(kernel) == GDN_NAN_IN_STATE);
  CHECK_THAT(gdn_last_error_text(), Catch::Contains(fmt::format("row 2, slot {}, element 0", slot)));
}

TEST_CASE("a pool on a GPU is zeroed and probed there") {
  if (gdn::test::no_cuda()) return;
  const Device device = gdn::runtime::open_cuda();
  const gdn::Layout layout = gdn::layout_of_spec(kSpec, "decode", "state");
  const gdn::Pool pool = gdn::Pool::allocate(GDN_FP32, 4, 1024, layout, "cuda:0");
  std::vector<float> back(4 * 1024, 1.0f);
  device.copy_out(back.data(), pool.data(), back.size() * 4);
  CHECK(back == std::vector<float>(back.size(), 0.0f));
  gdn_pool* huge = nullptr;
  CHECK(gdn_pool_create(nullptr, GDN_FP32, 1 << 20, 1 << 30, 0, layout.get(), "cuda:0", &huge) == GDN_OUT_OF_MEMORY);
}

// Microseconds that the host spends on a launch: the best of many short batches, each waited for, so that the queue is
// never full.
template <class Call>
double host_us(const Device& device, const Call& call) {
  double best = 1e9;
  for (int batch = 0; batch < 300; ++batch) {
    constexpr int kCalls = 64;
    device.synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call();
    const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
    best = std::min(best, spent.count() / kCalls);
  }
  device.synchronize();
  return best;
}

TEST_CASE("the host's cost of a launch above a bare cuLaunchKernel") {
  if (gdn::test::no_cuda()) return;
  const Device device = gdn::runtime::open_cuda();
  const std::string target = device.runs("sm_90a") ? "sm_90a" : "sm_80";
  const gdn::plan::Planned planned =
      gdn::plan::make(gdn::layout::resolve(gdn::test::load_spec(kSpec)), "decode", *gdn::plan::find_target(target));
  const gdn::emit::EmittedFile file = gdn::emit::source(planned);
  const gdn::runtime::Binary binary =
      gdn::runtime::make_nvrtc()->compile({file.path, file.text, gdn::runtime::template_headers()}, target);
  const std::string plan = gdn::core::to_text(planned.kernel);
  gdn_kernel_source source = {};
  source.struct_size = sizeof(source);
  source.plan = plan.c_str();
  source.binary = binary.bytes.data();
  source.binary_bytes = binary.bytes.size();
  const Kernel kernel = Set::open_kernels({source}).open("decode", "cuda:0");
  const Step step(device, kSpec, 3);
  const gdn::ViewList list(step.views);
  const int rows = step.problem.rows(), slots = step.problem.slots();
  const gdn::Prepared prepared = kernel.prepare(rows, slots, step.views);

  const auto module = device.load(binary.bytes);
  void* const function = module->function(planned.kernel.symbol);
  gdn::Args args = {};
  for (std::size_t i = 0; i < step.buffers.size(); ++i) {
    args.operand[i] = step.buffers[i].data();
    args.stride[i] = step.problem.buffers()[i].stride;
  }
  args.rows = rows;
  args.slots = slots;
  void* parameters[] = {&args};
  const gdn::core::LaunchRule& rule = planned.kernel.launch;
  const gdn::runtime::CurrentDevice current(*device.api());
  const auto& call = device.api()->call();
  const double bare = host_us(device, [&] {
    call.launch(function, static_cast<unsigned>(rows), static_cast<unsigned>(rule.blocks_per_row), 1,
                static_cast<unsigned>(rule.threads), 1, 1, static_cast<unsigned>(rule.shared_bytes), nullptr,
                parameters, nullptr);
  });
  bool good = true;
  const double launch = host_us(device, [&] {
    good = gdn_launch(kernel.get(), rows, slots, list.data(), list.size(), nullptr) == GDN_OK && good;
  });
  const double again =
      host_us(device, [&] { good = gdn_prepared_launch(prepared.get(), rows, nullptr) == GDN_OK && good; });
  CHECK(good);
  fmt::print("host cost of a launch: bare cuLaunchKernel {:.2f} us, gdn_launch {:+.2f} us, prepared {:+.2f} us\n", bare,
             launch - bare, again - bare);
  CHECK(launch - bare < 2.5);
  CHECK(again - bare < 0.5);
}

}  // namespace
