// The Kernel class: pages, ownership, what generate() refuses, what a listing says and what perf is told.
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <thread>
#include <type_traits>

#include "harness.h"
#include "kernel.h"
#include "support/catch.h"
#include "support/environment.h"

using namespace gdn;

namespace {

layout::Layout fuzz_layout() {
  return layout::resolve(spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml"));
}

core::KernelPlan fuzz_plan(std::string_view operation) {
  return test::plan_of(spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml"), operation);
}

// Lines of /proc/self/maps whose pages can be written and executed.
int writable_and_executable() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string range, rights;
    words >> range >> rights;
    if (rights.size() == 4 && rights[1] == 'w' && rights[2] == 'x') ++count;
  }
  return count;
}

// A caller's parallel_for that is never called.
void none(void*, std::int32_t, void (*)(void* context, std::int32_t part), void*) {}

std::string refusal(const core::KernelPlan& plan) {
  try {
    cpu::generate(plan);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "nothing refused";
}

}  // namespace

TEST_CASE("no page is writable and executable, during generation and after it") {
  const core::KernelPlan plan = fuzz_plan("decode");
  std::atomic<bool> stop{false};
  std::atomic<int> found{0}, looks{0};
  std::thread watcher([&] {
    while (!stop) {
      found += writable_and_executable();
      ++looks;
    }
  });
  while (looks == 0) std::this_thread::yield();
  for (int i = 0; i < 50; ++i) {
    const cpu::Kernel kernel = cpu::generate(plan);
    CHECK(writable_and_executable() == 0);
  }
  stop = true;
  watcher.join();
  CHECK(found == 0);
}

TEST_CASE("perf is told where each kernel of a launch lies, and its parts") {
  if (!test::runs_here()) return;
  const std::string path = "/tmp/perf-" + std::to_string(::getpid()) + ".map";
  std::filesystem::remove(path);
  const core::KernelPlan plan = fuzz_plan("decode");
  std::unique_ptr<runtime::Kernel> kernel;
  {
    const test::Environment on("GDN_PERF_MAP", "1");
    kernel = runtime::load_cpu(plan, {runtime::Threading::Kind::kCaller, 64, 0, none});
  }
  std::ifstream file(path);
  std::map<std::string, std::vector<std::uint8_t>> named;
  std::string name;
  for (std::uintptr_t address = 0, bytes = 0; file >> std::hex >> address >> bytes >> name;) {
    // What lies there is what was generated: code runs from any address.
    const auto* const code = reinterpret_cast<const std::uint8_t*>(address);
    named[name].assign(code, code + bytes);
  }
  std::filesystem::remove(path);
  CHECK(named[plan.symbol] == cpu::generate(plan).code());
  CHECK(named.size() > 1);
  for (const auto& [of, code] : named) {
    INFO(of);
    CHECK(of.rfind(plan.symbol, 0) == 0);
    if (of != plan.symbol) CHECK(code == cpu::generate_parts(plan).code());
  }
}

TEST_CASE("a plan always gives the same bytes and the same listing") {
  for (const std::string_view operation : plan::operations_on(fuzz_layout(), *plan::find_target(test::kCpuTarget))) {
    const cpu::Kernel first = cpu::generate(fuzz_plan(operation));
    const cpu::Kernel second = cpu::generate(fuzz_plan(operation));
    CHECK(first.code() == second.code());
    CHECK(first.listing() == second.listing());
    CHECK(first.function() != second.function());
  }
  CHECK(cpu::generate(fuzz_plan("decode")).code() != cpu::generate(fuzz_plan("delta_update")).code());
}

TEST_CASE("a kernel moves and owns its pages once") {
  static_assert(!std::is_copy_constructible_v<cpu::Kernel> && !std::is_copy_assignable_v<cpu::Kernel>);
  cpu::Kernel kernel = cpu::generate(fuzz_plan("gating"));
  const auto code = kernel.code();
  const auto function = kernel.function();
  cpu::Kernel moved = std::move(kernel);
  CHECK_FALSE(kernel);
  CHECK(kernel.function() == nullptr);
  CHECK(kernel.code().empty());
  CHECK(moved.function() == function);
  cpu::Kernel assigned = cpu::generate(fuzz_plan("unpack"));
  assigned = std::move(moved);
  CHECK(assigned.function() == function);
  CHECK(assigned.code() == code);
}

TEST_CASE("a listing accounts for every byte of the code") {
  for (const std::string_view operation : plan::operations_on(fuzz_layout(), *plan::find_target(test::kCpuTarget))) {
    const cpu::Kernel kernel = cpu::generate(fuzz_plan(operation));
    const std::vector<std::uint8_t> code = kernel.code();
    std::istringstream lines(kernel.listing());
    std::size_t next = 0;
    int instructions = 0;
    for (std::string line; std::getline(lines, line);) {
      if (line.rfind("  ", 0) != 0) continue;  // labels and comments
      std::istringstream words(line);
      std::string offset, hex, mnemonic;
      words >> offset >> hex >> mnemonic;
      const std::size_t begin = std::stoul(offset, nullptr, 16);
      // Between the last instruction and the constants lie zeros.
      for (; next < begin; ++next) CHECK(code.at(next) == 0);
      REQUIRE(next == begin);
      for (std::size_t i = 0; i + 1 < hex.size(); i += 2, ++next) {
        REQUIRE(code.at(next) == std::stoul(hex.substr(i, 2), nullptr, 16));
      }
      CHECK_FALSE(mnemonic.empty());
      ++instructions;
    }
    CHECK(next == code.size());
    CHECK(instructions > 50);
  }
}

TEST_CASE("a listing names instructions, operands, marks and constants") {
  const std::string listing = cpu::generate(fuzz_plan("decode")).listing();
  for (const char* text :
       {"; decode on avx512bf16, heads 2/6, dims 32/48", "\nitem:\n", "\npadded:\n", "prefetcht1 [r9",
        "vmovups [r8 + 64], zmm1", "vrcp14ps zmm", "[rip + f_1]{1toN}", "jb item", "; gated norm"}) {
    INFO(text);
    CHECK(listing.find(text) != std::string::npos);
  }
  CHECK(listing.find("0x7f") == std::string::npos);  // no address of this process
}

TEST_CASE("what can't be generated is refused by name") {
  const auto changed = [](auto change) {
    core::KernelPlan plan = fuzz_plan("decode");
    change(plan);
    return refusal(plan);
  };
  using core::KernelPlan;
  const auto contains = [](const std::string& text, const char* part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  };
  contains(changed([](KernelPlan& p) { p.target = "sm_90a"; }), "the target is sm_90a");
  contains(changed([](KernelPlan& p) { p.operation = "encode"; }), "the operations are decode,");
  contains(changed([](KernelPlan& p) { p.facts.rule = core::Rule::kKda; }), "a has 1 elements a head, 32 are needed");
  contains(changed([](KernelPlan& p) { p.facts.key_dim = 40; }), "a head dimension of 40");
  contains(changed([](KernelPlan& p) { p.facts.value_dim = 272; }), "a head dimension of 272");
  contains(changed([](KernelPlan& p) { p.facts.in_z.operand = -1; }), "no operand for z");
  contains(changed([](KernelPlan& p) { p.facts.state.operand = -1; }), "no operand for state");
  contains(changed([](KernelPlan& p) { p.facts.state.dtype = core::DType::kE4m3fn; }), "state is e4m3fn");
  contains(changed([](KernelPlan& p) { p.facts.in_v.run = 32; }), "v has 32 elements a head, 48 are needed");
  contains(changed([](KernelPlan& p) { p.facts.slots_operand = -1; }), "no operand for slots");
  contains(changed([](KernelPlan& p) { p.facts.group = 4; }), "6 value heads are not 2 key heads times 4");
  contains(changed([](KernelPlan& p) { p.facts.window = 2; }), "a window of 2 rows can't hold 3 inputs");
  contains(changed([](KernelPlan& p) { p.facts.window_q.inner_stride = std::int64_t{1} << 40; }), "beyond what");
}

TEST_CASE("kernels of avx2 have no instruction of a newer processor") {
  for (const std::string& file : test::held_specs()) {
    const spec::Spec spec = spec::load_or_throw(file);
    for (const std::string_view operation : plan::operations_on(layout::resolve(spec), *plan::find_target("avx2"))) {
      std::istringstream lines(cpu::generate(test::plan_of(spec, operation, "avx2")).listing());
      INFO(file << " " << operation);
      for (std::string line; std::getline(lines, line);) {
        if (line.rfind("  ", 0) != 0) continue;
        std::istringstream words(line);
        std::string offset, hex, mnemonic, operands;
        words >> offset >> hex >> mnemonic;
        std::getline(words, operands);
        if (mnemonic == "dword" || mnemonic == "vector") continue;
        // In 64-bit code 62 begins nothing but EVEX, the encoding of all that AVX-512 has of vectors.
        REQUIRE(hex.substr(0, 2) != "62");
        REQUIRE(operands.find("zmm") == std::string::npos);
        REQUIRE(mnemonic.front() != 'k');
      }
    }
  }
}

TEST_CASE("a target is supported where the system lists its instructions, and under its own name only") {
  std::ifstream file("/proc/cpuinfo");
  std::string flags;
  for (std::string line; flags.empty() && std::getline(file, line);) {
    if (line.rfind("flags", 0) == 0) flags = line + " ";
  }
  bool listed = true;
  for (const char* flag : {" fma ", " f16c ", " avx2 "}) listed = listed && flags.find(flag) != std::string::npos;
  CHECK(cpu::cpu_supports("avx2") == listed);
  for (const char* flag : {" avx512f ", " avx512dq ", " avx512bw ", " avx512vl ", " avx512_bf16 "}) {
    listed = listed && flags.find(flag) != std::string::npos;
  }
  CHECK(cpu::cpu_supports("avx512bf16") == listed);
  for (const char* flag : {" amx_tile ", " amx_bf16 "}) listed = listed && flags.find(flag) != std::string::npos;
  // The system may refuse the tiles to a process whose processor has them; it can't grant what is not there.
  if (!listed) CHECK_FALSE(cpu::cpu_supports("amx"));
  CHECK_FALSE(cpu::cpu_supports("sm_90a"));
  CHECK_FALSE(cpu::cpu_supports(""));
}
