// The CUDA driver through dlopen: memory, streams, events, graphs, and a kernel that NVRTC compiled.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

#include "check.h"
#include "compile/headers.h"
#include "device/device.h"
#include "kernel.h"
#include "skip.h"
#include "support/catch.h"
#include "support/thrown.h"

namespace {

using namespace gdn;
using namespace gdn::runtime;
using test::no_cuda;
using test::thrown_by;

constexpr int kThreads = 128;
constexpr int kHeads = 2;
constexpr int kInner = kThreads * kHeads;

// out[row][i] += 2 * in[row][i]
Binary doubling_binary(const std::string& target) {
  Source source;
  source.name = "doubling.cu";
  source.text =
      "#include \"gdn/config.h\"\n"
      "GDN_KERNEL(128) doubling(const gdn::Args args) {\n"
      "  const int i = gdn::block_head() * 128 + gdn::thread_id();\n"
      "  const float* in = static_cast<const float*>(args.operand[0]) + gdn::block_row() * args.stride[0];\n"
      "  float* out = static_cast<float*>(args.operand[1]) + gdn::block_row() * args.stride[1];\n"
      "  out[i] += 2 * in[i];\n"
      "}\n";
  source.headers = template_headers();
  return make_nvrtc()->compile(source, target);
}

core::KernelPlan doubling_plan(const std::string& target) {
  core::KernelPlan plan;
  plan.symbol = "doubling";
  plan.target = target;
  plan.launch = {kThreads, kHeads, 0};
  for (const char* name : {"in", "out"}) {
    core::Operand operand;
    operand.name = name;
    operand.role = plan.operands.empty() ? core::Role::kInput : core::Role::kOutput;
    operand.access = plan.operands.empty() ? core::Access::kRead : core::Access::kReadWrite;
    operand.leading = core::Leading::kToken;
    operand.launch_stride = true;
    operand.inner = kInner;
    operand.align = 16;
    operand.layout = core::make_identity("fp32 [token, 256]");
    plan.operands.push_back(operand);
  }
  return plan;
}

View view_of(const Buffer& buffer, int rows, std::int64_t stride) {
  return {buffer.data(), core::DType::kFp32, {rows, kInner}, {stride, 1}, core::make_identity("fp32 [token, 256]")};
}

std::vector<float> floats_in(const Device& device, const Buffer& buffer) {
  std::vector<float> values(buffer.size() / sizeof(float));
  device.copy_out(values.data(), buffer.data(), buffer.size());
  return values;
}

TEST_CASE("a device tells what it is") {
  if (no_cuda()) return;
  const DeviceInfo info = open_cuda().info();
  CHECK(info.api == "cuda");
  CHECK_FALSE(info.name.empty());
  CHECK(info.target.substr(0, 3) == "sm_");
  CHECK(info.processors > 0);
  CHECK(info.wave == 32);
  CHECK(info.memory_bytes > (std::size_t{1} << 30));
  CHECK(info.l2_bytes > 0);
  CHECK(info.driver_version >= 12000);
}

TEST_CASE("memory goes in, is copied and filled, and comes out") {
  if (no_cuda()) return;
  const Device device = open_cuda();
  std::vector<std::uint8_t> values(1 << 20);
  std::iota(values.begin(), values.end(), std::uint8_t{0});
  const Buffer first = device.alloc(values.size()), second = device.alloc(values.size());
  device.copy_in(first.data(), values.data(), values.size());
  const OwnedStream stream = device.stream();
  device.copy(second.data(), first.data(), values.size(), stream.get());
  device.fill(second.data(), 0xAB, 16, stream.get());
  device.synchronize(stream.get());
  std::vector<std::uint8_t> back(values.size());
  device.copy_out(back.data(), second.data(), back.size());
  std::fill(values.begin(), values.begin() + 16, std::uint8_t{0xAB});
  CHECK((back == values));
  CHECK(device.alloc(0).data() == nullptr);
  const auto thrown = thrown_by([&] { device.alloc(std::size_t{1} << 50); });
  CHECK(thrown.code == Code::kOutOfMemory);
  CHECK(thrown.has(std::to_string(std::size_t{1} << 50)));
}

TEST_CASE("a kernel is checked, launched on a stream, and right") {
  if (no_cuda()) return;
  const Device device = open_cuda();
  // sm_90a where the device is an sm_90: the code that needs the very architecture.
  const std::string target = device.info().target == "sm_90" ? "sm_90a" : device.info().target;
  const auto kernel = load_gpu(device, doubling_plan(target), doubling_binary(target));
  CHECK_FALSE(kernel->on_host());
  constexpr int kRows = 5, kStride = kInner + 64;
  std::vector<float> values(kRows * kStride);
  std::iota(values.begin(), values.end(), 0.0f);
  const Buffer in = device.alloc(values.size() * 4), out = device.alloc(values.size() * 4);
  device.copy_in(in.data(), values.data(), in.size());
  device.fill(out.data(), 0, out.size());
  const std::vector<View> views = {view_of(in, kRows, kStride), view_of(out, kRows, kStride)};
  device.synchronize();
  const OwnedStream stream = device.stream();
  kernel->launch(kRows - 1, 0, views, stream.get());  // the last row is not the launch's
  device.synchronize(stream.get());

  const auto wrong = [&](float factor) {
    const std::vector<float> result = floats_in(device, out);
    int count = 0;
    for (int row = 0; row < kRows; ++row) {
      for (int i = 0; i < kStride; ++i) {
        const std::size_t at = static_cast<std::size_t>(row * kStride + i);
        count += result[at] != (row < kRows - 1 && i < kInner ? factor * values[at] : 0.0f);
      }
    }
    return count;
  };
  CHECK(wrong(2) == 0);

  std::vector<View> mistaken = views;
  mistaken[0].layout = core::make_identity("fp32 [256, token]");
  CHECK(thrown_by([&] { kernel->launch(kRows, 0, mistaken); }).code == Code::kLayoutMismatch);
  device.synchronize();
  CHECK(wrong(2) == 0);

  // A graph of three launches, replayed twice, from another thread that never saw the device.
  const Args args = make_args(kernel->plan(), kRows - 1, 0, views);
  std::thread([&] {
    const Graph graph = device.graph([&](Stream recording) {
      for (int i = 0; i < 3; ++i) kernel->launch_prepared(args, recording);
    });
    Event begin = device.event(), end = device.event();
    begin.record(stream.get());
    graph.launch(stream.get());
    graph.launch(stream.get());
    end.record(stream.get());
    CHECK(Event::milliseconds(begin, end) > 0);
  }).join();
  CHECK(wrong(2 + 2 * 6) == 0);
}

TEST_CASE("what a device can't run is refused before it is launched") {
  if (no_cuda()) return;
  const Device device = open_cuda();
  const std::string target = device.info().target;
  const Binary binary = doubling_binary(target);
  const auto older = thrown_by([&] { load_gpu(device, doubling_plan("sm_20"), binary); });
  CHECK(older.code == Code::kUnsupported);
  CHECK(older.has("sm_20"));
  CHECK(older.has(target));
  core::KernelPlan plan = doubling_plan(target);
  plan.symbol = "tripling";
  CHECK(thrown_by([&] { load_gpu(device, plan, binary); }).has("tripling"));
  Binary garbage;
  garbage.bytes.assign(4096, 0x5A);
  CHECK(thrown_by([&] { load_gpu(device, doubling_plan(target), garbage); }).code == Code::kDeviceError);
  garbage.bytes = binary.bytes;
  garbage.bytes.resize(200);
  CHECK(thrown_by([&] { load_gpu(device, doubling_plan(target), garbage); }).code == Code::kDeviceError);
}

}  // namespace
