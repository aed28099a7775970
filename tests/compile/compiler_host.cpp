// The host's compiler turns a GPU source with the shim's headers into a library that runs it here.
#include "check.h"
#include "compile/elf.h"
#include "compile/headers.h"
#include "kernel.h"
#include "small_kernels.h"
#include "support/catch.h"
#include "support/environment.h"
#include "support/thrown.h"

namespace {

using namespace gdn;
using namespace gdn::runtime;
using test::thrown_by;

constexpr int kThreads = 128;
constexpr int kHeads = 2;

// out[row][head * 128 + thread] = in's element of the thread whose number differs in bit 0, plus the wave's size.
Source exchange_source() {
  Source source;
  source.name = "exchange.cu";
  source.text =
      "#include \"gdn/config.h\"\n"
      "GDN_KERNEL(128) exchange(const gdn::Args args) {\n"
      "  const long long at = gdn::block_row() * args.stride[0] + gdn::block_head() * 128 + gdn::thread_id();\n"
      "  const float* in = static_cast<const float*>(args.operand[0]);\n"
      "  float* out = static_cast<float*>(args.operand[1]);\n"
      "  const float other = gdn::shuffle_xor<1>(in[at]);\n"
      "  gdn::barrier();\n"
      "  out[at] = other + gdn::kWaveSize;\n"
      "}\n";
  source.headers = template_headers();
  source.headers.insert(source.headers.end(), host_headers().begin(), host_headers().end());
  return source;
}

core::KernelPlan exchange_plan(const std::string& target) {
  core::KernelPlan plan;
  plan.symbol = "exchange";
  plan.target = target;
  plan.launch = {kThreads, kHeads, 0};
  for (const char* name : {"in", "out"}) {
    core::Operand operand;
    operand.name = name;
    operand.role = plan.operands.empty() ? core::Role::kInput : core::Role::kOutput;
    operand.access = plan.operands.empty() ? core::Access::kRead : core::Access::kWrite;
    operand.leading = core::Leading::kToken;
    operand.inner = kThreads * kHeads;
    operand.align = 4;
    operand.layout = core::make_identity("fp32 [token, 256]");
    plan.operands.push_back(operand);
  }
  return plan;
}

std::vector<View> views_of(std::vector<float>& in, std::vector<float>& out, int rows) {
  const auto view = [rows](std::vector<float>& buffer) {
    return View{buffer.data(),
                core::DType::kFp32,
                {rows, kThreads * kHeads},
                {kThreads * kHeads, 1},
                core::make_identity("fp32 [token, 256]")};
  };
  return {view(in), view(out)};
}

TEST_CASE("a source runs on the CPU with the wave of its target") {
  const auto compiler = make_host_compiler();
  for (const auto& [target, wave] : {std::pair<const char*, int>{"sm_90a", 32}, {"gfx942", 64}, {"gfx1100", 32}}) {
    INFO(target);
    CHECK(wave_of(target) == wave);
    const Binary binary = compiler->compile(exchange_source(), target);
    CHECK(is_elf(binary.bytes, host_machine()));
    const auto kernel = load_host(exchange_plan(target), binary, 1);
    CHECK(kernel->on_host());
    constexpr int kRows = 3;
    std::vector<float> in(kRows * kThreads * kHeads), out(in.size(), -1.0f);
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
    kernel->launch(kRows, 0, views_of(in, out, kRows));
    int wrong = 0;
    for (std::size_t i = 0; i < in.size(); ++i) wrong += out[i] != static_cast<float>((i ^ 1) + wave);
    CHECK(wrong == 0);

    // A view that disagrees launches nothing.
    std::fill(out.begin(), out.end(), -1.0f);
    std::vector<View> views = views_of(in, out, kRows);
    views[0].layout = core::make_identity("fp32 [256, token]");
    CHECK(thrown_by([&] { kernel->launch(kRows, 0, views); }).code == Code::kLayoutMismatch);
    CHECK(out == std::vector<float>(out.size(), -1.0f));
    kernel->launch_prepared(make_args(kernel->plan(), kRows, 0, views));
    CHECK(out[0] == static_cast<float>(1 + wave));
  }
}

TEST_CASE("a kernel that breaks the shim's rules is an error at its launch") {
  Source source = exchange_source();
  const std::string barrier = "  gdn::barrier();\n";
  source.text.replace(source.text.find(barrier), barrier.size(), "  if (gdn::thread_id() < 5) gdn::barrier();\n");
  const auto kernel = load_host(exchange_plan("sm_90a"), make_host_compiler()->compile(source, "sm_90a"));
  std::vector<float> in(kThreads * kHeads), out(in.size());
  const auto thrown = thrown_by([&] { kernel->launch(1, 0, views_of(in, out, 1)); });
  CHECK(thrown.code == Code::kDeviceError);
  CHECK(thrown.has("exchange"));
  CHECK(thrown.has("barrier"));
}

TEST_CASE("slot indices that the host can read are looked at") {
  core::KernelPlan plan = exchange_plan("sm_90a");
  core::Operand slots;
  slots.name = "slots";
  slots.role = core::Role::kSlots;
  slots.dtype = core::DType::kInt32;
  slots.leading = core::Leading::kToken;
  slots.inner = 1;
  slots.align = 4;
  slots.layout = core::make_identity("int32 [token]");
  plan.operands.push_back(slots);
  plan.facts.slots_operand = 2;
  const auto kernel = load_host(plan, make_host_compiler()->compile(exchange_source(), "sm_90a"));
  std::vector<float> in(kThreads * kHeads), out(in.size());
  std::vector<View> views = views_of(in, out, 1);
  std::int32_t slot = 9;
  views.push_back({&slot, core::DType::kInt32, {1}, {1}, slots.layout});
  CHECK(thrown_by([&] { kernel->launch(1, 4, views); }).code == Code::kSlotOutOfRange);
  slot = 3;
  CHECK_FALSE(thrown_by([&] { kernel->launch(1, 4, views); }).code);
}

TEST_CASE("an error names the file that is wrong and its line") {
  Source source = exchange_source();
  source.text += "int broken = undeclared_thing;\n";
  const auto thrown = thrown_by([&] { make_host_compiler()->compile(source, "sm_80"); });
  CHECK(thrown.code == Code::kCompileFailed);
  CHECK(thrown.has("exchange.cu:10:"));
  CHECK(thrown.has("undeclared_thing"));
  CHECK(thrown_by([&] { make_host_compiler()->compile(source, "avx512bf16"); }).code == Code::kUnsupported);
}

TEST_CASE("what is no library of this kernel is not loaded") {
  Binary binary = make_host_compiler()->compile(exchange_source(), "sm_80");
  core::KernelPlan plan = exchange_plan("sm_80");
  plan.symbol = "another";
  const auto other = thrown_by([&] { load_host(plan, binary); });
  CHECK(other.code == Code::kCompileFailed);
  CHECK(other.has("another"));
  binary.bytes.resize(100);
  CHECK(thrown_by([&] { load_host(exchange_plan("sm_80"), binary); }).code == Code::kCompileFailed);
  binary.bytes.clear();
  CHECK(thrown_by([&] { load_host(exchange_plan("sm_80"), binary); }).code == Code::kCompileFailed);
}

TEST_CASE("a compiler that is missing, hangs or returns garbage is an error") {
  const auto missing = thrown_by([] { make_host_compiler({"g++-nonexistent"}); });
  CHECK(missing.code == Code::kMissingLibrary);
  CHECK(missing.has("g++-nonexistent"));
  CHECK(missing.has("GDN_HOST_CXX"));

  const PrivateDir dir;
  Options options;
  options.time_limit = std::chrono::milliseconds(500);
  const std::string hangs = test::fake_program(dir, "hangs", "sleep 100");
  CHECK(thrown_by([&] { make_host_compiler({hangs})->compile(exchange_source(), "sm_80", options); }).code ==
        Code::kTimedOut);
  const std::string silent = test::fake_program(dir, "silent", "exit 0");
  CHECK(thrown_by([&] { make_host_compiler({silent})->compile(exchange_source(), "sm_80"); }).code ==
        Code::kCompileFailed);
}

}  // namespace
